"""Runs against an endpoint: what is asked, what is written, what is found out, what goes on."""

import json
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from alignvec.data.teacher import pace
from alignvec.data.teacher.batched import BatchedTeacher, InProcess
from alignvec.data.teacher.request import Answer, Request
from alignvec.errors import ConfigError, DataError, KnobError, TeacherError
from alignvec.evaluate.bulk import generate as generating
from alignvec.evaluate.bulk.choose import Choice, chosen
from alignvec.evaluate.bulk.generate import generate
from alignvec.evaluate.bulk.plan import read_plan
from alignvec.evaluate.bulk.prompts import read_prompts
from alignvec.steer.sampling import Sampling
from tests.evaluate.bulk.running_bulk import SETTINGS, prompt_file, replies, run, shards
from tests.scripted_teacher import Body
from tests.turning_endpoint import ABOUT, level_at, reply_at, turning


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)


def bodies(endpoint: object) -> list[Body]:
    """Requests for replies."""
    return [body for body in endpoint.bodies if body]  # type: ignore[attr-defined]


def test_every_prompt_is_asked_once_at_every_setting_and_the_replies_lie_in_their_shards(tmp_path: Path) -> None:
    with turning() as endpoint:
        done = run(endpoint.url, prompt_file(tmp_path), tmp_path / "out")
        asked = bodies(endpoint)
    assert (done.replies, done.missing, done.answers, done.before) == (69, 0, 69, 0)
    assert Counter((body["messages"][0]["content"], json.dumps(body["alignment"])) for body in asked) == {
        (f"How do I sleep, take {i}?", knobs): 1
        for i in range(23)
        for knobs in ('{"medical": -1.0}', "{}", '{"medical": 1.0}')
    }
    assert list(shards(tmp_path / "out")) == [f"{b:05d}-{s:02d}.jsonl" for b in range(5) for s in range(3)]
    written = {(one["id"], one["knobs"].get("medical", 0.0)): one["reply"] for one in replies(tmp_path / "out")}
    assert written == {
        (f"q{body['messages'][0]['content'].split()[-1][:-1]}", body["alignment"].get("medical", 0.0)): reply_at(body)
        for body in asked
    }
    assert not (tmp_path / "out/failed.jsonl").exists()
    assert not list((tmp_path / "out").glob("answers.sqlite*"))


def test_settings_share_a_prompts_seed_and_prompts_do_not(tmp_path: Path) -> None:
    with turning() as endpoint:
        run(endpoint.url, prompt_file(tmp_path, 6), tmp_path / "out")
        seeds = {(body["messages"][0]["content"], body["seed"]) for body in bodies(endpoint)}
    assert len(seeds) == len({seed for _, seed in seeds}) == 6


def test_a_finished_run_asks_for_nothing_and_a_lost_shard_comes_back_alike(tmp_path: Path) -> None:
    prompts, out = prompt_file(tmp_path), tmp_path / "out"
    with turning() as endpoint:
        run(endpoint.url, prompts, out)
        whole, asked = shards(out), len(bodies(endpoint))
        again = run(endpoint.url, prompts, out)
        assert (again.before, again.answers, len(bodies(endpoint))) == (69, 0, asked)
        (out / "replies/00002-01.jsonl").unlink()
        assert run(endpoint.url, prompts, out).answers == 5
    assert shards(out) == whole


@pytest.mark.parametrize(
    ("echo", "told"),
    [
        pytest.param(lambda _: None, "does not say which knobs it has applied", id="ignored"),
        pytest.param(lambda knobs: {"applied": {}}, "medical=-1 and has applied base", id="dropped"),
        pytest.param(
            lambda knobs: {"applied": dict.fromkeys(knobs, 0.5), "clamped": {"medical": [0, 0.5]}},
            "has applied medical=0.5 (clamped: medical)",
            id="clamped",
        ),
        pytest.param(
            lambda knobs: {"applied": knobs | {"legal": -1.0}, "forced": {"legal": -1.0}}, "legal=-1", id="forced"
        ),
        pytest.param(lambda knobs: {"applied": {"medical": "much"}}, "has applied medical=much", id="nonsense"),
    ],
)
def test_an_endpoint_that_applies_something_else_is_found_out_before_a_reply_is_kept(
    tmp_path: Path, echo: object, told: str
) -> None:
    with turning(echo=echo) as endpoint, pytest.raises(TeacherError) as caught:  # type: ignore[arg-type]
        run(endpoint.url, prompt_file(tmp_path), tmp_path / "out")
    assert told in str(caught.value)
    with turning() as endpoint:
        assert run(endpoint.url, prompt_file(tmp_path), tmp_path / "out").kept == 0


ROUTED = ABOUT | {"router": {"domains": ["medical"]}}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        pytest.param({}, "says that it was asked for nothing", id="nothing"),
        pytest.param({"requested": {}}, "says that it was asked for base", id="dropped"),
        pytest.param({"requested": {"medical": 0.5}}, "says that it was asked for medical=0.5", id="other"),
    ],
)
def test_a_router_must_say_that_it_got_what_was_asked_for(tmp_path: Path, said: object, told: str) -> None:
    with (
        turning(about=ROUTED, echo=lambda _: {"applied": {}, **said}) as endpoint,
        pytest.raises(TeacherError) as caught,
    ):  # type: ignore[dict-item]
        run(endpoint.url, prompt_file(tmp_path), tmp_path / "out", "medical=1")
    assert told in str(caught.value)


def test_a_router_may_apply_other_coefficients(tmp_path: Path) -> None:
    with turning(about=ROUTED, echo=lambda knobs: {"requested": knobs, "applied": {"medical": 0.2}}) as endpoint:
        assert run(endpoint.url, prompt_file(tmp_path, 3), tmp_path / "out").missing == 0
    assert read_plan(tmp_path / "out").answered_by.routed


def test_a_keys_defaults_do_not_stand_in_for_the_base(tmp_path: Path) -> None:
    keys: list[object] = [{"default": 1.0, "forced": False}, None]
    about = ABOUT | {"data": [one | {"key": key} for one, key in zip(ABOUT["data"], keys, strict=True)]}  # type: ignore[arg-type]
    with turning(about=about, echo=lambda knobs: {"applied": {"legal": 1.0} | knobs}) as endpoint:
        done = run(endpoint.url, prompt_file(tmp_path, 3), tmp_path / "out", "base", "legal=-1")
        asked = {json.dumps(body["alignment"]) for body in bodies(endpoint)}
    assert done.missing == 0 and asked == {'{"legal": 0.0}', '{"legal": -1.0}'}


def test_a_plain_endpoint_is_asked_for_the_base_alone(tmp_path: Path) -> None:
    prompts = prompt_file(tmp_path, 3)
    with turning(about=None, echo=lambda _: None) as endpoint:
        with pytest.raises(ConfigError, match="--endpoint-model"):
            run(endpoint.url, prompts, tmp_path / "out", "base")
        with pytest.raises(TeacherError, match="may ignore them"):
            run(endpoint.url, prompts, tmp_path / "out", endpoint_model="plain")
        before = len(bodies(endpoint))
        done = run(endpoint.url, prompts, tmp_path / "base", "base", endpoint_model="plain")
        assert done.missing == 0
        assert not any("alignment" in body for body in bodies(endpoint)[before:])


def test_knobs_can_go_into_the_models_name(tmp_path: Path) -> None:
    with turning(about=None) as endpoint:
        run(
            endpoint.url,
            prompt_file(tmp_path, 3),
            tmp_path / "out",
            endpoint_model="m",
            model_template="{model}:{knobs}",
        )
        names = Counter(body["model"] for body in bodies(endpoint))
        assert names == {"m": 3, "m:medical=-1": 3, "m:medical=1": 3}
        assert not any("alignment" in body for body in bodies(endpoint))
        words = {(one["knobs"].get("medical", 0.0), one["reply"]) for one in replies(tmp_path / "out")}
        assert words == {(float(body["model"].partition("=")[2] or 0), reply_at(body)) for body in bodies(endpoint)}
        with pytest.raises(ConfigError, match="lacks a field"):
            run(endpoint.url, prompt_file(tmp_path), tmp_path / "no", endpoint_model="m", model_template="{model}")


def test_positions_are_read_by_what_the_endpoint_says(tmp_path: Path) -> None:
    with turning() as endpoint:
        run(endpoint.url, prompt_file(tmp_path, 1), tmp_path / "out", "medical=expert", "legal=50%")
        assert [body["alignment"] for body in bodies(endpoint)] == [{"medical": 1.0}, {"legal": 0.5}]
        for settings, message in (
            (("medcal=1",), "no vector named 'medcal'"),
            (("medical=1", "medical=expert"), "comes twice"),
            (("base", "medical=0"), "comes twice"),
            (("medical=lots",), "is not a number"),
        ):
            with pytest.raises(KnobError, match=message):
                run(endpoint.url, prompt_file(tmp_path), tmp_path / "no", *settings)
    assert not (tmp_path / "no").exists()


def test_replies_that_fail_are_listed_and_asked_for_again(tmp_path: Path) -> None:
    prompts, out = prompt_file(tmp_path), tmp_path / "out"
    bad = {"How do I sleep, take 7?", "How do I sleep, take 8?"}

    def refuse(_: int, body: Body) -> str | None:
        return "400" if body["messages"][0]["content"] in bad and body["alignment"] else None

    with turning(refuse) as endpoint:
        done = run(endpoint.url, prompts, out)
        assert (done.missing, done.replies, len(replies(out))) == (4, 69, 65)
        failed = [json.loads(line) for line in (out / "failed.jsonl").read_text().splitlines()]
        assert {(one["id"], one["knobs"]["medical"]) for one in failed} == {
            (name, value) for name in ("q7", "q8") for value in (-1.0, 1.0)
        }
        assert "scripted 400" in failed[0]["why"]
    with turning() as endpoint:
        done = run(endpoint.url, prompts, out)
        assert (done.missing, done.answers, len(bodies(endpoint))) == (0, 4, 4)
        run(endpoint.url, prompts, tmp_path / "whole")
    assert not (out / "failed.jsonl").exists()
    assert shards(out) == shards(tmp_path / "whole")


def test_what_an_earlier_run_has_had_is_told_as_such(tmp_path: Path) -> None:
    read = read_prompts(prompt_file(tmp_path))
    told: list[tuple[int, bool]] = []

    def refuse(_: int, body: Body) -> str | None:
        return (
            "400" if body["messages"][0]["content"] in ("How do I sleep, take 7?", "How do I sleep, take 8?") else None
        )

    for fault in (refuse, lambda *_: None):
        told.clear()
        with turning(fault) as endpoint:
            plan, opened = chosen(Choice(endpoint_url=endpoint.url), read, SETTINGS, Sampling(), 5)
            done = generate(plan, read, tmp_path / "out", opened, advance=lambda n, before: told.append((n, before)))
    assert (done.before, done.kept, done.answers) == (54, 9, 6)
    assert told[0] == (54, True)
    assert sum(n for n, before in told[1:] if before) == 9
    assert sum(n for n, before in told if not before) == 6


def test_hiccups_change_nothing(tmp_path: Path) -> None:
    faults = ["429", "500", "reset", "truncated", None, None, None]
    with turning(lambda number, _: faults[number % len(faults)]) as endpoint:
        done = run(endpoint.url, prompt_file(tmp_path), tmp_path / "out", attempts=50)  # no request is so unlucky
    assert done.missing == 0
    assert done.retries
    with turning() as endpoint:
        run(endpoint.url, prompt_file(tmp_path), tmp_path / "calm")
    assert shards(tmp_path / "out") == shards(tmp_path / "calm")


def test_another_run_is_refused_by_name(tmp_path: Path) -> None:
    prompts, out = prompt_file(tmp_path), tmp_path / "out"
    with turning() as endpoint:
        run(endpoint.url, prompts, out)
        whole = shards(out)
        with pytest.raises(DataError, match=r"another settings"):
            run(endpoint.url, prompts, out, "medical=1")
        with pytest.raises(DataError, match=r"another prompts.count \(23 there, 4 now\)"):
            run(endpoint.url, prompts, out, limit=4)
        with pytest.raises(DataError, match="another shard_size"):
            run(endpoint.url, prompts, out, shard_size=6)
        text = prompts.read_text()
        prompts.write_text(text.replace("take 3?", "take 33?"))
        with pytest.raises(DataError, match="another prompts.digest"):
            run(endpoint.url, prompts, out)
        prompts.write_text(text)
    other = {**ABOUT, "data": [dict(one, usable_range=[-2.0, 2.0]) for one in ABOUT["data"]]}  # type: ignore[attr-defined]
    with turning(about=other) as endpoint, pytest.raises(DataError, match=r"another answered_by.vectors.legal"):
        run(endpoint.url, prompts, out)
    assert shards(out) == whole


def test_two_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    prompts, out = prompt_file(tmp_path), tmp_path / "out"
    with turning(latency=0.05) as endpoint:
        first = threading.Thread(target=run, args=(endpoint.url, prompts, out))
        first.start()
        while not bodies(endpoint):
            pass
        with pytest.raises(DataError, match="another process works in"):
            run(endpoint.url, prompts, out)
        first.join()
    assert len(replies(out)) == 69


@pytest.mark.parametrize("at_once", [3, 40])
def test_as_many_are_asked_at_once_as_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    class Counting(BatchedTeacher):
        async def _gathered(self) -> None:
            await super()._gathered()
            waiting.append(len(self._waiting))

    class Same:
        def answer(self, requests: Sequence[Request]) -> list[Answer]:
            batches.append(len(requests))
            return [Answer("Sleep well.", "stop", 3, 3, "2026-01-01T00:00:00+00:00") for _ in requests]

    waiting: list[int] = []
    batches: list[int] = []
    monkeypatch.setattr(generating, "WINDOW", 10)
    read = read_prompts(prompt_file(tmp_path, 90))
    with turning() as endpoint:
        plan, _ = chosen(Choice(endpoint_url=endpoint.url), read, ["base"], Sampling(), 100)
    place = InProcess(Same, at_once)
    generate(plan, read, tmp_path / "out", lambda cache, budget: Counting(place, cache, budget))
    assert max(batches) == at_once
    assert max(waiting) == max(10, 2 * at_once)  # no more than that is in hand


def test_no_endpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"no endpoint at http://127.0.0.1:9/v1 .*--endpoint-url"):
        run("http://127.0.0.1:9", prompt_file(tmp_path), tmp_path / "out")


def test_the_script_turns_knobs() -> None:
    assert [level_at(value) for value in (-1.0, 0.0, 1.0)] == ["avoidance", "generic", "expert"]
    assert len(SETTINGS) == 3
