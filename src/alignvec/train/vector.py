"""From a recipe to a vector: train its sides, subtract the base, combine them."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from alignvec import processes
from alignvec.data.pairs import parse_order
from alignvec.files import held
from alignvec.provenance import versions
from alignvec.train.config import TrainConfig
from alignvec.train.dpo import train_side
from alignvec.vectors.algebra import hinged, two_sided
from alignvec.vectors.extract import extract
from alignvec.vectors.store import save_vector
from alignvec.vectors.vector import AlignmentVector


def train_vector(config: TrainConfig, out: Path, *, dtype: torch.dtype | None = None) -> Path:
    """Train what the recipe names and write the vector to `out/vector`; returns that folder.

    `out/positive` and `out/negative` keep the runs. Killed at any point, the same call goes on.

    Args:
        dtype: storage dtype of the vector; default: as trained.

    Raises:
        AlignvecError: see `held`, `train_side` and `extract`.
    """
    with held(out) if processes.is_main() else nullcontext():
        trained = {side: train_side(config, side, out / side) for side in config.orders()}
        processes.on_main(lambda: _save(config, trained, out / "vector", dtype))
    return out / "vector"


def end_settings(config: TrainConfig) -> dict[str, float]:
    """λ of each level that training fixes: the ends at the trained models; one level between them at the base.

    With a goal none: at λ = 1 each domain has its own.
    """
    if config.goal:
        return {}
    order = parse_order(config.order)
    ends = [(order.ranks[0], 1.0)]
    if config.form == "hinged":
        ends.append((parse_order(config.orders()["negative"]).ranks[0], -1.0))
    settings = {rank[0]: value for rank, value in ends if len(rank) == 1}  # a tie is no trained level
    between = [level for level in order.levels if level not in settings]
    if len(settings) == 2 and len(between) == 1:
        settings[between[0]] = 0.0
    return dict(sorted(settings.items(), key=lambda item: item[1]))


def combine(config: TrainConfig, one_sided: dict[str, AlignmentVector]) -> AlignmentVector:
    """The vector of the recipe's form from its one-sided vectors."""
    positive = one_sided["positive"]
    if config.form == "one-sided":
        return positive
    make = hinged if config.form == "hinged" else two_sided
    vector = make(positive, one_sided["negative"])
    recipe = {**_recorded(config), "orders": config.orders()}
    return AlignmentVector(vector.card.model_copy(update={"recipe": recipe}), vector.positive, vector.negative)


def _save(config: TrainConfig, trained: Mapping[str, Path], out: Path, dtype: torch.dtype | None) -> None:
    one_sided = {
        side: extract(
            config.base,
            str(trained[side]),
            name=config.name,
            domain=None if config.goal else config.domain or config.name,
            levels=() if config.goal else tuple(reversed(parse_order(config.order).levels)),
            licence=config.licence,
            settings=end_settings(config),
            recipe={**_recorded(config), "side": side, "order": order},
            versions=versions(),
        )
        for side, order in config.orders().items()
    }
    save_vector(combine(config, one_sided), out, dtype=dtype)


def _recorded(config: TrainConfig) -> dict[str, Any]:
    """The recipe as a card keeps it: files by what they hold, not by where they are."""
    left_out = {"data", "domain", "keep", "start", *(["order"] if config.goal else ["goal"])}
    return config.model_dump(mode="json", exclude=left_out) | config.source_hashes()
