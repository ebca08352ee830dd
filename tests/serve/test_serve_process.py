"""The server as a process: its address, its policy, its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from alignvec.errors import ConfigError
from alignvec.serve.address import bind, require_loopback
from tests.cli.running import assert_told, prepared
from tests.serve.routers import UNSURE, router_of

BODY = {"model": "model", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "seed": 1}


@contextmanager
def process(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`alignvec serve` and the URL that it says."""
    command = [sys.executable, "-m", "alignvec.cli.app", "serve", "--port", "0", "--no-page", *map(str, arguments)]
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    )
    try:
        assert running.stderr is not None
        said = ""
        for line in running.stderr:
            said += line
            if line.startswith("serving http"):
                break
        assert "serving http" in said, said
        assert "no policy: loopback only" in line
        yield running, line.split()[1]
    finally:
        running.kill()
        running.communicate()


@pytest.fixture
def folders(tiny_folder: Path, make_vector: Any, tmp_path: Path) -> tuple[Path, Path]:
    from alignvec.vectors.store import save_vector

    save_vector(make_vector("medical"), tmp_path / "vectors" / "medical")
    return tiny_folder, tmp_path / "vectors"


def test_sigterm_lets_streams_finish(folders: tuple[Path, Path]) -> None:
    model, vectors = folders
    with process("--model", model, "--vectors", vectors) as (running, url):
        assert httpx2.get(f"{url}/ready", timeout=120).status_code == 200
        idle = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        whole = httpx2.post(
            f"{url}/v1/completions",
            json={"model": "model", "prompt": "a", "max_tokens": 60, "seed": 1},
            timeout=120,
        )
        body = {"model": "model", "prompt": "a", "max_tokens": 60, "seed": 1, "stream": True}
        with httpx2.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as stream:
            lines = stream.iter_lines()
            first = next(lines)
            running.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        parts = [json.loads(line.removeprefix("data: ")) for line in [first, *rest[:-1]]]
        text = "".join(part["choices"][0]["text"] for part in parts)
        assert text == whole.json()["choices"][0]["text"]
        assert running.wait(60) == 0
        idle.close()
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()


def test_router_and_settings_are_served(folders: tuple[Path, Path], tiny: Any, tmp_path: Path) -> None:
    from alignvec.steer.router import save_router

    model, vectors = folders
    save_router(router_of(tiny, medical=UNSURE), tmp_path / "router")
    (tmp_path / "s.yaml").write_text("settings: {medical=expert: {knobs: {medical: 0.8}, reached: true}}")
    options = ("--router", tmp_path / "router", "--settings", tmp_path / "s.yaml")
    with process("--model", model, "--vectors", vectors, *options) as (running, url):
        told = httpx2.get(f"{url}/v1/alignment", timeout=120).json()
        assert told["router"] == {"domains": ["medical"]}
        (goal,) = told["goals"]
        assert (goal["goal"], goal["knobs"], goal["reached"]) == ("medical=expert", {"medical": 0.8}, True)
        body = BODY | {"max_tokens": 4, "alignment": {"goal": "medical=expert"}}
        answers = [httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=120).json() for _ in range(2)]
        assert httpx2.post(f"{url}/v1/alignment/reload", timeout=120).status_code == 200
        answers.append(httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=120).json())
        assert [answer["alignment"]["applied"] for answer in answers] == [{"medical": 0.4}] * 3
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0


def test_a_second_signal_does_not_wait(folders: tuple[Path, Path]) -> None:
    model, vectors = folders
    with process("--model", model, "--vectors", vectors) as (running, url):
        body = {"model": "model", "prompt": "a", "max_tokens": 480, "stream": True}
        with httpx2.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as stream:
            next(stream.iter_lines())
            running.send_signal(signal.SIGINT)
            assert running.stderr is not None
            assert "stopping" in running.stderr.readline()
            running.send_signal(signal.SIGINT)
            assert running.wait(60) in (0, 130)  # 0 if the reply was done in between


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_without_policy_only_loopback(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--policy"):
        require_loopback(host, None)
    require_loopback(host, tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_policy(host: str) -> None:
    require_loopback(host, None)


def test_a_port_that_is_taken(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = prepared(monkeypatch, capsys, tmp_path)
    model, vectors = folders
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_told(command("serve", "--model", model, "--vectors", vectors, "--port", port), port, "in use", "--port")
    assert_told(command("serve", "--host", "0.0.0.0"), "loopback", "--policy")
    assert_told(command("serve", "--audit-prompts"), "--audit")
    assert_told(command("serve", "--vectors", tmp_path / "none"), "--vectors")
    assert_told(command("serve", "--policy", tmp_path / "none.yaml"), "none.yaml")
    options = ("--model", model, "--vectors", vectors, "--port", 0)
    assert_told(command("serve", *options, "--settings", tmp_path / "none.yaml"), "none.yaml", "alignvec solve")
    assert_told(command("serve", *options, "--router", tmp_path), "no router in", "alignvec route")
    (tmp_path / "s.yaml").write_text("settings: {tax=expert: {knobs: {tax: 1}}}")
    assert_told(command("serve", *options, "--settings", tmp_path / "s.yaml"), "goal tax=expert", "'tax'")


def test_addresses_that_are_not_ours() -> None:
    for host in ("no-such-host.invalid", "203.0.113.9"):
        with pytest.raises(ConfigError, match="--host"):
            bind(host, 0).close()


def test_replies_of_the_real_engine(tiny: Any, make_vector: Any) -> None:
    """Greedy replies of several settings at once are those that each has alone on the knobbed model."""
    from alignvec.serve.engine.engine import Engine, EngineSettings
    from alignvec.steer.model import KnobbedModel
    from alignvec.steer.sampling import GREEDY
    from tests.serve.serving import make_service, served

    vectors = [make_vector("medical", scale=0.3)]
    alone = KnobbedModel(tiny, vectors)
    knobs = [{"medical": value} for value in (-1.0, 0.0, 0.5, 1.0)]
    wanted = [alone.generate(["hi"], [k], GREEDY.model_copy(update={"max_new_tokens": 12}))[0] for k in knobs]
    engine = Engine(tiny, vectors, EngineSettings(max_batch=4, queue=4, context=128))
    engine.start()
    got: dict[int, str] = {}
    try:
        with served(make_service(engine)) as url:

            def ask(i: int) -> None:
                body = BODY | {"model": "demo", "max_tokens": 12, "alignment": knobs[i]}
                answer = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=120)
                got[i] = answer.json()["choices"][0]["message"]["content"]

            threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(knobs))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
    finally:
        engine.stop()
    assert len(set(wanted)) > 1
    assert [got[i].strip() for i in range(len(knobs))] == [text.strip() for text in wanted]
