"""The audit log: whole lines from many threads, no text unless asked for, no keys, and full or forbidden places."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from alignvec.errors import StorageError
from alignvec.serve.policy.audit import AuditLog, Entry
from alignvec.serve.policy.keys import new_key
from alignvec.serve.setting import Setting
from tests.serve.scripted_engine import ScriptedEngine
from tests.serve.serving import make_service, served

SETTING = Setting(requested={"medical": "expert"}, applied={"medical": 1.0}, clamped={"medical": (-1.0, 1.0)})


def entry(request: str = "r1", *, model: str = "demo", prompt: str | None = "hello", reply: str = "hi") -> Entry:
    return Entry(
        key="public",
        request=request,
        endpoint="/v1/chat/completions",
        model=model,
        status=200,
        seconds=0.5,
        alignment=SETTING,
        prompt_tokens=3,
        completion_tokens=2,
        finish=("stop", None),
        prompt=prompt,
        reply=[reply],
    )


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_a_line_tells_who_used_which_knobs_when_but_no_text(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "audit.jsonl"
    AuditLog(path).write(entry())
    (line,) = lines(path)
    when = datetime.fromisoformat(str(line.pop("time")))
    assert when.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - when) < timedelta(days=1)
    assert line == {
        "key": "public",
        "request": "r1",
        "endpoint": "/v1/chat/completions",
        "model": "demo",
        "status": 200,
        "seconds": 0.5,
        "alignment": {
            "requested": {"medical": "expert"},
            "applied": {"medical": 1.0},
            "clamped": {"medical": [-1.0, 1.0]},
            "forced": {},
            "routed": {},
        },
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "finish": ["stop", None],
        "error": None,
    }


def test_texts_are_kept_if_asked_for_and_later_logs_append(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path, prompts=True).write(entry(prompt="two\nlines \u2028 \ud800"))
    AuditLog(path, prompts=True).write(entry("r2", reply="ok"))
    first, second = lines(path)
    assert (first["prompt"], first["reply"]) == ("two\nlines \u2028 \ud800", ["hi"])
    assert (second["request"], second["reply"]) == ("r2", ["ok"])


def test_keys_are_cut_out_wherever_they_stand(tmp_path: Path) -> None:
    key, path = new_key(), tmp_path / "audit.jsonl"
    AuditLog(path, prompts=True).write(entry(key, model=f"demo:{key}", prompt=f"my key is {key}!", reply=f"{key}{key}"))
    assert key[3:] not in path.read_text()
    assert lines(path)[0]["prompt"] == "my key is av-…!"


def test_lines_of_eight_threads_are_whole(tmp_path: Path) -> None:
    log, path = AuditLog(tmp_path / "audit.jsonl", prompts=True), tmp_path / "audit.jsonl"

    def write(thread: int) -> None:
        for i in range(50):
            log.write(entry(f"{thread}-{i}", reply=str(thread) * 20_000))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    found = lines(path)
    assert {str(line["request"]) for line in found} == {f"{t}-{i}" for t in range(8) for i in range(50)}
    assert len(found) == 400
    assert all(line["reply"] == [str(line["request"])[0] * 20_000] for line in found)


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = AuditLog(None)
    log.write(entry())
    log.close()
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file" / "audit.jsonl"):
        with pytest.raises(StorageError, match="cannot write"):
            AuditLog(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_is_told() -> None:
    log = AuditLog(Path("/dev/full"))
    with pytest.raises(StorageError, match="no space left"):
        log.write(entry())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_is_logged_and_does_not_take_a_reply_with_it(
    tiny: Any, make_vector: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(ScriptedEngine(tiny, [make_vector("medical")]), audit=AuditLog(Path("/dev/full")))
    with served(service) as address:
        reply = httpx2.post(
            f"{address}/v1/completions", json={"model": "demo", "prompt": "Hi", "max_tokens": 2}, timeout=20
        )
    assert reply.status_code == 200 and reply.json()["choices"][0]["text"]
    assert "audit log: " in caplog.text and "no space left" in caplog.text
