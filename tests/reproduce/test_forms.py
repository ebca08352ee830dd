import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignvec.models import BaseModel
from alignvec.reproduce.stages.forms import side_knobs, side_vectors, widened
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.algebra import FORMS, in_form
from tests.conftest import MakeVector


def logits(model: KnobbedModel, knobs: dict[str, float]) -> torch.Tensor:
    ids = torch.arange(12).view(1, 12)
    with torch.no_grad(), model.knobs(knobs) as turned:
        found: torch.Tensor = turned(input_ids=ids).logits
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [-1.5, -0.5, 0.0, 1.0])
def test_a_setting_of_the_sides_is_the_vector_in_its_form(
    tiny: BaseModel, make_vector: MakeVector, form: str, value: float
) -> None:
    vector = make_vector("medical", scale=0.05)
    whole = logits(KnobbedModel(tiny, [in_form(vector, form)]), {"medical": value})
    apart = logits(KnobbedModel(tiny, side_vectors([vector])), dict(side_knobs(form, "medical", value)))
    assert torch.allclose(whole, apart, atol=1e-5)
    changed = not torch.allclose(whole, logits(KnobbedModel(tiny), {}), atol=1e-3)
    assert changed == bool(value)


def test_a_two_sided_vector_is_turned_as_far_as_it_turns_both_sides_once() -> None:
    assert widened("two-sided", (-1.5, 0.0, 1.0)) == (-3.0, 0.0, 2.0)
    assert widened("one-sided", (-1.5, 1.0)) == widened("hinged", (-1.5, 1.0)) == (-1.5, 1.0)
    assert side_knobs("two-sided", "a", 2.0)["a.positive"] == side_knobs("hinged", "a", 1.0)["a.positive"]


@given(st.floats(-4, 4))
def test_forms_agree_where_they_must(value: float) -> None:
    hinged, one = (side_knobs(form, "a", value) for form in ("hinged", "one-sided"))
    assert (hinged == one) == (value >= 0)
    assert sum(side_knobs("two-sided", "a", value).values()) == 0
