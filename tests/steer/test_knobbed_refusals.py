"""What a knobbed model refuses: settings that do not fit the rows, other bases, and queries that are too long."""

from pathlib import Path

import pytest
import torch

from alignvec import models
from alignvec.errors import DataError, KnobError, VectorError
from alignvec.logprobs import encode_prompt
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from tests.conftest import MakeVector, write_tiny_model
from tests.steer.three_knobs import GREEDY_SHORT, QUERIES, as_dense, partial_vectors


@pytest.fixture
def knobbed(tiny: BaseModel, make_vector: MakeVector) -> KnobbedModel:
    return KnobbedModel(tiny, partial_vectors(make_vector))


@pytest.mark.parametrize("row", [{"medical": 1.0}, {"medical": 0.0}, {}], ids=["turned", "at zero", "empty"])
@pytest.mark.parametrize("settings_", [3, 5])
def test_as_many_settings_as_rows_are_needed(knobbed: KnobbedModel, row: dict[str, float], settings_: int) -> None:
    ids = torch.arange(8).view(4, 2)
    before = knobbed.base.model(ids).logits
    with pytest.raises(KnobError, match=f"{settings_} knob settings for a batch of 4 rows"):
        knobbed.generate(QUERIES[:4], [row] * settings_, GREEDY_SHORT)
    assert torch.equal(knobbed.base.model(ids).logits, before)


def test_as_many_settings_as_rows_are_needed_for_a_dense_vector_too(tiny: BaseModel, make_vector: MakeVector) -> None:
    dense = KnobbedModel(tiny, [as_dense(make_vector(hinged=False))])
    with pytest.raises(KnobError, match="3 knob settings for a batch of 2 rows"):
        dense.generate(QUERIES[:2], [{"medical": 1.0}] * 3, GREEDY_SHORT)


def test_no_setting_at_all_is_refused(knobbed: KnobbedModel) -> None:
    with pytest.raises(KnobError, match="0 knob settings for a batch of 2 rows"):
        knobbed.generate(QUERIES[:2], [], GREEDY_SHORT)


def test_contexts_cannot_be_nested_and_the_outer_one_survives(knobbed: KnobbedModel) -> None:
    ids = torch.arange(10).view(1, 10)
    with torch.no_grad(), knobbed.knobs({"medical": 1.0}) as model:
        before = model(ids).logits
        with pytest.raises(KnobError, match="cannot be nested"), knobbed.knobs({"medical": 0.5}):
            pytest.fail("a second context was entered")
        assert torch.equal(model(ids).logits, before)


def test_two_vectors_of_one_name_are_refused(tiny: BaseModel, make_vector: MakeVector) -> None:
    with pytest.raises(KnobError, match="same name"):
        KnobbedModel(tiny, [make_vector(seed=0), make_vector(seed=1)])


def test_another_base_is_refused_unless_it_is_allowed(tmp_path: Path, make_vector: MakeVector) -> None:
    other = models.load(str(write_tiny_model(tmp_path / "other", seed=1)), device="cpu")
    vector = make_vector(hinged=False)
    with pytest.raises(VectorError, match=r"'medical' belongs to base .* --allow-other-base"):
        KnobbedModel(other, [vector])
    knobbed = KnobbedModel(other, [vector], allow_other_base=True)
    ids = torch.arange(20).view(2, 10)
    with torch.no_grad(), knobbed.knobs({"medical": 0.8}) as model:
        turned = model(ids).logits
    with torch.no_grad():
        for name, weight in other.model.named_parameters():
            if name in vector.positive:
                weight += 0.8 * vector.positive[name].dense()
        torch.testing.assert_close(turned, other.model(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_query_that_does_not_fit_the_context_is_refused(knobbed: KnobbedModel) -> None:
    template = len(encode_prompt(knobbed.base.tokenizer, [{"role": "user", "content": ""}]))
    fits = "x" * (knobbed.base.context_length - template - 12)
    assert len(knobbed.generate(["Short?", fits], {}, GREEDY_SHORT)) == 2
    with pytest.raises(DataError, match="reply of up to 12 do not fit the model's context of 512"):
        knobbed.generate(["Short?", fits + "x"], {}, GREEDY_SHORT)
    with pytest.raises(DataError, match="reply of up to 12 do not fit the model's context of 512"):
        knobbed.generate(["Short?", "x" * 510], {}, GREEDY_SHORT)
