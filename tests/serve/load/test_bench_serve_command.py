"""`alignvec bench-serve` against a scripted server: what it sends, prints, draws and refuses."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from alignvec.cli.bench_serve import bench_serve
from alignvec.errors import AlignvecError
from tests.serve.load.scripted_server import Script, scripted_server

app = typer.Typer()
app.command()(bench_serve)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Script]]:
    with scripted_server() as found:
        yield found


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_one_json_line_and_a_picture(server: tuple[str, Script], data_file: Path, tmp_path: Path) -> None:
    url, script = server
    before, picture = len(script.bodies), tmp_path / "new" / "load.png"
    options = ("--rate", 500, "--requests", 6, "--settings", "base", "--settings", "medical=expert", "--max-tokens", 9)
    done = call("--url", url, *options, "--data", data_file, "--limit", 3, "--json", "--plot", picture)
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 1
    report = json.loads(done.stdout)
    assert report["summary"]["kinds"] == {"answered": 6}
    assert report["summary"]["statuses"] == {"200": 6}
    assert (report["model"], report["prompts"], report["config"]["max_tokens"]) == ("scripted", 3, 9)
    assert report["provenance"]["versions"]
    sent = sorted((b["user"], b["messages"][0]["content"], str(b["alignment"])) for b in script.bodies[before:])
    knobs = ("{}", "{'medical': 'expert'}")
    wanted = [(f"load-0-{i}", f"How do I sleep better, take {i % 3}?", knobs[i % 2]) for i in range(6)]
    assert sent == wanted
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_table_for_people(server: tuple[str, Script], data_file: Path) -> None:
    done = call("--url", server[0], "--rate", 500, "--requests", 2, "--data", data_file)
    assert done.exit_code == 0, done.output
    assert "first token" in done.stdout and "2 answered" in done.stdout and "200: 2" in done.stdout


def test_the_key_is_sent_and_not_printed(
    server: tuple[str, Script], data_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, script = server
    monkeypatch.setenv("MY_KEY", "sk-test-1")
    done = call("--url", url, "--rate", 9, "--requests", 1, "--data", data_file, "--key-env", "MY_KEY", "--json")
    assert script.keys[-1] == "Bearer sk-test-1"
    assert done.exit_code == 0 and "sk-test-1" not in done.output


def test_a_refused_key_is_told(server: tuple[str, Script], data_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNVEC_API_KEY", "wrong")
    done = call("--url", server[0], "--data", data_file)
    assert isinstance(done.exception, AlignvecError) and "--key-env" in str(done.exception)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--url", "ftp://x"), "not an http(s) URL"),
        (("--url", "http://127.0.0.1:1/v1"), "start `alignvec serve`"),
        (("--rate", "nan"), "--rate"),
        (("--rate", "0"), "--rate"),
        (("--settings", "medical"), "cannot read knob 'medical'"),
    ],
)
def test_what_cannot_work_is_told(options: tuple[str, ...], told: str, data_file: Path) -> None:
    done = call("--data", data_file, *options)
    assert isinstance(done.exception, AlignvecError), done.output
    assert told in str(done.exception)
    assert "\n" not in str(done.exception)


def test_a_server_without_models_is_told(server: tuple[str, Script], data_file: Path) -> None:
    done = call("--url", server[0] + "/nothing", "--data", data_file)
    assert isinstance(done.exception, AlignvecError) and "lists no model (status 404)" in str(done.exception)
