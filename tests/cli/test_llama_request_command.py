"""`alignvec export --knobs` and `alignvec llama-request` on the tiny model: what they write, say and refuse."""

import json
from pathlib import Path

import pytest
from running import Command, assert_told, prepared

from alignvec.vectors.store import save_vector
from tests.conftest import MakeVector


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return prepared(monkeypatch, capfd, tmp_path)


@pytest.fixture
def vectors(make_vector: MakeVector, tmp_path: Path) -> Path:
    for seed, name in enumerate(("medical", "legal")):
        save_vector(make_vector(name, seed=seed), tmp_path / "vectors" / name)
    return tmp_path / "vectors"


@pytest.fixture
def exported(command: Command, vectors: Path, tiny_folder: Path, tmp_path: Path) -> Path:
    options = ("--format", "gguf", "--knobs", "--vectors", vectors, "--model", tiny_folder)
    done = command("export", *options, "--out", tmp_path / "knobs")
    assert done.code == 0, done.err
    names = [f"{i:02d}-{name}.{side}.gguf" for i, (name, side) in enumerate(SIDES)]
    loaded = ",".join(f"{tmp_path}/knobs/{name}:0" for name in names)
    assert f"llama-server -m BASE.gguf --lora-scaled {loaded} --cache-ram 0" in done.out
    for number, (name, side) in enumerate(SIDES):
        where = "above" if side == "plus" else "below"
        assert f"adapter {number}: {name} {where} 0, {names[number]}\n" in done.out
    return tmp_path / "knobs"


SIDES = (("legal", "plus"), ("legal", "minus"), ("medical", "plus"), ("medical", "minus"))


def test_a_setting_becomes_a_request(command: Command, exported: Path) -> None:
    done = command("llama-request", "--adapters", exported, "--knob", "medical=expert,legal=-0.3")
    assert (done.code, done.err) == (0, "")
    scales = [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 0.3}, {"id": 2, "scale": 1.0}, {"id": 3, "scale": 0.0}]
    assert json.loads(done.out) == {"lora": scales, "cache_prompt": False}
    done = command("llama-request", "--adapters", exported, "--reuse-prompt")
    assert json.loads(done.out) == {"lora": [{"id": i, "scale": 0.0} for i in range(4)]}


def test_a_knob_outside_its_range_is_cut_or_refused(command: Command, exported: Path) -> None:
    manifest = json.loads((exported / "knobs.json").read_text())
    manifest["knobs"]["medical"]["usable"] = [-0.5, 0.5]
    (exported / "knobs.json").write_text(json.dumps(manifest))
    asked = ("llama-request", "--adapters", exported, "--knob", "medical=expert")
    done = command(*asked)
    assert json.loads(done.out)["lora"][2] == {"id": 2, "scale": 0.5}
    assert "medical=1 is outside its usable range -0.5 to 0.5; cut to medical=0.5" in done.err
    assert_told(command(*asked, "--strict"), "KnobError", "medical=1")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--knob", "medcal=1"), ("KnobError", "medcal", "medical")),
        (("--knob", "medical=loud"), ("KnobError", "loud", "expert")),
        (("--knob", "medical=1", "--knob", "medical=1"), ("KnobError", "twice")),
        (("--server", "http://127.0.0.1:9"), ("ConfigError", "127.0.0.1:9", "llama-server")),
    ],
    ids=["unknown", "no-level", "twice", "no-server"],
)
def test_mistakes_are_told_in_one_line(
    command: Command, exported: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    assert_told(command("llama-request", "--adapters", exported, *arguments), *parts)


@pytest.mark.parametrize(
    "arguments",
    [("--knobs",), ("--knobs", "--format", "peft"), ("--knobs", "--format", "gguf", "--knob", "medical=1"), ()],
    ids=["peft-by-default", "peft", "with-a-setting", "nothing"],
)
def test_what_does_not_go_together_is_refused(
    command: Command, vectors: Path, tiny_folder: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = command("export", *arguments, "--vectors", vectors, "--model", tiny_folder, "--out", tmp_path / "out")
    assert_told(done, "ConfigError", "--knob")
    assert not (tmp_path / "out").exists()


def test_other_folders_are_left_alone(command: Command, vectors: Path, tiny_folder: Path, tmp_path: Path) -> None:
    options = ("--format", "gguf", "--knobs", "--vectors", vectors, "--model", tiny_folder)
    for place in (tmp_path / "file", vectors):
        assert_told(command("export", *options, "--out", place), "StorageError", place)
    assert_told(command("llama-request", "--adapters", vectors), "VectorError", "knobs.json", "alignvec export")
