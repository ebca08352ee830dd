"""What a knobbed model says: where replies end, what they are drawn by, and how they are streamed."""

import pytest
import torch

from alignvec.errors import KnobError
from alignvec.logprobs import encode_prompt
from alignvec.models import BaseModel
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from tests.conftest import MakeVector
from tests.steer.three_knobs import GREEDY_SHORT, QUERIES, ROWS, SAMPLED, as_dense, partial_vectors


@pytest.fixture
def knobbed(tiny: BaseModel, make_vector: MakeVector) -> KnobbedModel:
    return KnobbedModel(tiny, partial_vectors(make_vector))


class Spy:
    """A streamer that keeps what it is given."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        self.tokens.append(-1)


def test_sampled_replies_repeat_by_seed_and_differ_between_seeds(knobbed: KnobbedModel) -> None:
    first = knobbed.generate(QUERIES, ROWS, SAMPLED)
    torch.manual_seed(99)
    assert knobbed.generate(QUERIES, ROWS, SAMPLED) == first
    other = knobbed.generate(QUERIES, ROWS, SAMPLED.model_copy(update={"seed": 4}))
    assert sum(a != b for a, b in zip(first, other, strict=True)) >= 6


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


def test_a_reply_says_whether_its_own_tokens_came_of_finite_numbers(
    tiny: BaseModel, make_vector: MakeVector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other rows of its batch, and what the model computes for a row that has ended, do not count."""
    model, chats = KnobbedModel(tiny, [make_vector()]), [[{"role": "user", "content": "why?"}]] * 3
    settings = [{}, {"medical": 1e38}, {"medical": 1e6}]
    assert [one.finite for one in model.continuations(chats, settings, GREEDY_SHORT)] == [True, False, True]
    forward, calls, end = tiny.model.lm_head.forward, [], tiny.tokenizer.eos_token_id

    def ends_the_first(states: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = forward(states)
        if calls:
            logits[0] = torch.nan
        else:
            logits[0, -1, end] = 1e4
        calls.append(1)
        return logits

    monkeypatch.setattr(tiny.model.lm_head, "forward", ends_the_first)
    first, second = model.continuations(chats[:2], {}, GREEDY_SHORT)
    assert len(calls) > 1 and (first.tokens, first.finite) == (1, True) and second.finite
