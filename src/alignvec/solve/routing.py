"""Training a router, and how often it is right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel as Record
from pydantic import ConfigDict, ValidationError

from alignvec.errors import DataError
from alignvec.models import BaseModel
from alignvec.steer.router import Array, Router, RouterCard, layer_features, sigmoid
from alignvec.vectors.fingerprint import fingerprint

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse penalties of the regression to choose from."""


SHIPPED = Path(__file__).resolve().parents[3] / "data" / "routing"
"""Folder of the prompts outside all domains, and of those in several."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, and the domains whose business it is; none for one outside."""

    text: str
    domains: frozenset[str]


class RouterReport(Record):
    """How a router does on some prompts.

    Attributes:
        prompts: their number.
        right: share whose domains are all found and no other (a probability of at least 0.5 counts as found).
        recall: domain to the share of its prompts that is found.
        false_alarms: domain to the share of prompts that are not its, and are taken for it.
        brier: mean squared error of the probabilities.
        calibration_error: expected calibration error over ten equal bins.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: int
    right: float
    recall: dict[str, float]
    false_alarms: dict[str, float]
    brier: float
    calibration_error: float


class _Line(Record):
    model_config = ConfigDict(extra="ignore", frozen=True)

    query: str
    split: Literal["train", "validation", "test"] = "test"
    domains: tuple[str, ...] = ()


def load_prompts(path: Path, split: str | None = None) -> list[Prompt]:
    """Prompts of a JSON-lines file of `query` with `domains` (none: outside all) and, if it is split, `split`.

    Raises:
        DataError: if the file cannot be read, a line is malformed, or nothing is left.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}; check the path") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            read = _Line.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise DataError(f"{path}:{number}: {where}: {first['msg']}; mend the line") from None
        if split in (None, read.split):
            found.append(Prompt(read.query, frozenset(read.domains)))
    if not found:
        raise DataError(f"{path}: no prompts{f' with split={split}' if split else ''}; choose another file")
    return found


def train_router(
    base: BaseModel,
    domains: Sequence[str],
    train: Sequence[Prompt],
    validation: Sequence[Prompt],
    *,
    layers: Sequence[int],
    seed: int = 0,
) -> tuple[Router, dict[str, Any]]:
    """Fit one logistic regression a domain; layer, penalty and temperature are chosen on the validation prompts.

    To the training prompts are added joined ones: two of different domains, one after the other, which belong to both.

    Args:
        base: the base model.
        domains: to tell apart.
        train: prompts to learn from, some outside all domains.
        validation: other prompts.
        layers: of the model, to choose from.
        seed: of the joining.

    Raises:
        DataError: if a domain, or the outside, has no prompt in one of the two.
    """
    for name, prompts in (("training", train), ("validation", validation)):
        for domain in domains:
            if not any(domain in prompt.domains for prompt in prompts):
                raise DataError(f"no {name} prompt belongs to {domain}; add some")
        if all(prompt.domains for prompt in prompts):
            raise DataError(f"every {name} prompt belongs to a domain; add some that belong to none")
    known = [*train, *joined(train, len(train) // 4, seed)]
    checked = [*validation, *joined(validation, len(validation) // 4, seed)]
    seen, held = (layer_features(base, [p.text for p in prompts], layers) for prompts in (known, checked))
    truth, wanted = labels(known, domains), labels(checked, domains)
    found = []
    for place, layer in enumerate(layers):
        for strength in STRENGTHS:
            weight, bias = _fit(seen[place], truth, strength)
            loss = log_loss(sigmoid(held[place] @ weight.T + bias), wanted)
            found.append((loss, place, layer, strength, weight, bias))
    loss, place, layer, strength, weight, bias = min(found, key=lambda one: one[:4])
    scale = min(
        np.geomspace(0.25, 4.0, 41), key=lambda t: log_loss(sigmoid(t * (held[place] @ weight.T + bias)), wanted)
    )
    card = RouterCard(base=fingerprint(base.folder), domains=tuple(domains), layer=layer)
    chosen = {"layer": layer, "strength": strength, "scale": float(scale), "validation_log_loss": loss}
    return Router(card, weight * scale, bias * scale), chosen


def joined(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """Pairs of prompts of different domains, one after the other."""
    draw = np.random.default_rng(seed)
    single = [prompt for prompt in prompts if len(prompt.domains) == 1]
    found: list[Prompt] = []
    while len(found) < count and len({prompt.domains for prompt in single}) > 1:
        one, other = (single[i] for i in draw.integers(len(single), size=2))
        if one.domains != other.domains:
            found.append(Prompt(f"{one.text} {other.text}", one.domains | other.domains))
    return found


def labels(prompts: Sequence[Prompt], domains: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which prompt belongs to which domain, [prompts, domains]."""
    return np.array([[domain in prompt.domains for domain in domains] for prompt in prompts])


def report(probabilities: Array, prompts: Sequence[Prompt], domains: Sequence[str]) -> RouterReport:
    """Figures on labelled prompts."""
    truth = labels(prompts, domains)
    said = probabilities >= 0.5
    return RouterReport(
        prompts=len(prompts),
        right=float((said == truth).all(axis=1).mean()),
        recall={d: float(said[truth[:, i], i].mean()) for i, d in enumerate(domains) if truth[:, i].any()},
        false_alarms={d: float(said[~truth[:, i], i].mean()) for i, d in enumerate(domains) if not truth[:, i].all()},
        brier=float(np.mean((probabilities - truth) ** 2)),
        calibration_error=_calibration_error(probabilities.ravel(), truth.ravel()),
    )


def log_loss(probabilities: Array, truth: npt.NDArray[np.bool_]) -> float:
    """Mean negative log-likelihood of the labels, nats."""
    right = np.where(truth, probabilities, 1.0 - probabilities)
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def _fit(features: Array, truth: npt.NDArray[np.bool_], strength: float) -> tuple[Array, Array]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    scaled = scaler.transform(features)
    weights, biases = [], []
    for column in truth.T:
        fitted = LogisticRegression(C=strength, max_iter=5000).fit(scaled, column)
        weight = fitted.coef_[0] / scaler.scale_
        weights.append(weight)
        biases.append(float(fitted.intercept_[0]) - float(weight @ scaler.mean_))
    return np.array(weights), np.array(biases)


def _calibration_error(probabilities: Array, truth: npt.NDArray[np.bool_]) -> float:
    bins = np.minimum((probabilities * 10).astype(int), 9)
    gaps = [
        abs(probabilities[bins == b].mean() - truth[bins == b].mean()) * (bins == b).mean()
        for b in range(10)
        if (bins == b).any()
    ]
    return float(sum(gaps))
