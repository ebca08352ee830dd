"""Training a router, and how often it is right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel as Record
from pydantic import ConfigDict

from alignvec.data.lines import numbered_lines, parse_line
from alignvec.errors import DataError
from alignvec.models import BaseModel
from alignvec.shipped import ROOT
from alignvec.steer.router import Array, Router, RouterCard, acting, joined_layers, layer_features, sigmoid
from alignvec.vectors.fingerprint import fingerprint

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse penalties of the regression to choose from."""
RAMPS = ((0.0, 1.0), (0.3, 0.7), (0.2, 0.5), (0.1, 0.5), (0.1, 0.3), (0.05, 0.3), (0.05, 0.2))
"""Ramps to choose from; the first is plain multiplication by the probability."""
FOUND = 0.5
"""Probability from which a report counts a domain as found."""
TOGETHER = 4
"""Layers whose averages are also tried one after the other."""

SHIPPED = ROOT / "data" / "routing"
"""Folder of prompts outside all domains, of short ones, and of those in several."""
FURTHER = tuple(SHIPPED / f"{name}.jsonl" for name in ("outside", "short", "several"))
"""Prompts that a router is trained on beside the domains' queries."""


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
        acts: domain to the share of its knob that acts on its own prompts, after the ramp.
        leaks: domain to the share of its knob that acts on other prompts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: int
    right: float
    recall: dict[str, float]
    false_alarms: dict[str, float]
    brier: float
    calibration_error: float
    acts: dict[str, float]
    leaks: dict[str, float]


class _Line(Record):
    model_config = ConfigDict(extra="ignore", frozen=True)

    query: str
    split: Literal["train", "validation", "test"] = "test"
    domain: str | None = None
    domains: tuple[str, ...] = ()


def load_prompts(path: Path, split: str | None = None, *, needed: bool = True) -> list[Prompt]:
    """Prompts of a JSON-lines file of `query`, `domains` or `domain` (none: outside all) and, if split, `split`.

    Args:
        path: the file.
        split: of the prompts; None for all.
        needed: whether there must be some.

    Raises:
        DataError: if the file cannot be read, a line is malformed, or nothing is left and something is needed.
    """
    lines = (parse_line(path, number, line, _Line) for number, line in numbered_lines(path, "check the path"))
    found = [
        Prompt(line.query, frozenset([*line.domains, *([line.domain] if line.domain else [])]))
        for line in lines
        if split in (None, line.split)
    ]
    if needed and not found:
        raise DataError(f"{path}: no prompts{f' with split={split}' if split else ''}; choose another file")
    return found


def train_router(
    base: BaseModel,
    domains: Sequence[str],
    train: Sequence[Prompt],
    validation: Sequence[Prompt],
    *,
    layers: Sequence[int] | None = None,
) -> tuple[Router, dict[str, Any]]:
    """Fit one logistic regression a domain; layers, penalty, temperature and ramp are chosen on the validation prompts.

    Layers are tried alone and some of them together. The ramp is the one that leaves most of each knob on its domain's
    prompts and least on others, both counted alike.

    Args:
        base: the base model.
        domains: to tell apart.
        train: prompts to learn from, some outside all domains; a router finds several domains in a prompt, or one in a
            short question, only if it has seen such prompts.
        validation: other prompts.
        layers: of the model, to choose from; default: every third.

    Raises:
        DataError: if a domain, or the outside, has no prompt in one of the two.
    """
    for name, prompts in (("training", train), ("validation", validation)):
        for domain in domains:
            if not any(domain in prompt.domains for prompt in prompts):
                raise DataError(f"no {name} prompt belongs to {domain}; add some")
        if all(prompt.domains & set(domains) for prompt in prompts):
            raise DataError(f"every {name} prompt belongs to a domain; add some that belong to none")
    if layers is None:
        deepest = base.model.config.num_hidden_layers
        layers = list(range(3, deepest + 1, 3)) or [deepest]
    seen, held = (layer_features(base, [p.text for p in prompts], layers) for prompts in (train, validation))
    truth, wanted = labels(train, domains), labels(validation, domains)
    found = []
    for chosen in _groups(layers):
        places = [layers.index(layer) for layer in chosen]
        x, checks = joined_layers(seen[places]), joined_layers(held[places])
        for strength in STRENGTHS:
            weight, bias = _fit(x, truth, strength)
            logits = checks @ weight.T + bias
            found.append((log_loss(sigmoid(logits), wanted), chosen, strength, weight, bias, logits))
    loss, chosen, strength, weight, bias, logits = min(found, key=lambda one: one[:3])
    scale = float(min(np.geomspace(0.25, 4.0, 41), key=lambda t: log_loss(sigmoid(t * logits), wanted)))
    probabilities = sigmoid(scale * logits)
    ramp = min(RAMPS, key=lambda r: _misplaced(acting(probabilities, r), wanted))
    card = RouterCard(base=fingerprint(base.folder), domains=tuple(domains), layers=chosen, ramp=ramp)
    told = {"layers": chosen, "strength": strength, "scale": scale, "validation_log_loss": loss, "ramp": ramp}
    return Router(card, weight * scale, bias * scale), told


def _groups(layers: Sequence[int]) -> list[tuple[int, ...]]:
    together = [tuple(layers[i : i + TOGETHER]) for i in range(len(layers) - TOGETHER + 1)]
    return [*((layer,) for layer in layers), *together]


def _misplaced(shares: Array, truth: npt.NDArray[np.bool_]) -> float:
    """What is missing of the knobs on their own prompts, and what acts on others, each as a mean over domains."""
    own = [1.0 - shares[truth[:, i], i].mean() for i in range(shares.shape[1])]
    other = [shares[~truth[:, i], i].mean() for i in range(shares.shape[1])]
    return float(np.mean(own) + np.mean(other))


def labels(prompts: Sequence[Prompt], domains: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which prompt belongs to which domain, [prompts, domains]."""
    return np.array([[domain in prompt.domains for domain in domains] for prompt in prompts])


def report(router: Router, probabilities: Array, prompts: Sequence[Prompt]) -> RouterReport:
    """Figures on labelled prompts."""
    domains = router.card.domains
    truth = labels(prompts, domains)
    said, shares = probabilities >= FOUND, acting(probabilities, router.card.ramp)
    return RouterReport(
        prompts=len(prompts),
        right=float((said == truth).all(axis=1).mean()),
        recall={d: float(said[truth[:, i], i].mean()) for i, d in enumerate(domains) if truth[:, i].any()},
        false_alarms={d: float(said[~truth[:, i], i].mean()) for i, d in enumerate(domains) if not truth[:, i].all()},
        brier=float(np.mean((probabilities - truth) ** 2)),
        calibration_error=_calibration_error(probabilities.ravel(), truth.ravel()),
        acts={d: float(shares[truth[:, i], i].mean()) for i, d in enumerate(domains) if truth[:, i].any()},
        leaks={d: float(shares[~truth[:, i], i].mean()) for i, d in enumerate(domains) if not truth[:, i].all()},
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
