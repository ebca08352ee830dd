"""The engine against `KnobbedModel.generate`, which pads a batch instead of packing it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from alignvec import models
from alignvec.data.load import load_rows
from alignvec.errors import KnobError, VectorError
from alignvec.logprobs import encode_prompt, encode_replies
from alignvec.serve.engine import engine as engines
from alignvec.serve.engine import loaded as loadeds
from alignvec.serve.engine.engine import Engine, EngineSettings
from alignvec.serve.engine.request import Job, Step
from alignvec.serve.errors import BadRequestError, OverloadedError, TooLongError, UnavailableError
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY, Sampling
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector

T = TypeVar("T")
QUERIES = [f"{'Please tell me, ' * (i % 3)}what helps in case {i}?" for i in range(16)]
SETTINGS = [{"medical": -1 + i / 8, "legal": (-1) ** i * i / 16} if i % 5 else {} for i in range(16)]
SHORT = GREEDY.model_copy(update={"max_new_tokens": 24})
DRAWN = Sampling(temperature=0.9, top_p=0.8, repetition_penalty=1.2, max_new_tokens=24, seed=5)


@pytest.fixture
def vectors(make_vector: MakeVector) -> list[AlignmentVector]:
    return [make_vector("medical"), make_vector("legal", hinged=False, rank=3, seed=1)]


@pytest.fixture
def engine(tiny: models.BaseModel, vectors: list[AlignmentVector]) -> Iterator[Engine]:
    engine = Engine(tiny, vectors, EngineSettings(max_batch=4, queue=16, context=256))
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def reference(tiny_folder: Path, vectors: list[AlignmentVector]) -> KnobbedModel:
    return KnobbedModel(models.load(str(tiny_folder), device="cpu"), vectors)


def prompt(engine: Engine, query: str) -> list[int]:
    return encode_prompt(engine.base.tokenizer, [{"role": "user", "content": query}])


def job(engine: Engine, query: str, knobs: Mapping[str, float], sampling: Sampling = SHORT, **more: Any) -> Job:
    return Job(prompt(engine, query), sampling, knobs, **more)


async def steps(engine: Engine, wanted: Job) -> list[Step]:
    return [step async for step in engine.stream(wanted)]


def text(engine: Engine, found: Sequence[Step]) -> str:
    return str(engine.base.tokenizer.decode([s.token for s in found], skip_special_tokens=True)).strip()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # `run` ends it
        await asyncio.sleep(0.01)


def run(work: Awaitable[T]) -> T:
    async def limited() -> T:
        return await asyncio.wait_for(work, 60)

    return asyncio.run(limited())


@pytest.mark.parametrize("sampling", [SHORT, DRAWN])
def test_sixteen_settings_at_once_give_what_each_gives_alone(
    engine: Engine, reference: KnobbedModel, sampling: Sampling
) -> None:
    async def all_at_once() -> list[list[Step]]:
        return await asyncio.gather(
            *(steps(engine, job(engine, q, k, sampling)) for q, k in zip(QUERIES, SETTINGS, strict=True))
        )

    found = [text(engine, one) for one in run(all_at_once())]
    alone = [reference.generate([q], k, sampling)[0] for q, k in zip(QUERIES, SETTINGS, strict=True)]
    assert found == alone
    assert found != reference.generate(QUERIES, {}, sampling)


def test_the_last_step_says_why_the_reply_ended(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = run(steps(engine, job(engine, QUERIES[0], {})))
    assert [s.finish for s in cut] == [None] * 23 + ["length"]
    monkeypatch.setattr(engine, "_ends", [cut[5].token])
    first = [s.token for s in cut].index(cut[5].token)
    ended = run(steps(engine, job(engine, QUERIES[0], {})))
    assert [s.finish for s in ended] == [None] * first + ["stop"]


def test_log_probabilities_are_the_models_own(engine: Engine, reference: KnobbedModel) -> None:
    knobs = {"medical": 0.7}
    wanted = job(engine, QUERIES[1], knobs, DRAWN, logprobs=3)
    found = run(steps(engine, wanted))
    ids = torch.tensor([[*wanted.prompt, *(s.token for s in found)]])
    with torch.no_grad(), reference.knobs(knobs) as model:
        logits = model(ids).logits[0, len(wanted.prompt) - 1 : -1]
    expected = torch.log_softmax(logits, dim=-1)
    for step, row in zip(found, expected, strict=True):
        assert step.logprob == pytest.approx(float(row[step.token]), abs=1e-4)
        values, tokens = row.topk(3)
        assert [token for token, _ in step.top] == tokens.tolist()
        assert [value for _, value in step.top] == pytest.approx(values.tolist(), abs=1e-4)
    assert all(s.logprob is None for s in run(steps(engine, job(engine, QUERIES[1], knobs))))


def test_a_new_request_joins_a_running_batch_and_leaves_before_it_ends(engine: Engine) -> None:
    async def race() -> list[str]:
        order: list[str] = []

        async def one(name: str, tokens: int) -> None:
            async for step in engine.stream(job(engine, name, {}, SHORT.model_copy(update={"max_new_tokens": tokens}))):
                if name == "long" and not order:
                    order.append("long began")
                if step.finish:
                    order.append(f"{name} ended")

        long = asyncio.create_task(one("long", 200))
        await until(lambda: bool(order))
        await asyncio.gather(long, one("short", 3))
        return order

    assert run(race()) == ["long began", "short ended", "long ended"]


def test_closing_a_stream_frees_its_row(engine: Engine) -> None:
    async def leave() -> None:
        stream = engine.stream(job(engine, "long", {}, SHORT.model_copy(update={"max_new_tokens": 200})))
        await anext(stream)
        assert engine.load().running == 1 and 0 < engine.load().free < 1
        await stream.aclose()
        await until(lambda: engine.load().running == 0 and engine.load().free == 1.0)
        assert engine.load().waiting == 0

    run(leave())


def test_a_full_queue_refuses(engine: Engine) -> None:
    async def fill() -> None:
        room = engine.load().room
        assert room == 20
        tasks = [asyncio.create_task(steps(engine, job(engine, QUERIES[0], {}))) for _ in range(room)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="waiting") as refused:
            await steps(engine, job(engine, QUERIES[0], {}))
        assert refused.value.retry_after and refused.value.retry_after >= 1
        assert all(len(found) == 24 for found in await asyncio.gather(*tasks))

    run(fill())


@pytest.mark.parametrize("error", [MemoryError("no memory"), RuntimeError("bad alloc")])
def test_a_batch_that_fails_takes_only_its_own_requests(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole = run(steps(engine, job(engine, QUERIES[2], {"medical": 1})))
    forward, calls = engine.base.model.forward, []

    def failing(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise error
        return forward(*args, **named)

    async def load() -> list[Any]:
        tasks = [asyncio.create_task(steps(engine, job(engine, QUERIES[2], {"medical": 1}))) for _ in range(8)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    monkeypatch.setattr(engine.base.model, "forward", failing)
    outcomes = run(load())
    failed = [one for one in outcomes if isinstance(one, UnavailableError)]
    assert 1 <= len(failed) <= 4 and all(str(error) in str(one) for one in failed)
    assert [one for one in outcomes if not isinstance(one, Exception)] == [whole] * (8 - len(failed))
    assert engine.alive and engine.load().free == 1.0


def test_what_does_not_fit_is_refused_before_it_joins(engine: Engine) -> None:
    with pytest.raises(TooLongError, match="256"):
        run(steps(engine, job(engine, "word " * 80, {})))
    with pytest.raises(BadRequestError, match="no tokens"):
        run(steps(engine, Job([], SHORT)))


def test_running_requests_keep_their_vectors_when_others_are_loaded(
    engine: Engine,
    reference: KnobbedModel,
    make_vector: MakeVector,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = make_vector("medical", seed=9)
    knobs, long = {"medical": 1.0}, SHORT.model_copy(update={"max_new_tokens": 60})

    async def swap() -> tuple[str, str]:
        stream = engine.stream(job(engine, QUERIES[3], knobs, long))
        begun = [await anext(stream)]
        await engine.reload([other])
        new = asyncio.create_task(steps(engine, job(engine, QUERIES[3], knobs, long)))
        begun += [step async for step in stream]
        found = text(engine, begun), text(engine, await new)
        await steps(engine, job(engine, QUERIES[3], knobs))
        return found

    given_back: list[int] = []
    monkeypatch.setattr(loadeds, "give_back_freed_blocks", lambda: given_back.append(len(list(engine.scales))))
    before, after = run(swap())
    assert given_back == [1], "once, when the last request of the old set has left"
    loaded = KnobbedModel(models.load(str(tiny_folder), device="cpu"), [other])
    assert before == reference.generate([QUERIES[3]], knobs, long)[0]
    assert after == loaded.generate([QUERIES[3]], knobs, long)[0]
    assert before != after and list(engine.scales) == ["medical"]


def test_knobs_are_those_of_the_vectors_they_were_read_against(
    engine: Engine, reference: KnobbedModel, make_vector: MakeVector
) -> None:
    loaded, knobs = engine.loaded, {"medical": 1.0}

    async def swap_first() -> str:
        await engine.reload([make_vector("legal", seed=9)])
        return text(engine, await steps(engine, job(engine, QUERIES[3], knobs, vectors=loaded)))

    assert run(swap_first()) == reference.generate([QUERIES[3]], knobs, SHORT)[0]
    with pytest.raises(KnobError, match="no vector named 'medical'"):
        run(steps(engine, job(engine, QUERIES[3], knobs)))


def test_a_request_notices_that_the_engine_has_died(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "WATCH", 0.05)
    monkeypatch.setattr("alignvec.serve.engine.batching.Router.deliver", lambda *_: None)

    async def die() -> None:
        task = asyncio.create_task(steps(engine, job(engine, QUERIES[3], {})))
        await asyncio.sleep(0.2)
        assert not task.done()
        engine.stop()
        with pytest.raises(UnavailableError, match="has stopped"):
            await task

    run(die())


def test_a_reload_that_cannot_be_leaves_the_vectors(engine: Engine, make_vector: MakeVector) -> None:
    dense = make_vector("dense", hinged=False)
    name, delta = next(iter(dense.parts[0].deltas.items()))
    dense = AlignmentVector(dense.card, {name: DenseDelta(delta.dense())}, None)
    with pytest.raises(VectorError, match="alignvec compress"):
        run(engine.reload([dense]))
    with pytest.raises(VectorError, match="same name"):
        run(engine.reload([make_vector("a"), make_vector("a")]))
    assert sorted(engine.cards) == ["legal", "medical"]


def test_preference_is_scored_while_the_engine_generates(
    engine: Engine, reference: KnobbedModel, data_file: Path
) -> None:
    row, knobs = load_rows(data_file)[0], {"medical": 0.8}

    async def both() -> tuple[dict[str, float], list[Step]]:
        task = asyncio.create_task(steps(engine, job(engine, QUERIES[4], {"legal": -1.0})))
        return await engine.preference(row, knobs), await task

    found, generated = run(both())
    encoded = encode_replies(reference.base.tokenizer, row.query, list(row.responses.values()), max_length=512)
    sums = reference.score([encoded], knobs)[0].tolist()
    expected = [total / len(reply) for total, reply in zip(sums, encoded.replies, strict=True)]
    assert list(found) == list(row.responses)
    assert list(found.values()) == pytest.approx(expected, abs=1e-5)
    assert text(engine, generated) == reference.generate([QUERIES[4]], {"legal": -1.0}, SHORT)[0]


def test_who_gives_up_on_the_meter_does_not_change_what_the_next_one_reads(
    engine: Engine, make_vector: MakeVector, data_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, loaded, score = load_rows(data_file)[0], engine.loaded, KnobbedModel.score
    began, go_on = threading.Event(), threading.Event()

    def slow(self: KnobbedModel, encoded: Any, knobs: Any) -> torch.Tensor:
        with self.knobs(knobs):
            began.set()
            assert go_on.wait(60)
        return score(self, encoded, knobs)

    async def give_up() -> dict[str, float]:
        with monkeypatch.context() as patched:
            patched.setattr(KnobbedModel, "score", slow)
            first = asyncio.create_task(engine.preference(row, {"medical": -1.0}))
            await asyncio.to_thread(began.wait, 60)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        await engine.reload([make_vector("medical", seed=9)])
        next_one = asyncio.create_task(engine.preference(row, {"medical": 1.0}, loaded))
        await asyncio.sleep(0.05)
        assert not next_one.done()
        go_on.set()
        return await next_one

    expected = run(engine.preference(row, {"medical": 1.0}))
    assert run(give_up()) == pytest.approx(expected)


def test_after_stop_requests_are_refused(tiny: models.BaseModel) -> None:
    engine = Engine(tiny, [], EngineSettings(max_batch=2, queue=0, context=128))
    engine.start()
    run(steps(engine, job(engine, "a", {})))
    engine.stop()
    assert not engine.alive
    with pytest.raises(UnavailableError, match="not running"):
        run(steps(engine, job(engine, "a", {})))
