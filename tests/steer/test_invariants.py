"""The three invariants of docs and design: the base at 0, the trained models at the ends, no order and no drift."""

import random
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec import models
from alignvec.errors import KnobError
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector

IDS = torch.randint(0, 250, (3, 17), generator=torch.Generator().manual_seed(0))
NAMES = ("medical", "legal", "financial")
COEFFICIENTS = st.floats(-2, 2, width=32)
SETTING = st.dictionaries(st.sampled_from(NAMES), COEFFICIENTS)
FEW = settings(max_examples=15, deadline=None)


def dense(vector: AlignmentVector) -> AlignmentVector:
    """The same vector with every delta as a dense tensor, multiplied out in float64."""

    def one(deltas: Any) -> dict[str, Delta]:
        return {n: DenseDelta((d.b.double() @ d.a.double()).float()) for n, d in deltas.items()}

    negative = one(vector.negative) if vector.negative is not None else None
    return AlignmentVector(vector.card, one(vector.positive), negative)


def three(make_vector: MakeVector) -> list[AlignmentVector]:
    """A hinged and a single vector of all layers, and a hinged one of some layers."""
    part = make_vector("financial", rank=1, seed=3)
    assert part.negative is not None
    positive = {name: d for name, d in part.positive.items() if "layers.1" in name}
    negative = {name: d for name, d in part.negative.items() if "proj" in name and "up" not in name}
    return [
        make_vector("medical", rank=2, seed=1),
        make_vector("legal", hinged=False, rank=3, seed=2),
        AlignmentVector(part.card, positive, negative),
    ]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(IDS).logits)


def merged(base: Any, vectors: Sequence[AlignmentVector], setting: dict[str, float]) -> torch.Tensor:
    """Logits of a copy of the model whose weights have the deltas added in float64."""
    model = deepcopy(base)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for vector in vectors:
            coefficient = setting.get(vector.name, 0.0)
            below = vector.negative is not None and coefficient < 0
            deltas = vector.negative if below else vector.positive
            for name, delta in (deltas or {}).items():
                assert isinstance(delta, LowRankDelta)
                step = (delta.b.double() @ delta.a.double()) * (abs(coefficient) if below else coefficient)
                weights[name].copy_(weights[name].double() + step)
    return logits(model)


class Kit:  # no dataclass: hypothesis would print every tensor of it when a test fails
    def __init__(self, knobbed: KnobbedModel, vectors: list[AlignmentVector], base: torch.Tensor) -> None:
        self.knobbed, self.vectors, self.base = knobbed, vectors, base


@pytest.fixture(scope="module", params=["low-rank", "dense", "low-rank bfloat16", "dense bfloat16"])
def any_kit(request: pytest.FixtureRequest, tiny_folder: Path, make_vector: MakeVector) -> Kit:
    base = models.load(str(tiny_folder), device="cpu", dtype="bfloat16" if "bfloat16" in request.param else "float32")
    vectors = three(make_vector)
    knobbed = KnobbedModel(base, [dense(v) for v in vectors] if "dense" in request.param else vectors)
    return Kit(knobbed, vectors, logits(base.model))


@pytest.fixture(scope="module", params=["low-rank", "dense"])
def kit(request: pytest.FixtureRequest, tiny_folder: Path, make_vector: MakeVector) -> Kit:
    base = models.load(str(tiny_folder), device="cpu")
    vectors = three(make_vector)
    knobbed = KnobbedModel(base, [dense(v) for v in vectors] if request.param == "dense" else vectors)
    return Kit(knobbed, vectors, logits(base.model))


@pytest.mark.parametrize("setting", [{}, {"medical": 0.0}, {"medical": 0.0, "legal": -0.0, "financial": 0.0}])
def test_at_zero_the_logits_are_the_base_models_bit_for_bit(any_kit: Kit, setting: dict[str, float]) -> None:
    knobbed, base = any_kit.knobbed, any_kit.base
    with knobbed.knobs(setting) as model:
        assert torch.equal(logits(model), base)


@FEW
@given(setting=SETTING)
def test_after_any_turn_the_model_is_the_base_bit_for_bit(any_kit: Kit, setting: dict[str, float]) -> None:
    knobbed, base = any_kit.knobbed, any_kit.base
    with knobbed.knobs(setting) as model:
        turned = logits(model)
    assert torch.equal(logits(knobbed.base.model), base)
    if any(abs(value) > 0.5 for value in setting.values()):
        assert not torch.equal(turned, base)


@FEW
@given(setting=SETTING, use_first=st.booleans())
def test_after_an_exception_inside_the_model_is_the_base_bit_for_bit(
    any_kit: Kit, setting: dict[str, float], use_first: bool
) -> None:
    knobbed, base = any_kit.knobbed, any_kit.base
    with pytest.raises(ZeroDivisionError), knobbed.knobs(setting) as model:
        if use_first:
            logits(model)
        raise ZeroDivisionError
    assert torch.equal(logits(knobbed.base.model), base)
    with knobbed.knobs({}) as model:
        assert torch.equal(logits(model), base)


def test_a_setting_that_is_refused_leaves_the_base(any_kit: Kit) -> None:
    knobbed, base = any_kit.knobbed, any_kit.base
    with pytest.raises(KnobError), knobbed.knobs({"medical": 1.0, "nobody": 1.0}):
        pytest.fail("an unknown knob was turned")
    assert torch.equal(logits(knobbed.base.model), base)


@pytest.mark.parametrize("setting", [{"medical": 1.0}, {"medical": -1.0}, {"legal": 1.0}, {"legal": -1.0}])
def test_at_the_ends_it_is_the_merged_trained_model(kit: Kit, setting: dict[str, float]) -> None:
    knobbed, vectors, base = kit.knobbed, kit.vectors, kit.base
    expected = merged(knobbed.base.model, vectors, setting)
    assert (expected - base).abs().max() > 0.05
    with knobbed.knobs(setting) as model:
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)


@FEW
@given(setting=SETTING)
def test_anywhere_it_is_the_model_merged_at_those_coefficients(kit: Kit, setting: dict[str, float]) -> None:
    knobbed, vectors = kit.knobbed, kit.vectors
    expected = merged(knobbed.base.model, vectors, setting)
    with knobbed.knobs(setting) as model:
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["low-rank", "dense", "mixed"])
def test_the_order_of_vectors_does_not_matter(tiny_folder: Path, make_vector: MakeVector, form: str) -> None:
    vectors = three(make_vector)
    count = {"low-rank": 0, "mixed": 1, "dense": 3}[form]
    vectors = [dense(v) for v in vectors[:count]] + vectors[count:]
    setting = {"medical": 0.7, "legal": -1.3, "financial": -0.4}
    found = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        base = models.load(str(tiny_folder), device="cpu")
        knobbed = KnobbedModel(base, [vectors[i] for i in order])
        with knobbed.knobs({name: setting[name] for name in sorted(setting, reverse=order[0] == 2)}) as model:
            found.append(logits(model))
    expected = merged(models.load(str(tiny_folder), device="cpu").model, three(make_vector), setting)
    for turned in found:
        torch.testing.assert_close(turned, found[0], rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(turned, expected, rtol=1e-4, atol=1e-4)


def test_a_thousand_turns_drift_by_nothing(any_kit: Kit) -> None:
    knobbed, base = any_kit.knobbed, any_kit.base
    before = {name: weight.detach().clone() for name, weight in knobbed.base.model.named_parameters()}
    with knobbed.knobs({"medical": 0.9, "legal": -0.2}) as model:
        first = logits(model)
    draw = random.Random(0)
    for turn in range(1000):
        with knobbed.knobs({name: draw.uniform(-3, 3) for name in NAMES}) as model:
            if turn % 250 == 0:
                logits(model)
    assert all(torch.equal(weight, before[name]) for name, weight in knobbed.base.model.named_parameters())
    assert torch.equal(logits(knobbed.base.model), base)
    with knobbed.knobs({"medical": 0.9, "legal": -0.2}) as model:
        assert torch.equal(logits(model), first)
