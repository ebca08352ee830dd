"""Inner products, norms and cosines of vectors against their entries in float64."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignvec.errors import VectorError
from alignvec.vectors import compare as module
from alignvec.vectors.algebra import hinged, renamed
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.compare import Comparison, compare, gram, inner
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.deltafile import open_deltas, write_deltas
from alignvec.vectors.packed import to_signs, to_sparse
from alignvec.vectors.vector import AlignmentVector

FORMS = ("low", "wide", "dense", "half", "sparse", "signs", "stored")
BASE = BaseReference(name="tiny", fingerprint="a" * 64, template="b" * 64)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def low(seed: int, *, rank: int = 3, out: int = 9, inside: int = 13) -> LowRankDelta:
    return LowRankDelta(randn(rank, inside, seed=seed), randn(out, rank, seed=seed + 50))


def delta(form: str, folder: Path, seed: int = 0) -> Delta:
    value = randn(9, 13, seed=seed)
    if form == "stored":
        written = write_deltas(folder / f"{seed}", {"w": DenseDelta(value)})
        return open_deltas(folder / f"{seed}", written.hashes)["w"].scaled(-0.5)
    made: dict[str, Delta] = {
        "low": low(seed),
        "wide": low(seed, rank=20),
        "dense": DenseDelta(value),
        "half": DenseDelta(value.bfloat16()),
        "sparse": to_sparse(value, value.abs() > 0.8),
        "signs": to_signs(value),
    }
    return made[form]


def entries(delta: Delta) -> np.ndarray:
    if isinstance(delta, LowRankDelta):
        return (delta.b.double() @ delta.a.double()).numpy().reshape(-1)
    return delta.dense().double().numpy().reshape(-1)


def vector(positive: dict[str, Delta], name: str = "medical", **card: Any) -> AlignmentVector:
    fields: dict[str, Any] = {"method": "one-sided", "base": BASE, **card}
    return AlignmentVector(Card(name=name, form="single", **fields), positive)


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
@pytest.mark.parametrize(("first", "second"), list(product(FORMS, FORMS)))
def test_the_inner_product_is_the_sum_of_products_of_entries(
    first: str, second: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    one, two = delta(first, tmp_path, seed=1), delta(second, tmp_path, seed=2)
    scale = np.linalg.norm(entries(one)) * np.linalg.norm(entries(two))
    assert inner(one, two) == pytest.approx(entries(one) @ entries(two), rel=1e-9, abs=1e-6 * scale)
    assert inner(one, two) == pytest.approx(inner(two, one), rel=1e-12)


@pytest.mark.parametrize("form", ["low", "dense", "stored"])
def test_the_inner_product_with_itself_is_the_squared_norm(form: str, tmp_path: Path) -> None:
    one = delta(form, tmp_path)
    assert inner(one, one) == pytest.approx(np.linalg.norm(entries(one)) ** 2, rel=1e-12)


def test_all_forms_at_once_give_every_pair(tmp_path: Path) -> None:
    deltas = [delta(form, tmp_path, seed=i) for i, form in enumerate(FORMS)]
    flat = np.stack([entries(d) for d in deltas])
    np.testing.assert_allclose(gram(deltas).numpy(), flat @ flat.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (1,), (11,), (3, 4, 5), (0, 4), (4, 0)])
def test_any_shape_has_an_inner_product(shape: tuple[int, ...]) -> None:
    one, two = DenseDelta(randn(*shape)), DenseDelta(randn(*shape, seed=1))
    assert inner(one, two) == pytest.approx((one.value.double() * two.value.double()).sum().item(), rel=1e-12)


def test_products_are_summed_in_float64() -> None:
    one, tiny = DenseDelta(torch.tensor([1e4, 1.0])), DenseDelta(torch.tensor([1e4, 1e-4]))
    assert inner(one, tiny) == 1e8 + float(np.float32(1e-4))
    unlike = LowRankDelta(torch.tensor([[1e4, 0.0], [0.0, 1e-3]]), torch.tensor([[1.0, 1.0]]))
    assert inner(unlike, unlike) == pytest.approx(1e8 + float(np.float32(1e-3)) ** 2, rel=1e-16)


def test_low_rank_vectors_are_compared_without_forming_their_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LowRankDelta, "rows", lambda *_: pytest.fail("the product was formed"))
    found = compare([vector({"layers.0.w": low(0)}), vector({"layers.0.w": low(1)}, "legal")])
    one, two = entries(low(0)), entries(low(1))
    assert found.total.cosines[0][1] == pytest.approx(one @ two / np.linalg.norm(one) / np.linalg.norm(two), rel=1e-9)


class Counted(DenseDelta):
    """A dense delta that knows how much of it was asked for."""

    asked = 0

    def stream(self, step: int) -> Iterator[torch.Tensor]:
        for block in super().stream(step):
            Counted.asked += block.numel()
            yield block


def test_every_dense_delta_is_read_once_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 30)
    monkeypatch.setattr(Counted, "asked", 0)
    compare([vector({"w.x": Counted(randn(9, 13, seed=i))}, f"v{i}") for i in range(4)] + [vector({"w.x": low(0)})])
    assert Counted.asked == 4 * 9 * 13


NAMES = [
    *(f"model.layers.{i}.{leaf}.weight" for i in (0, 2, 10) for leaf in ("mlp.up", "attn.q")),
    "model.embed_tokens.weight",
]


def three(tmp_path: Path) -> list[AlignmentVector]:
    """A hinged low-rank vector, a dense one, and one that changes some tensors alone and a norm that none else has."""
    one = vector({name: low(i) for i, name in enumerate(NAMES)})
    other = vector({name: low(i + 20) for i, name in enumerate(NAMES)})
    dense = vector({name: delta("stored", tmp_path, seed=i + 30) for i, name in enumerate(NAMES)}, "legal")
    some = {name: delta("sparse", tmp_path, seed=i + 10) for i, name in enumerate(NAMES[2:5])}
    return [hinged(one, other), dense, vector({**some, "model.norm.weight": DenseDelta(randn(13))}, "safety")]


def test_norms_and_cosines_are_those_of_all_entries_in_a_row(tmp_path: Path) -> None:
    vectors = three(tmp_path)
    found = compare(vectors)
    assert found.labels == ("medical+", "medical-", "legal", "safety")
    assert list(found.layers) == ["0", "2", "10", "embed_tokens", "norm"]
    assert vectors[0].negative is not None
    sides = [vectors[0].positive, vectors[0].negative, vectors[1].positive, vectors[2].positive]
    names = [*NAMES, "model.norm.weight"]
    groups = {layer: [n for n in names if f".{layer}." in n] for layer in found.layers}
    for expected_of, similarity in ((names, found.total), *((groups[k], v) for k, v in found.layers.items())):
        flat = np.stack(
            [
                np.concatenate(
                    [entries(s[n]) if n in s else np.zeros(13 if "norm" in n else 9 * 13) for n in expected_of]
                )
                for s in sides
            ]
        )
        norms = np.linalg.norm(flat, axis=1)
        np.testing.assert_allclose(similarity.norms, norms, rtol=1e-6)
        for i, j in product(range(4), range(4)):
            cosine = similarity.cosines[i][j]
            if norms[i] and norms[j]:
                assert cosine == pytest.approx(flat[i] @ flat[j] / norms[i] / norms[j], abs=1e-6)
            else:
                assert cosine is None
    assert found.layers["0"].cosines[0][3] is None
    assert found.layers["norm"].norms[:3] == (0.0, 0.0, 0.0)
    assert found.layers["norm"].cosines[3] == (None, None, None, 1.0)


def test_parallel_opposite_and_orthogonal_vectors() -> None:
    a, b = torch.eye(4)[:1], torch.eye(4)[1:2]
    column = torch.tensor([[1.0], [2.0]])
    found = compare(
        [
            vector({"w.x": LowRankDelta(a, column)}, "one"),
            vector({"w.x": LowRankDelta(a, 3 * column)}, "three"),
            vector({"w.x": LowRankDelta(a, -column)}, "minus"),
            vector({"w.x": LowRankDelta(b, column)}, "across"),
            vector({"w.x": DenseDelta(column @ b * 2)}, "dense"),
        ]
    ).total
    assert found.norms == pytest.approx([math.sqrt(5) * n for n in (1, 3, 1, 1, 2)])
    expected = [[1, 1, -1, 0, 0], [1, 1, -1, 0, 0], [-1, -1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]
    np.testing.assert_allclose(np.array(found.cosines, dtype=float), expected, rtol=0, atol=1e-12)
    assert all(abs(value or 0) <= 1 for row in found.cosines for value in row)


def test_a_difference_that_cancels_has_no_direction() -> None:
    one, order = low(0, rank=8, out=90, inside=130), torch.randperm(8, generator=torch.Generator().manual_seed(0))
    same = LowRankDelta(one.a[order] * 4, one.b[:, order] / 4)  # exactly the same weight
    u, again, v = vector({"w.x": one}), vector({"w.x": same}), vector({"w.x": low(1, out=90, inside=130)}, "legal")
    found = compare([u - again, v, v - v])
    assert found.total.norms[0] == found.total.norms[2] == 0.0
    assert found.total.cosines == ((None, None, None), (None, 1.0, None), (None, None, None))


def test_a_name_that_stands_twice_is_told_apart() -> None:
    single, both = vector({"w.x": low(0)}), hinged(vector({"w.x": low(1)}), vector({"w.x": low(2)}))
    assert compare([single, both, renamed(single, "legal"), single]).labels == (
        "medical",
        "medical#2+",
        "medical#2-",
        "legal",
        "medical#3",
    )


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.12.mlp.up_proj.weight", "12"),
        ("transformer.h.3.attn.c_attn.bias", "3"),
        ("model.layers.4.mlp.experts.7.w1.weight", "4"),
        ("model.embed_tokens.weight", "embed_tokens"),
        ("model.norm.weight", "norm"),
        ("lm_head.weight", "lm_head"),
        ("scale", "scale"),
    ],
)
def test_tensors_are_grouped_by_layer_or_module(name: str, layer: str) -> None:
    pair = [vector({name: DenseDelta(randn(3, seed=i))}, f"v{i}") for i in range(2)]
    assert list(compare(pair).layers) == [layer]


def test_a_comparison_is_json_and_back(tmp_path: Path) -> None:
    found = compare(three(tmp_path))
    assert Comparison.model_validate_json(found.model_dump_json()) == found


def test_vectors_for_different_bases_are_compared_on_purpose_only() -> None:
    one, two = vector({"w.x": low(0)}), vector({"w.x": low(1)}, "legal")
    other = replace(two, card=two.card.model_copy(update={"base": BASE.model_copy(update={"fingerprint": "f" * 64})}))
    with pytest.raises(
        VectorError, match=r"'medical' and 'legal' .* different bases .*a{12}.*f{12}.*--allow-other-base"
    ):
        compare([one, other])
    assert compare([one, other], allow_other_base=True) == compare([one, two])


def test_one_side_alone_has_nothing_to_be_compared_with() -> None:
    single = vector({"w.x": low(0)})
    with pytest.raises(VectorError, match=r"two vectors, or a hinged one for its two sides, but only 'medical' was"):
        compare([single])
    with pytest.raises(VectorError, match="but none were given"):
        compare([])
    assert compare([hinged(single, single)]).labels == ("medical+", "medical-")


def test_a_tensor_of_another_shape_in_each_is_named() -> None:
    with pytest.raises(VectorError, match=r"w.x has shape \[9, 13\] in one vector and \[9, 14\] in another"):
        compare([vector({"w.x": low(0)}), vector({"w.x": low(0, inside=14)}, "legal")])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_named(value: float) -> None:
    broken = DenseDelta(torch.tensor([1.0, value]))
    with pytest.raises(VectorError, match=r"w.x has values that are not finite"):
        compare([vector({"w.x": broken}), vector({"w.x": DenseDelta(torch.ones(2))}, "legal")])


@pytest.mark.parametrize("which", [0, 1])
def test_an_altered_file_is_found_whichever_vector_it_belongs_to(tmp_path: Path, which: int) -> None:
    stored = [delta("stored", tmp_path, seed=i) for i in range(2)]
    content = bytearray((tmp_path / f"{which}").read_bytes())
    content[-1] ^= 1
    (tmp_path / f"{which}").write_bytes(content)
    with pytest.raises(VectorError, match=r"tensor w is damaged"):
        compare([vector({"w": stored[0]}), vector({"w": stored[1]}, "legal")])


def test_rounding_makes_no_cosine_larger_than_one() -> None:
    """The two are parallel, and the plain quotient of their products is 1 + 2e-16."""
    draw = torch.Generator().manual_seed(17)
    a, b = torch.randn(1, 5, generator=draw), torch.randn(6, 1, generator=draw)
    deltas = [LowRankDelta(a, b), LowRankDelta(a * 3, b), LowRankDelta(a * -3, b)]
    products = gram(deltas)
    assert (products / torch.outer(products.diagonal(), products.diagonal()).sqrt())[0, 1] > 1
    found = compare([vector({"w.x": delta}, f"v{i}") for i, delta in enumerate(deltas)]).total.cosines
    assert found[0][1:] == (1.0, -1.0)
