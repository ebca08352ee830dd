"""Whole vectors in every form: what stays dense, the card's error, sides, seed, and the way to disk and back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import save_file

from alignvec.errors import VectorError
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.compress import compress, dense_bytes, parse_form, stored_bytes
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.packed import SignDelta, SparseDelta
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.stored import DifferenceDelta
from alignvec.vectors.tensorfile import Reader, read_header
from alignvec.vectors.vector import AlignmentVector

BASE = BaseReference(name="tiny", fingerprint="a" * 64, template="b" * 64)
EVERY = ["rank=3", "size=1/4", "energy=0.9", "topk=0.1", "dare=0.75", "sign", "dense"]


def made(positive: dict[str, Delta], negative: dict[str, Delta] | None = None) -> AlignmentVector:
    form: Any = "single" if negative is None else "hinged"
    return AlignmentVector(Card(name="medical", form=form, method="m", base=BASE), positive, negative)


def mixed(seed: int = 0) -> dict[str, Delta]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "model.embed_tokens.weight": DenseDelta(torch.randn(40, 24, generator=draw)),
        "model.layers.0.mlp.up_proj.weight": DenseDelta(torch.randn(48, 24, generator=draw)),
        "model.layers.0.mlp.down_proj.weight": LowRankDelta(
            torch.randn(6, 48, generator=draw), torch.randn(24, 6, generator=draw)
        ),
        "model.layers.0.mlp.up_proj.bias": DenseDelta(torch.randn(48, generator=draw)),
        "model.layers.0.experts": DenseDelta(torch.randn(3, 8, 5, generator=draw)),
        "model.norm.weight": DenseDelta(torch.randn(24, generator=draw)),
        "model.scale": DenseDelta(torch.randn((), generator=draw)),
    }


@pytest.mark.parametrize("form", EVERY)
def test_norms_biases_scalars_and_stacks_of_matrices_stay_dense_in_sixteen_bits(form: str) -> None:
    vector = made(mixed())
    small = compress(vector, parse_form(form)).positive
    kinds = {"sign": SignDelta, "topk=0.1": SparseDelta, "dare=0.75": SparseDelta, "dense": DenseDelta}
    for name, delta in vector.positive.items():
        if len(delta.shape) == 2:
            assert isinstance(small[name], kinds.get(form, LowRankDelta)), name
        else:
            kept = small[name]
            assert isinstance(kept, DenseDelta)
            assert torch.equal(kept.value, delta.dense().bfloat16()), name
            assert kept.nbytes == 2 * delta.shape.numel()


@pytest.mark.parametrize("form", EVERY)
@pytest.mark.parametrize("svd", ["exact", "randomised"])
def test_the_cards_error_is_that_of_all_tensors_of_both_sides(form: str, svd: Any) -> None:
    vector = made(mixed(0), mixed(1))
    steps: list[int] = []
    small = compress(vector, parse_form(form), svd=svd, seed=5, advance=steps.append)
    error = total = 0.0
    for before, after in ((vector.positive, small.positive), (vector.negative or {}, small.negative or {})):
        assert before.keys() == after.keys()
        for name, delta in before.items():
            exact = delta.dense().double().numpy()
            error += float(((after[name].dense().double().numpy() - exact) ** 2).sum())
            total += float((exact**2).sum())
    assert small.card.error["compression"] == pytest.approx((error / total) ** 0.5, rel=1e-5)
    assert 0 < small.card.error["compression"] < 2
    assert sum(steps) == 14
    assert small.card.notes == f"compressed to {parse_form(form)}"


def test_a_hinged_vectors_sides_are_compressed_each_by_itself() -> None:
    vector = made(mixed(0), mixed(1))
    small = compress(vector, parse_form("rank=2"), svd="exact")
    assert small.negative is not None
    for deltas, seed in ((small.positive, 0), (small.negative, 1)):
        alone = compress(made(mixed(seed)), parse_form("rank=2"), svd="exact")
        assert all(torch.equal(delta.dense(), alone.positive[name].dense()) for name, delta in deltas.items())


@pytest.mark.parametrize("form", ["rank=2", "dare=0.5"])
def test_the_same_seed_gives_the_same_vector_and_another_one_another(form: str) -> None:
    vector = made({"a.weight": DenseDelta(torch.randn(60, 80)), "b.weight": DenseDelta(torch.randn(60, 80))})
    first, again, other = (compress(vector, parse_form(form), seed=seed).positive for seed in (1, 1, 2))
    assert all(torch.equal(first[n].dense(), again[n].dense()) for n in first)
    assert not any(torch.equal(first[n].dense(), other[n].dense()) for n in first)


@pytest.mark.parametrize("form", ["rank=2", "dare=0.5"])
def test_a_tensors_draw_depends_on_its_name_and_a_seed_of_any_size(form: str) -> None:
    value = {name: DenseDelta(torch.randn(60, 80)) for name in ("a.weight", "b.weight")}
    for seed in (0, 2**63, -(2**64)):
        both, one = (
            compress(made(deltas), parse_form(form), seed=seed) for deltas in (value, {"b.weight": value["b.weight"]})
        )
        assert torch.equal(both.positive["b.weight"].dense(), one.positive["b.weight"].dense())
    twins = compress(made(dict.fromkeys(value, value["a.weight"])), parse_form("dare=0.5")).positive
    assert not torch.equal(twins["a.weight"].dense(), twins["b.weight"].dense())


@pytest.mark.parametrize("derive", [lambda v: v, lambda v: 2.0 * v, lambda v: v + v])
def test_a_compressed_vector_is_not_compressed_again(derive: Any) -> None:
    small = derive(compress(made(mixed()), parse_form("rank=4")))
    with pytest.raises(VectorError, match=r"'medical' is compressed already.*; compress the original"):
        compress(small, parse_form("rank=3"))


@pytest.mark.parametrize("form", EVERY)
def test_a_vector_of_zeros_has_no_error(form: str) -> None:
    small = compress(made({"w.weight": DenseDelta(torch.zeros(30, 90))}), parse_form(form))
    assert small.card.error["compression"] == 0.0


def sizes(folder: Path) -> int:
    """Bytes of the tensors in a folder's files, as safetensors describes them."""
    total = 0
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(file.get_tensor(key).nbytes for key in file.keys())  # noqa: SIM118 (no mapping)
    return total


@pytest.mark.parametrize("form", EVERY)
def test_every_form_comes_back_from_disk_as_it_was_and_takes_the_bytes_it_states(form: str, tmp_path: Path) -> None:
    small = compress(made(mixed(0), mixed(1)), parse_form(form))
    save_vector(small, tmp_path / "v")
    assert sizes(tmp_path / "v") == stored_bytes(small)
    for lazy in (False, True):
        back = load_vector(tmp_path / "v", lazy=lazy)
        assert back.card.error == small.card.error
        for before, after in zip(_sides(small), _sides(back), strict=True):
            assert before.keys() == after.keys()
            for name, delta in before.items():
                assert torch.equal(after[name].dense(), delta.dense()), name
    assert dense_bytes(back) == dense_bytes(small) == 2 * 2 * sum(d.shape.numel() for d in mixed().values())


def _sides(vector: AlignmentVector) -> Sequence[Any]:
    return [vector.positive, vector.negative]


@pytest.mark.parametrize("form", EVERY)
def test_a_difference_on_disk_gives_the_same_as_in_memory(form: str, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (40, 70), "b.weight": (70, 40), "norm.weight": (40,)}
    before, after = ({n: torch.randn(s, generator=draw) for n, s in shapes.items()} for _ in range(2))
    save_file(before, tmp_path / "before.safetensors")
    save_file(after, tmp_path / "after.safetensors")
    reader = Reader()
    old, new = ({e.name: e for e in read_header(tmp_path / f"{x}.safetensors")[0]} for x in ("before", "after"))
    lazy = made({n: DifferenceDelta((reader, old[n]), (reader, new[n])) for n in shapes})
    dense = made({n: DenseDelta(after[n] - before[n]) for n in shapes})
    small, same = (compress(vector, parse_form(form), seed=3) for vector in (lazy, dense))
    assert all(torch.equal(small.positive[n].dense(), same.positive[n].dense()) for n in shapes)
    assert small.card.error == same.card.error
    assert stored_bytes(small) == stored_bytes(same)


def test_what_is_dropped_follows_from_seed_and_name_for_good() -> None:
    """A compression that somebody wrote down can be made again, by another version of this package too."""
    value = torch.arange(1.0, 4801).view(60, 80)
    for seed in (0, 7):
        draw = torch.Generator().manual_seed(xxhash.xxh64_intdigest(f"{seed} w".encode()) >> 1)
        kept = torch.rand(60, 80, generator=draw) >= 0.5
        found = compress(made({"w": DenseDelta(value)}), parse_form("dare=0.5"), **({"seed": seed} if seed else {}))
        assert torch.equal(found.positive["w"].dense() != 0, kept)


def test_an_original_error_is_kept_beside_the_compressions() -> None:
    vector = made(mixed(), mixed(1))
    card = vector.card.model_copy(
        update={"error": {"storage_rounding": 0.5}, "notes": "mine", "files": {"x": "y"}, "tensors": {"x": {}}}
    )
    small = compress(AlignmentVector(card, vector.positive, vector.negative), parse_form("sign")).card
    assert small.error.keys() == {"storage_rounding", "compression"} and small.error["storage_rounding"] == 0.5
    assert (small.notes, small.files, small.tensors) == ("mine; compressed to sign", {}, {})
