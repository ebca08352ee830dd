"""A vector in words: every form by its own name, and errors by what they are."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignvec.vectors.calibration import Spillover, SpilloverPoint
from alignvec.vectors.card import UNMEASURED
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.describe import describe
from alignvec.vectors.model_card import model_card
from alignvec.vectors.packed import to_signs, to_sparse
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.strict import Interval
from tests.conftest import MakeVector


def forms() -> dict[str, Delta]:
    value = torch.arange(1.0, 33).view(8, 4)
    low: dict[str, Delta] = {f"low{r}.weight": LowRankDelta(torch.ones(r, 4), torch.ones(8, r)) for r in (1, 3)}
    sparse: dict[str, Delta] = {f"sparse{i}.weight": to_sparse(value, value > 20) for i in range(4)}
    signs: dict[str, Delta] = {f"sign{i}.weight": to_signs(value) for i in range(3)}
    return {**low, **sparse, **signs, "dense.weight": DenseDelta(value)}


@pytest.mark.parametrize("lazy", [False, True])
def test_every_form_has_its_name(make_vector: MakeVector, tmp_path: Path, lazy: bool) -> None:
    save_vector(replace(make_vector(hinged=False), positive=forms()), tmp_path / "v")
    lines = describe(load_vector(tmp_path / "v", lazy=lazy)).splitlines()
    assert "  tensors   2 low-rank (rank 1-3), 1 dense, 4 sparse, 3 sign" in lines


def test_forms_that_are_not_there_are_not_named(make_vector: MakeVector) -> None:
    vector = replace(make_vector(hinged=False), positive={"w": to_signs(torch.ones(2, 3))})
    assert "  tensors   1 sign" in describe(vector).splitlines()


def test_errors_are_told_as_what_they_are(make_vector: MakeVector) -> None:
    vector = make_vector()
    error = {"compression": 0.25, "storage_rounding": 2e-4}
    lines = describe(replace(vector, card=vector.card.model_copy(update={"error": error}))).splitlines()
    assert "  compression: relative error over all tensors 2.5e-01" in lines
    assert "  storage rounding: relative error of a tensor at most 2.0e-04" in lines


def test_spillover_and_usable_range_are_told_where_they_are_known(make_vector: MakeVector) -> None:
    vector = make_vector("medical")
    rate = Interval(value=0.25, low=0.1, high=0.4)
    points = [
        SpilloverPoint(coefficient=value, domain=domain, preference=rate, perplexity=rate)
        for value in (-1.0, 1.0)
        for domain in ("medical", "legal", "general")
    ]
    known = vector.card.model_copy(update={"spillover": Spillover(data="d", points=points)})
    told = [line for line in describe(replace(vector, card=known)).splitlines() if "spillover" in line]
    assert told == [
        f"  spillover λ = {value}: preference rates move by 25 points in legal, 25 points in general"
        for value in (-1, 1)
    ]
    assert "Spillover at λ = -1: preference rates move by 25 points in legal" in model_card(known)
    assert "spillover" not in describe(vector) and "other domains is not known" in model_card(vector.card)
    assert known.model_copy(update=UNMEASURED).spillover is None
