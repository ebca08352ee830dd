"""Taking out what vectors share, against the same done on all entries in float64."""

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from alignvec.errors import ConfigError, VectorError
from alignvec.vectors.card import UNMEASURED, BaseReference, Card, Measurement, Source
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.disentangle import Direction, disentangle
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.vector import AlignmentVector, Deltas

BASE = BaseReference(name="tiny", fingerprint="a" * 64, template="b" * 64)
SHAPES = {"model.layers.0.mlp.up_proj.weight": (14, 11), "model.layers.1.mlp.up_proj.weight": (9, 12)}
MEASURED = Measurement(data="d", queries=1, generation={}, judge="", curve=())
WIDE = 64
"""More rank than any sum here has, so that nothing is cut."""


def vector(name: str, seed: int, *, hinged: bool = False, dense: bool = False, **card: Any) -> AlignmentVector:
    """A random vector of rank 2 with a part that all of them have."""
    generator = torch.Generator().manual_seed(seed)

    def side() -> dict[str, Delta]:
        found: dict[str, Delta] = {}
        for key, (out, inside) in SHAPES.items():
            a, b = torch.randn(2, inside, generator=generator), torch.randn(out, 2, generator=generator)
            low = LowRankDelta(a + 0.7 * torch.ones(2, inside), b + 0.7 * torch.ones(out, 2))
            found[key] = DenseDelta(low.dense()) if dense else low
        return found

    form = "hinged" if hinged else "single"
    fields: dict[str, Any] = {"name": name, "form": form, "method": "one-sided", "base": BASE, **card}
    return AlignmentVector(Card(**fields), side(), side() if hinged else None)


def three(**how: Any) -> list[AlignmentVector]:
    return [vector(name, seed, **how) for seed, name in enumerate(("medical", "legal", "financial"))]


def entries(deltas: Deltas, names: tuple[str, ...] = tuple(SHAPES)) -> npt.NDArray[np.float64]:
    """All entries of the named tensors, one after the other; zeros for a tensor that does not change."""
    parts = []
    for name in names:
        delta = deltas.get(name)
        if isinstance(delta, LowRankDelta):
            parts.append((delta.b.double() @ delta.a.double()).numpy().ravel())
        else:
            parts.append(delta.dense().double().numpy().ravel() if delta else np.zeros(np.prod(SHAPES[name])))
    return np.concatenate(parts)


def less_shared(rows: npt.NDArray[np.float64], strength: float, by: str) -> npt.NDArray[np.float64]:
    """The definition: every row less its projection on the rows' mean or first right singular vector."""
    direction = rows.mean(axis=0) if by == "mean" else np.linalg.svd(rows, full_matrices=False)[2][0]
    direction = direction / np.linalg.norm(direction)
    return rows - strength * np.outer(rows @ direction, direction)


def assert_close(found: npt.NDArray[np.float64], expected: npt.NDArray[np.float64], error: float = 1e-5) -> None:
    assert np.linalg.norm(found - expected) <= error * np.linalg.norm(expected)


@pytest.mark.parametrize("dense", [False, True], ids=["low-rank", "dense"])
@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("by", ["mean", "singular"])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_it_is_the_projection_taken_from_all_entries(
    by: Direction, strength: float, per_tensor: bool, dense: bool
) -> None:
    vectors = three(dense=dense)
    made = disentangle(vectors, strength, by=by, per_tensor=per_tensor, rank=WIDE)
    for names in [(name,) for name in SHAPES] if per_tensor else [tuple(SHAPES)]:
        expected = less_shared(np.array([entries(v.positive, names) for v in vectors]), strength, by)
        assert_close(np.array([entries(v.positive, names) for v in made]), expected)
    assert all(isinstance(d, DenseDelta) == dense for v in made for d in v.positive.values())
    assert all("rank_cut" not in v.card.error for v in made)


@pytest.mark.parametrize("by", ["mean", "singular"])
def test_without_strength_the_deltas_are_the_same(by: Direction) -> None:
    vectors = three(hinged=True)
    for before, after in zip(vectors, disentangle(vectors, 0.0, by=by), strict=True):
        assert after.positive == before.positive and after.negative == before.negative
        assert after.name == before.name and after.card.error == {}


@pytest.mark.parametrize("by", ["mean", "singular"])
def test_at_full_strength_nothing_is_left_along_the_shared_direction(by: Direction) -> None:
    vectors = three()
    rows = np.array([entries(v.positive) for v in vectors])
    shared = rows.mean(axis=0) if by == "mean" else np.linalg.svd(rows)[2][0]
    for before, after in zip(rows, disentangle(vectors, 1.0, by=by, rank=WIDE), strict=True):
        left = entries(after.positive)
        scale = np.linalg.norm(shared) * np.linalg.norm(before)
        assert abs(left @ shared) < 1e-6 * scale
        assert abs(before @ shared) > 0.1 * scale


@pytest.mark.parametrize("by", ["mean", "singular"])
def test_the_order_of_the_vectors_does_not_matter(by: Direction) -> None:
    vectors = three(hinged=True)
    expected = {v.name: v for v in disentangle(vectors, 0.6, by=by, rank=WIDE)}
    for order in permutations(vectors):
        for made in disentangle(order, 0.6, by=by, rank=WIDE):
            same = expected[made.name]
            assert made.negative and same.negative
            assert_close(entries(made.positive), entries(same.positive))
            assert_close(entries(made.negative), entries(same.negative))


def test_a_hinged_vectors_sides_are_taken_with_the_others_same_sides() -> None:
    vectors = three(hinged=True)
    made = disentangle(vectors, 0.5, rank=WIDE)
    for part in (0, 1):
        rows = np.array([entries(v.parts[part].deltas) for v in vectors])
        assert_close(np.array([entries(v.parts[part].deltas) for v in made]), less_shared(rows, 0.5, "mean"))


def test_a_tensor_that_a_vector_leaves_alone_is_zero_in_it() -> None:
    one, other = vector("one", 0), vector("other", 1)
    missing = list(SHAPES)[1]
    one = AlignmentVector(one.card, {name: delta for name, delta in one.positive.items() if name != missing})
    rows = np.array([entries(v.positive) for v in (one, other)])
    made = disentangle([one, other], 1.0, rank=WIDE)
    assert missing in made[0].positive
    assert_close(np.array([entries(v.positive) for v in made]), less_shared(rows, 1.0, "mean"))


@pytest.mark.parametrize("rank", [None, 1, 3])
def test_sums_are_cut_to_a_rank_and_the_card_says_what_that_costs(rank: int | None) -> None:
    vectors = three()
    exact = disentangle(vectors, 0.8, rank=WIDE)
    for whole, cut in zip(exact, disentangle(vectors, 0.8, rank=rank), strict=True):
        kept = rank or 2
        assert cut.card.recipe["kept_rank"] == kept
        best = 0.0
        for name, delta in cut.positive.items():
            assert isinstance(delta, LowRankDelta) and delta.rank == kept
            values = np.linalg.svd(whole.positive[name].dense().double().numpy(), compute_uv=False)
            best += float((values[kept:] ** 2).sum())
        reached = np.linalg.norm(entries(cut.positive) - entries(whole.positive))
        assert reached == pytest.approx(best**0.5, rel=1e-2)
        assert cut.card.error["rank_cut"] == pytest.approx(reached / np.linalg.norm(entries(whole.positive)), rel=1e-3)


def test_the_card_says_what_was_done_and_forgets_what_was_measured() -> None:
    one = vector(
        "one", 0, measured=MEASURED, recipe={"seed": 7, "rank": 8}, licence="A", settings={"expert": 1.0}, notes="mine"
    )
    other = vector("other", 1, licence="B", error={"compression": 0.2}, files={"x": "y"})
    first, second = (v.card for v in disentangle([one, other], 0.25, by="singular"))
    how = {"of": ["one", "other"], "by": "singular", "strength": 0.25, "per_tensor": False, "kept_rank": 2}
    assert first.recipe == {"seed": 7, "rank": 8, **how} and second.recipe == how
    assert (first.method, first.settings) == ("disentangled", {"expert": 1.0})
    assert first.model_dump(include=set(UNMEASURED)) == UNMEASURED
    assert (first.licence, second.licence, second.files) == ("A AND B", "A AND B", {})
    assert first.notes == "mine; less 0.25 of what one, other share (singular)"
    assert first.error["compression"] == 0.2


def test_vectors_that_cancel_share_nothing() -> None:
    one, zero = vector("one", 0), {"w": LowRankDelta(torch.zeros(1, 4), torch.zeros(3, 1))}
    pair = [one, AlignmentVector(one.card.model_copy(update={"name": "back"}), (-one).positive)]
    rows = np.array([entries(v.positive) for v in pair])
    assert_close(np.array([entries(v.positive) for v in disentangle(pair, 1.0, rank=WIDE)]), rows)
    nothing = [AlignmentVector(v.card, zero) for v in pair]
    for made in disentangle(nothing, 1.0, per_tensor=True):
        assert not made.positive["w"].dense().any()


def test_dense_deltas_on_disk_are_summed_when_they_are_written(tmp_path: Path) -> None:
    vectors = three(dense=True)
    for v in vectors:
        save_vector(v, tmp_path / v.name)
    lazy = [load_vector(tmp_path / v.name, lazy=True) for v in vectors]
    rows = np.array([entries(v.positive) for v in vectors])
    for made in disentangle(lazy, 0.5):
        save_vector(made, tmp_path / "out" / made.name)
    stored = [load_vector(tmp_path / "out" / v.name) for v in vectors]
    assert_close(np.array([entries(v.positive) for v in stored]), less_shared(rows, 0.5, "mean"))


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ([], "two or more"),
        ([vector("other", 1, hinged=True)], "'one' is single and 'other' is hinged"),
        (
            [vector("other", 1, base=BASE.model_copy(update={"fingerprint": "c"}))],
            "'one' and 'other' .* different bases",
        ),
        ([vector("other", 1), vector("one", 2)], "two vectors are named 'one'"),
        ([vector("one", 1)], "two vectors are named 'one'"),
    ],
)
def test_vectors_that_do_not_go_together_are_refused(others: list[AlignmentVector], told: str) -> None:
    with pytest.raises(VectorError, match=told):
        disentangle([vector("one", 0), *others], 0.5)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_that_is_no_share_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        disentangle(three(), strength)


def test_all_that_was_said_of_the_vectors_is_said_of_the_results_and_the_mean_is_the_default() -> None:
    source = Source(grid="bfloat16", zero_share=0.5, delta_ulp=2.0, left_out=["x"])
    one = vector("one", 0, source=source, files={"a": "b"}, tensors={"a": {}})
    for made in disentangle([one, vector("other", 1)], 0.5):
        assert (made.card.source, made.card.files, made.card.tensors) == (source, {}, {})
        assert (made.card.recipe["by"], made.card.recipe["per_tensor"]) == ("mean", False)


def test_a_vector_without_factors_of_its_own_keeps_the_others_whole() -> None:
    norm: dict[str, Delta] = {"model.norm.weight": DenseDelta(torch.ones(5))}
    one, other = AlignmentVector(vector("one", 0).card, norm), vector("other", 1)
    made, _ = disentangle([one, other], 1.0)
    low = [delta for delta in made.positive.values() if isinstance(delta, LowRankDelta)]
    assert [delta.rank for delta in low] == [2, 2] and "rank_cut" not in made.card.error


@pytest.mark.parametrize("known", [0.0, 0.9])
def test_the_worst_cut_of_a_vectors_making_stays_on_its_card(known: float) -> None:
    pair = [vector("one", 0, error={"rank_cut": known}), vector("other", 1)]
    cut = disentangle(pair, 0.8, rank=1)[0].card.error["rank_cut"]
    assert cut == 0.9 if known else 0 < cut < 0.9


def test_a_tensor_of_another_shape_in_each_is_named() -> None:
    one, other = vector("one", 0), vector("other", 1)
    name = next(iter(SHAPES))
    changed = AlignmentVector(other.card, {**other.positive, name: DenseDelta(torch.ones(2, 2))})
    with pytest.raises(VectorError, match=rf"{name} has shape \[14, 11\] in one vector and \[2, 2\]"):
        disentangle([one, changed], 0.5)
