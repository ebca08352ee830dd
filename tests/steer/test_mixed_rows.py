"""Batches whose rows have different knobs, against every row alone."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec import models
from alignvec.errors import KnobError
from alignvec.logprobs import encode_replies
from alignvec.models import BaseModel
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from tests.conftest import MakeVector
from tests.steer.three_knobs import GREEDY_SHORT, QUERIES, ROWS, SAMPLED, as_dense, partial_vectors


@pytest.fixture
def knobbed(tiny: BaseModel, make_vector: MakeVector) -> KnobbedModel:
    return KnobbedModel(tiny, partial_vectors(make_vector))


def test_eight_rows_with_eight_settings_generate_as_each_alone(knobbed: KnobbedModel) -> None:
    together = knobbed.generate(QUERIES, ROWS, GREEDY_SHORT)
    alone = [knobbed.generate([q], row, GREEDY_SHORT)[0] for q, row in zip(QUERIES, ROWS, strict=True)]
    assert together == alone
    base = knobbed.generate(QUERIES, {}, GREEDY_SHORT)
    assert [together[i] == base[i] for i in (0, 6)] == [True, True]
    assert sum(a != b for a, b in zip(together, base, strict=True)) >= 4


def test_eight_rows_with_eight_settings_score_as_each_alone(knobbed: KnobbedModel) -> None:
    replies = ["Ask a doctor.", "Rest and drink enough.", "Paracetamol 15 mg/kg."]
    encoded = [encode_replies(knobbed.base.tokenizer, q, replies, max_length=512) for q in QUERIES]
    together = knobbed.score(encoded, ROWS)
    for i, row in enumerate(ROWS):
        torch.testing.assert_close(together[i], knobbed.score([encoded[i]], [row])[0], rtol=1e-5, atol=1e-4)
    changed = (together - knobbed.score(encoded, {})).abs().amax(dim=1)
    assert [value > 0.01 for value in changed.tolist()] == [any(row.values()) for row in ROWS]


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_logits_of_mixed_rows_are_those_of_each_alone(module_knobbed: KnobbedModel, data: st.DataObject) -> None:
    row = st.dictionaries(st.sampled_from(["medical", "legal", "financial"]), st.floats(-2, 2, width=32))
    rows = data.draw(st.lists(row, min_size=2, max_size=5))
    ids = torch.randint(0, 250, (len(rows), 9), generator=torch.Generator().manual_seed(len(rows)))
    with torch.no_grad(), module_knobbed.knobs(rows) as model:
        together = model(ids).logits
    for i, setting in enumerate(rows):
        with torch.no_grad(), module_knobbed.knobs(setting) as model:
            torch.testing.assert_close(together[i], model(ids[i : i + 1]).logits[0], rtol=1e-4, atol=5e-5)


@pytest.fixture(scope="module")
def module_knobbed(tiny_folder: Path, make_vector: MakeVector) -> KnobbedModel:
    return KnobbedModel(models.load(str(tiny_folder), device="cpu"), partial_vectors(make_vector))


def test_rows_at_zero_are_the_base_bit_for_bit_beside_turned_rows(knobbed: KnobbedModel) -> None:
    ids = torch.arange(8 * 11).view(8, 11)
    with torch.no_grad():
        base = knobbed.base.model(ids).logits
        with knobbed.knobs(ROWS) as model:
            mixed = model(ids).logits
    assert [torch.equal(mixed[i], base[i]) for i in range(8)] == [not any(row.values()) for row in ROWS]


def test_with_gradients_the_logits_are_the_same(knobbed: KnobbedModel) -> None:
    ids = torch.arange(8 * 11).view(8, 11)
    with knobbed.knobs(ROWS) as model:
        with torch.no_grad():
            without = model(ids).logits
        with_gradients = model(ids).logits
    assert with_gradients.requires_grad
    torch.testing.assert_close(with_gradients.detach(), without, rtol=1e-5, atol=2e-5)


def test_sampled_replies_do_not_depend_on_the_batch(knobbed: KnobbedModel) -> None:
    together = knobbed.generate(QUERIES, ROWS, SAMPLED)
    assert together == [knobbed.generate([q], row, SAMPLED)[0] for q, row in zip(QUERIES, ROWS, strict=True)]
    backwards = knobbed.generate(QUERIES[::-1], ROWS[::-1], SAMPLED)
    assert backwards[::-1] == together


@pytest.mark.parametrize("dense", [False, True])  # dense: rows that differ are two batches
def test_a_seed_of_each_row_draws_as_if_it_were_the_seed_of_all(
    tiny: BaseModel, make_vector: MakeVector, dense: bool
) -> None:
    vector = make_vector("medical", hinged=False)
    knobbed = KnobbedModel(tiny, [as_dense(vector) if dense else vector])
    chats = [[{"role": "user", "content": query}] for query in QUERIES[:3]]
    rows: list[Knobs] = [{"medical": 0.5}, {}, {"medical": 0.5}]
    found = knobbed.continuations(chats, rows, SAMPLED, seeds=[7, 3, 8])
    for i, seed in enumerate((7, 3, 8)):
        alone = knobbed.continuations(chats, rows, SAMPLED.model_copy(update={"seed": seed}))
        assert found[i] == alone[i]
    assert found[0] != knobbed.continuations(chats, rows, SAMPLED)[0]
    for seeds in ([1, 2], [1, 2, 3, 4], []):
        with pytest.raises(KnobError, match=f"{len(seeds)} seeds for 3 chats"):
            knobbed.continuations(chats, rows, SAMPLED, seeds=seeds)


def test_rows_that_differ_in_a_dense_vector_cannot_share_a_batch(tiny: BaseModel, make_vector: MakeVector) -> None:
    low, dense = make_vector("legal", seed=1), as_dense(make_vector("medical", hinged=False))
    knobbed = KnobbedModel(tiny, [low, dense])
    apart: list[Knobs] = [{"medical": 1.0}, {"medical": 0.5}]
    with pytest.raises(KnobError, match=r"differ in a dense vector \(medical\)"), knobbed.knobs(apart):
        pass
    one_by_one = [knobbed.generate([q], r, GREEDY_SHORT)[0] for q, r in zip(QUERIES[:2], apart, strict=True)]
    assert knobbed.generate(QUERIES[:2], apart, GREEDY_SHORT) == one_by_one
    rows = [{"medical": 1.0, "legal": -1.0}, {"medical": 1.0, "legal": 0.5}]
    together = knobbed.generate(QUERIES[:2], rows, GREEDY_SHORT)
    assert together == [knobbed.generate([q], r, GREEDY_SHORT)[0] for q, r in zip(QUERIES[:2], rows, strict=True)]
