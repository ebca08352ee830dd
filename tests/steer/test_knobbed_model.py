"""Batches whose rows have different knobs, against every row alone; and what a knobbed model refuses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec import models
from alignvec.errors import AlignvecError, DataError, KnobError, VectorError
from alignvec.logprobs import encode_prompt, encode_replies
from alignvec.models import BaseModel
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY, Sampling
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector, write_tiny_model

QUERIES = [
    f"{start} {number}?" for number, start in enumerate(["How", "What about a longer question", "Why not", ""] * 2)
]
ROWS: list[dict[str, float]] = [
    {},
    {"medical": 1.0},
    {"medical": -1.0, "legal": 0.5},
    {"legal": -2.0},
    {"financial": 1.5},
    {"medical": 0.3, "legal": 0.3, "financial": -0.3},
    {"medical": 0.0},
    {"medical": 2.0, "financial": -1.0},
]
GREEDY_SHORT = GREEDY.model_copy(update={"max_new_tokens": 12})
SAMPLED = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.1, max_new_tokens=12, seed=3)


def partial_vectors(make_vector: MakeVector) -> list[AlignmentVector]:
    """Medical changes every layer; legal (hinged) and financial (single) only some, with other ranks."""
    legal, financial = make_vector("legal", rank=3, seed=2), make_vector("financial", hinged=False, rank=1, seed=3)
    assert legal.negative is not None
    return [
        make_vector("medical", rank=2, seed=1),
        replace(
            legal,
            positive={n: d for n, d in legal.positive.items() if "layers.0" in n and ("q_proj" in n or "up_proj" in n)},
            negative={n: d for n, d in legal.negative.items() if "v_proj" in n or "down_proj" in n},
        ),
        replace(financial, positive={n: d for n, d in financial.positive.items() if "k_proj" in n or "o_proj" in n}),
    ]


@pytest.fixture
def knobbed(tiny: BaseModel, make_vector: MakeVector) -> KnobbedModel:
    return KnobbedModel(tiny, partial_vectors(make_vector))


def as_dense(vector: AlignmentVector) -> AlignmentVector:
    deltas = {n: DenseDelta(d.dense()) for n, d in vector.positive.items()}
    return replace(vector, positive=deltas)


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


def test_sampled_replies_repeat_by_seed_and_differ_between_seeds(knobbed: KnobbedModel) -> None:
    first = knobbed.generate(QUERIES, ROWS, SAMPLED)
    torch.manual_seed(99)
    assert knobbed.generate(QUERIES, ROWS, SAMPLED) == first
    other = knobbed.generate(QUERIES, ROWS, SAMPLED.model_copy(update={"seed": 4}))
    assert sum(a != b for a, b in zip(first, other, strict=True)) >= 6


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
    with pytest.raises(AlignvecError):
        knobbed.generate(QUERIES[:2], [], GREEDY_SHORT)


def test_contexts_cannot_be_nested_and_the_outer_one_survives(knobbed: KnobbedModel) -> None:
    ids = torch.arange(10).view(1, 10)
    with torch.no_grad(), knobbed.knobs({"medical": 1.0}) as model:
        before = model(ids).logits
        with pytest.raises(KnobError, match="cannot be nested"), knobbed.knobs({"medical": 0.5}):
            pytest.fail("a second context was entered")
        assert torch.equal(model(ids).logits, before)


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


@pytest.mark.parametrize("several", [False, True])
def test_a_reply_that_was_cut_off_did_not_end(tiny: BaseModel, make_vector: MakeVector, several: bool) -> None:
    knobbed = KnobbedModel(tiny, [as_dense(make_vector("medical", hinged=False))])
    chats = [[{"role": "user", "content": query}] for query in QUERIES]
    rows: list[Knobs] = [{"medical": 0.3 * (i % 2)} for i in range(len(chats))]  # in two batches
    tiny.model.generation_config.eos_token_id = None
    whole = knobbed.continuations(chats, rows, GREEDY_SHORT)
    assert not any(reply.ended for reply in whole)
    letters = [letter for letter in map(chr, range(33, 127)) if any(letter in reply.text for reply in whole)]
    letter = next(letter for letter in letters if any(letter not in reply.text for reply in whole))
    end = tiny.tokenizer.convert_tokens_to_ids(letter)
    tiny.model.generation_config.eos_token_id = [tiny.tokenizer.eos_token_id, end] if several else end
    found = knobbed.continuations(chats, rows, GREEDY_SHORT)
    for reply, uncut in zip(found, whole, strict=True):
        assert reply.ended == (letter in uncut.text)
        assert reply.text == (uncut.text[: uncut.text.index(letter) + 1] if reply.ended else uncut.text)
    assert knobbed.continue_chats(chats, rows, GREEDY_SHORT) == [reply.text for reply in found]
    assert {reply.tokens for reply in whole} == {12}
    for chat, row, reply in zip(chats, rows, found, strict=True):
        streamer = Spy()
        knobbed.continuations([chat], row, GREEDY_SHORT, streamer=streamer)
        assert reply.tokens == len(streamer.tokens) - len(encode_prompt(tiny.tokenizer, chat)) - 1
    assert len({reply.tokens for reply in found}) > 1


@pytest.mark.parametrize("dense", [False, True])  # dense: rows that differ are two batches
def test_chats_with_one_key_share_their_noise(tiny: BaseModel, make_vector: MakeVector, dense: bool) -> None:
    """Where the logits are forced, so that the prompt changes nothing, replies differ by noise alone."""
    vector = make_vector("medical", hinged=False, scale=1e-9)
    knobbed, sampling = KnobbedModel(tiny, [as_dense(vector) if dense else vector]), Sampling(max_new_tokens=12)
    bare = [[{"role": "user", "content": query}] for query in QUERIES[:2]]
    told = [[{"role": "system", "content": "Be brief."}, *chat] for chat in bare]
    keys = [encode_prompt(tiny.tokenizer, chat) for chat in bare]
    tiny.model.lm_head.weight.data.zero_()  # the likeliest token is whichever the noise says
    rows: list[Knobs] = [{"medical": 0.0}, {"medical": 1.0}]
    plain = knobbed.continuations(bare, rows, sampling)
    assert knobbed.continuations(bare, rows, sampling, keys=keys) == plain
    assert knobbed.continuations(told, rows, sampling, keys=keys) == plain
    assert knobbed.continuations(told, rows, sampling, keys=keys[::-1]) == plain[::-1]
    assert all(one != other for one, other in zip(knobbed.continuations(told, rows, sampling), plain, strict=True))
    with pytest.raises(KnobError, match="1 keys of sampling noise for 2 chats"):
        knobbed.continuations(told, rows, sampling, keys=keys[:1])


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


class Spy:
    """A streamer that keeps what it is given."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        self.tokens.append(-1)


def test_a_streamer_is_given_the_prompt_and_then_each_token_of_the_reply(knobbed: KnobbedModel) -> None:
    chat = [{"role": "user", "content": QUERIES[0]}]
    prompt, streamers = encode_prompt(knobbed.base.tokenizer, chat), [Spy(), Spy()]
    (text,) = knobbed.generate(QUERIES[:1], {"medical": 1.0}, GREEDY_SHORT, streamer=streamers[0])
    assert knobbed.continue_chats([chat], {"medical": 1.0}, GREEDY_SHORT, streamer=streamers[1]) == [text]
    for streamer in streamers:
        assert streamer.tokens[: len(prompt)] == prompt and streamer.tokens[-1] == -1
        reply = streamer.tokens[len(prompt) : -1]
        assert knobbed.base.tokenizer.decode(reply, skip_special_tokens=True).strip() == text


def test_a_query_is_what_the_user_says(knobbed: KnobbedModel) -> None:
    knobbed.base.tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
    by = {r: knobbed.continue_chats([[{"role": r, "content": "Why?"}]], {}, GREEDY_SHORT) for r in ("user", "USER")}
    assert knobbed.generate(["Why?"], {}, GREEDY_SHORT) == by["user"] != by["USER"]


def test_what_the_model_is_shipped_with_for_generating_changes_nothing(knobbed: KnobbedModel) -> None:
    chats = [[{"role": "user", "content": query}] for query in QUERIES]
    own, tokenizer = knobbed.base.model.generation_config, knobbed.base.tokenizer
    own.eos_token_id = None
    texts = [reply.text for reply in knobbed.continuations(chats, ROWS, GREEDY_SHORT)]
    some = (c for c in map(chr, range(33, 127)) if 0 < sum(c in text for text in texts) < len(texts))
    own.eos_token_id = tokenizer.convert_tokens_to_ids(next(some))
    before = [knobbed.continuations(chats, ROWS, sampling) for sampling in (GREEDY_SHORT, SAMPLED)]
    assert len({reply.tokens for reply in before[0]}) > 1  # so that some rows are padded
    for name, value in {
        "do_sample": True,
        "temperature": 5.0,
        "top_k": 1,
        "top_p": 0.1,
        "repetition_penalty": 9.0,
        "pad_token_id": tokenizer.convert_tokens_to_ids("x"),
        "max_new_tokens": 3,
    }.items():
        setattr(own, name, value)
    assert [knobbed.continuations(chats, ROWS, sampling) for sampling in (GREEDY_SHORT, SAMPLED)] == before


def test_the_repetition_penalty_counts_a_reply_but_not_its_query(knobbed: KnobbedModel) -> None:
    sampling = GREEDY_SHORT.model_copy(update={"repetition_penalty": 3.0})
    chat, streamer = [{"role": "user", "content": "".join(map(chr, range(33, 127)))}], Spy()
    prompt = encode_prompt(knobbed.base.tokenizer, chat)
    knobbed.continuations([chat], {"medical": 1.0}, sampling, streamer=streamer)
    tokens: list[int] = []
    with torch.no_grad(), knobbed.knobs({"medical": 1.0}) as model:
        for _ in range(12):
            logits = model(torch.tensor([prompt + tokens])).logits[0, -1]
            seen = torch.tensor(sorted(set(tokens)), dtype=torch.long)
            logits[seen] = torch.where(logits[seen] < 0, logits[seen] * 3.0, logits[seen] / 3.0)
            tokens.append(int(logits.argmax()))
    assert streamer.tokens[len(prompt) : -1] == tokens[: len(streamer.tokens) - len(prompt) - 1] != []


def test_tokens_are_sampled_from_what_the_rows_logits_are_combined_to(tiny: BaseModel, make_vector: MakeVector) -> None:
    """The mean of two rows' logits for both: they say the same, and penalty and noise come after it."""
    knobbed = KnobbedModel(tiny, [make_vector("legal"), as_dense(make_vector("medical", hinged=False))])
    chat = [{"role": "user", "content": "Why?"}]
    rows: list[Knobs] = [{"legal": 2.0}, {"legal": -2.0}]
    seen: list[torch.Tensor] = []

    def mean(tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        seen.append(logits)
        assert tokens.shape[0] == 2
        return logits.mean(dim=0).expand(2, -1)

    first, second = knobbed.continuations([chat, chat], rows, SAMPLED, combine=mean)
    assert first == second and len(seen) == first.tokens
    with torch.no_grad(), knobbed.knobs(rows) as model:
        ids = torch.tensor([encode_prompt(tiny.tokenizer, chat)] * 2)
        torch.testing.assert_close(seen[0], model(ids).logits[:, -1], rtol=1e-4, atol=1e-4)
    with pytest.raises(KnobError, match="cannot be combined"):
        knobbed.continuations([chat, chat], [{"medical": 1.0}, {}], SAMPLED, combine=mean)


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
