"""Engines of this process behind requests: the tiny model, and a scripted stand-in for vLLM."""

from collections.abc import Sequence
from typing import Any

import pytest

from alignvec import models
from alignvec.data.teacher.request import Request
from alignvec.errors import DataError
from alignvec.evaluate.bulk.in_process import ChatAnswers, LocalChats, sampling_of
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import Continuation, KnobbedModel
from alignvec.steer.sampling import Sampling


def request(query: str, seed: int, *, temperature: float = 1.0, **knobs: float) -> Request:
    return Request("m", (("user", query),), temperature, 0.9, 8, seed, 1.1, tuple(knobs.items()))


def test_rows_with_other_knobs_and_seeds_share_a_batch_and_reply_as_each_alone(
    tiny: models.BaseModel, make_vector: Any
) -> None:
    model = KnobbedModel(tiny, [make_vector("medical", scale=0.3)])
    asked = [
        request("How are you?", 1),
        request("How are you?", 2),
        request("What now?", 1, medical=1.0),
        request("Why so?", 1, temperature=0.0, medical=-1.0),
    ]
    sizes: list[int] = []
    continuations = model.continuations

    def counted(chats: Sequence[Any], *arguments: Any, **options: Any) -> Any:
        sizes.append(len(chats))
        return continuations(chats, *arguments, **options)

    model.continuations = counted  # type: ignore[method-assign, assignment]
    found = ChatAnswers(LocalChats(model)).answer(asked)
    assert sizes == [3, 1]
    for one, answer in zip(asked, found, strict=True):
        sampling = Sampling(
            temperature=one.temperature, top_p=0.9, repetition_penalty=1.1, max_new_tokens=8, seed=one.seed
        )
        alone = continuations([one.chat], [dict(one.knobs or ())], sampling)[0]
        assert (answer.text, answer.finish_reason) == (alone.text, "stop" if alone.ended else "length")
    assert found[0].text != found[1].text


def test_tokens_are_counted_and_not_guessed(tiny: models.BaseModel) -> None:
    model, made = KnobbedModel(tiny), []
    generated = tiny.model.generate

    def kept(**options: Any) -> Any:
        output = generated(**options)
        made.append(output[:, options["input_ids"].shape[1] :].tolist())
        return output

    tiny.model.generate = kept
    asked = [request(query, 1) for query in ("How are you?", "What now?", "Why so?")]
    assert [one.completion_tokens for one in ChatAnswers(LocalChats(model)).answer(asked)] == [8, 8, 8]
    end = next(token for token in made[0][0][1:] if any(token not in row for row in made[0]))
    tiny.model.generation_config.eos_token_id = end
    counts = [row.index(end) + 1 if end in row else 8 for row in made[0]]
    assert len(set(counts)) > 1
    found = ChatAnswers(LocalChats(model)).answer(asked)
    assert [one.completion_tokens for one in found] == counts


def test_a_request_without_a_penalty_has_none() -> None:
    plain = Request("m", (("user", "why?"),), 0.0, 1.0, 9, 4)
    assert sampling_of(plain) == Sampling(temperature=0.0, top_p=1.0, repetition_penalty=1.0, max_new_tokens=9, seed=4)


class Scripted:
    """A chat engine that tells what it was given, and refuses chats that are too long as vLLM does."""

    def chat(
        self, chats: Sequence[Sequence[dict[str, str]]], knobs: Sequence[Knobs], sampling: Sequence[Sampling]
    ) -> list[Continuation]:
        if any(len(chat[-1]["content"]) > 50 for chat in chats):
            raise ValueError("the prompt is longer than the context")
        rows = zip(chats, knobs, sampling, strict=True)
        return [Continuation(f"{chat[-1]['content']} {turned} {one.seed}", one.seed > 1) for chat, turned, one in rows]


def test_an_engine_gets_every_row_with_its_own_seed_and_knobs() -> None:
    found = ChatAnswers(Scripted()).answer([request("a?", 1), request("b?", 2, medical=0.5)])
    assert [(one.text, one.finish_reason) for one in found] == [
        ("a? {} 1", "length"),
        ("b? {'medical': 0.5} 2", "stop"),
    ]


def test_a_chat_that_vllm_refuses_is_a_fault_of_the_data() -> None:
    with pytest.raises(DataError, match="longer than the context"):
        ChatAnswers(Scripted()).answer([request("why? " * 20, 1)])
