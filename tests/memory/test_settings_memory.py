"""What many settings take, against what is really stacked, composed and merged."""

from pathlib import Path

import pytest

from alignvec.engines.stack import stack_parts
from alignvec.memory.settings import held_settings
from alignvec.memory.shape import shape_of
from alignvec.merge.export import compose
from tests.conftest import MakeVector


def test_bytes_are_those_of_the_stacked_and_the_composed_adapters(make_vector: MakeVector) -> None:
    vectors = [make_vector(name, rank=2, seed=i) for i, name in enumerate(("medical", "legal", "financial"))]
    shape = shape_of(vectors[0].card.base.name)
    found = {one.way: one for one in held_settings(shape, [7], rank=2, dtype="float32")}
    stacked, slots = stack_parts(vectors)
    stack = sum(delta.nbytes for delta in stacked.values())
    one = sum(delta.nbytes for delta in compose(vectors, {vector.name: 1.0 for vector in vectors}).values())
    weights = 4 * shape.parameters
    assert (found["gate"].stored, found["gate"].resident) == (stack, weights + stack)
    assert found["gate"].fresh == 4 * slots[-1].stop
    assert (found["adapters"].fresh, found["adapters"].stored) == (one, 7 * one)
    assert found["merged"].resident == 7 * weights and found["prompt"].resident == weights
    assert found["gate"].products > found["adapters"].products > found["merged"].products == 1
    assert found["gate"].read == pytest.approx(1 + stack / weights)
    assert found["adapters"].read == pytest.approx(1 + 7 * one / weights) and found["merged"].read == 7


@pytest.mark.parametrize("model", ["llama-3-8b", "llama-3-70b"])
def test_the_page_on_scaling_has_these_figures(model: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    rows = ["| " + " | ".join(one.told()) + " |" for one in held_settings(shape_of(model))]
    assert len(rows) == 12 and "\n".join(rows) in page


def test_no_more_settings_are_read_than_there_are_rows() -> None:
    many = {one.way: one for one in held_settings(shape_of("llama-3-8b"), [10_000], rows=16)}
    few = {one.way: one for one in held_settings(shape_of("llama-3-8b"), [16], rows=16)}
    assert many["merged"].read == few["merged"].read == 16 and many["adapters"].read == few["adapters"].read
    assert many["gate"].resident == few["gate"].resident and many["gate"].gpus == 1
    assert many["merged"].gpus == 10_000
    assert [one.gpus for one in held_settings(shape_of("llama-3-70b"), [10]) if one.way == "merged"] == [20]
