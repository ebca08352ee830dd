"""`alignvec export` on the tiny model: what it writes, says and refuses."""

import json
from pathlib import Path

import pytest
from running import Command, assert_told, prepared

from alignvec.merge.gguf import read_gguf
from alignvec.vectors.adapter import read_adapter
from alignvec.vectors.store import load_vector, save_vector
from tests.conftest import MakeVector


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return prepared(monkeypatch, capfd, tmp_path)


@pytest.fixture
def vectors(make_vector: MakeVector, tmp_path: Path) -> Path:
    for seed, name in enumerate(("medical", "legal")):
        save_vector(make_vector(name, seed=seed), tmp_path / "vectors" / name)
    return tmp_path / "vectors"


def test_both_formats_hold_the_same_sum(command: Command, tiny_folder: Path, vectors: Path, tmp_path: Path) -> None:
    common = ("export", "--knob", "medical=expert,legal=-0.5", "--vectors", vectors, "--model", tiny_folder)
    done = command(*common, "--out", tmp_path / "peft")
    assert done.code == 0, done.err
    for part in ("medical=1,legal=-0.5", "14 tensors", "14 of rank 4", "exact", f"saved to {tmp_path / 'peft'}"):
        assert part in done.out
    done = command(*common, "--out", tmp_path / "a.gguf", "--format", "gguf")
    assert done.code == 0, done.err
    one, other = read_adapter(tmp_path / "peft"), read_gguf(tmp_path / "a.gguf", tiny_folder)
    medical, legal = load_vector(vectors / "medical"), load_vector(vectors / "legal")
    assert legal.negative is not None
    for name, delta in one.items():
        expected = medical.positive[name].dense().double() + 0.5 * legal.negative[name].dense().double()
        assert (delta.dense() - expected).abs().max() < 1e-6
        assert (other[name].dense() - expected).abs().max() < 1e-6


def test_json_rank_and_dtype(command: Command, tiny_folder: Path, vectors: Path, tmp_path: Path) -> None:
    done = command(
        *("export", "--knob", "medical=1", "--knob", "legal=1", "--vectors", vectors, "--model", tiny_folder, "--json"),
        *("--rank", 3, "--dtype", "float16", "--out", tmp_path / "out"),
    )
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report == json.loads((tmp_path / "out/alignvec.json").read_text())
    assert (report["knobs"], report["ranks"], report["dtype"]) == ({"medical": 1, "legal": 1}, {"3": 14}, "float16")
    medical, legal = load_vector(vectors / "medical"), load_vector(vectors / "legal")
    found = read_adapter(tmp_path / "out")
    assert set(found) == set(medical.positive)
    off = whole = 0.0
    for name, delta in found.items():
        exact = medical.positive[name].dense().double() + legal.positive[name].dense().double()
        off += float((delta.dense().double() - exact).square().sum())
        whole += float(exact.square().sum())
    assert report["relative_error"] == pytest.approx((off / whole) ** 0.5, rel=1e-3)
    assert report["relative_error"] > 0.01  # rank 3 of 4 loses something


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--knob", "medcal=1"), ("KnobError", "medcal", "medical")),
        (("--knob", "medical=loud"), ("KnobError", "loud", "expert")),
        (("--knob", "medical=1", "--knob", "medical=2"), ("KnobError", "medical", "twice")),
        (("--knob", "medical=generic"), ("KnobError", "nothing to export")),
        (("--knob", "base"), ("KnobError", "nothing to export")),
        (("--knob", "medical=1", "--model", "none"), ("ModelError", "none")),
    ],
)
def test_mistakes_are_told_in_one_line(
    command: Command,
    tiny_folder: Path,
    vectors: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    model = () if "--model" in arguments else ("--model", tiny_folder)
    done = command("export", *arguments, *model, "--vectors", vectors, "--out", tmp_path / "out")
    assert_told(done, *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["peft", "gguf"])
def test_what_is_there_is_not_overwritten(
    command: Command, tiny_folder: Path, vectors: Path, tmp_path: Path, format: str
) -> None:
    options = ("--knob", "medical=1", "--vectors", vectors, "--model", tiny_folder, "--format", format)
    for place in (tmp_path / "file", vectors / "medical"):
        assert_told(command("export", *options, "--out", place), "StorageError", place, "--out")
    assert (tmp_path / "file").read_text() == "mine"
    assert (vectors / "medical/card.json").is_file()
