"""`alignvec calibrate` on the tiny model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Command, assert_told

from alignvec.solve.knob_meter import KnobMeter, Position
from alignvec.steer.model import KnobbedModel
from alignvec.steer.scale import scale_of
from alignvec.vectors.calibration import Spillover
from alignvec.vectors.store import load_card, load_vector, save_card, save_vector


@pytest.fixture
def place(make_vector: Any, tmp_path: Path) -> Path:
    """Folder of a vector for the tiny model."""
    save_vector(make_vector(scale=0.3), tmp_path / "medical")
    return tmp_path / "medical"


@pytest.fixture
def calibrate(command: Command, place: Path, tiny_folder: Path, data_file: Path) -> Any:
    """Calls the command with a short run's options."""
    options = ["--model", tiny_folder, "--data", data_file, "--text", data_file, "--max-new-tokens", 4, "--points", 6]
    return lambda *more: command("calibrate", place, *options, *more)


def test_it_prints_json_alone_and_the_same_as_it_stores(calibrate: Any, tmp_path: Path) -> None:
    done = calibrate("--out", tmp_path / "out", "--json", "--generate", 2, "--degenerate", 1, "--off-language", 1)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found == json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"calibration.json", "calibration.png", "journal.jsonl"}
    calibration = found["calibration"]
    assert (calibration["data"], calibration["queries"]) == ("medical.jsonl validation", 4)
    assert calibration["generation"]["queries"] == 2
    assert len(calibration["points"]) == 6
    assert calibration["limits"] == {"perplexity": 1.25, "degenerate": 1.0, "off_language": 1.0}
    low, high = calibration["usable"]
    assert all(low <= value <= high for value in calibration["settings"].values())
    assert "generating" in done.err


def test_the_card_keeps_it_with_its_settings_and_nothing_else_changes(calibrate: Any, place: Path) -> None:
    before = load_card(place)
    done = calibrate("--card", "--perplexity", 100, "--degenerate", 1, "--off-language", 1)
    assert done.code == 0, done.err
    card = load_card(place)
    assert card.calibration is not None
    assert card.settings == card.calibration.settings
    assert card.model_copy(update={"calibration": None, "settings": before.settings}) == before
    assert load_vector(place).card == card
    assert scale_of(card).usable == card.calibration.usable == (-1.0, 1.5)
    for point in card.calibration.points:
        assert f"{point.perplexity:.2f}" in done.out
    assert "usable from λ = -1 (nothing was measured beyond) to 1.5 (nothing was measured beyond)" in done.out
    assert "recommended: avoidance at λ = " in done.out and "judge: " in done.out


def test_what_was_saved_meanwhile_stays_and_another_vector_keeps_nothing(
    calibrate: Any, place: Path, make_vector: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = KnobMeter.measure

    def meanwhile(change: Callable[[], None]) -> None:
        def measure(self: KnobMeter, *arguments: Any) -> list[Position]:
            change()
            return measured(self, *arguments)

        monkeypatch.setattr(KnobMeter, "measure", measure)

    spilt = Spillover(data="d", points=[])
    meanwhile(lambda: save_card(place, load_card(place).model_copy(update={"spillover": spilt})))
    assert calibrate("--card").code == 0
    assert load_card(place).spillover == spilt and load_card(place).calibration is not None
    save_vector(make_vector(seed=1), tmp_path / "other")
    meanwhile(lambda: save_vector(make_vector(seed=1), place) and None)
    done = calibrate("--card", "--json")
    assert done.code == 2 and "was replaced while it was measured" in done.errors[0]
    assert json.loads(done.out)["vector"] == "medical", "the result is not lost"
    assert load_card(place) == load_card(tmp_path / "other")


def test_a_knob_between_two_levels_is_given_no_other(calibrate: Any, place: Path) -> None:
    save_card(place, load_card(place).model_copy(update={"levels": ("generic", "expert"), "settings": {}}))
    done = calibrate("--card")
    assert done.code == 0, done.err
    assert list(load_card(place).settings) == ["generic", "expert"]
    assert "recommended: generic at λ = " in done.out
    save_card(place, load_card(place).model_copy(update={"levels": ("generic", "formal")}))
    assert_told(calibrate(), "DataError", "names the level formal", "--data")


def test_a_second_run_measures_nothing_and_other_settings_are_refused(
    calibrate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = calibrate("--out", tmp_path / "out", "--json")
    assert first.code == 0, first.err
    monkeypatch.delattr(KnobbedModel, "score")
    monkeypatch.delattr(KnobbedModel, "generate")
    again = calibrate("--out", tmp_path / "out", "--json")
    assert json.loads(again.out)["calibration"] == json.loads(first.out)["calibration"]
    assert_told(calibrate("--out", tmp_path / "out", "--seed", 1), "DataError", "choose another --out")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--points", "4"], ["--points", "5"]),
        (["--max", "0.5"], ["--max"]),
        (["--perplexity", "0.9"], ["--perplexity"]),
        (["--perplexity", "inf"], ["--perplexity"]),
        (["--perplexity", "nan"], ["--perplexity"]),
        (["--degenerate", "nan"], ["--degenerate"]),
        (["--max", "nan"], ["--max"]),
        (["--degenerate", "2"], ["--degenerate"]),
        (["--generate", "0"], ["--generate"]),
        (["--language", "klingon"], ["ConfigError", "no language 'klingon'"]),
        (["--text", "/none/rows.jsonl"], ["DataError", "/none/rows.jsonl"]),
        (["--data", "/none/rows.jsonl"], ["DataError", "/none/rows.jsonl", "--data"]),
        (["--card", "--allow-other-base"], ["ConfigError", "leave out --allow-other-base"]),
        (["--out", "file"], ["StorageError", "file", "choose another place"]),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_measured(
    calibrate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], parts: list[str]
) -> None:
    monkeypatch.delattr(KnobbedModel, "score")
    monkeypatch.chdir(tmp_path)
    assert_told(calibrate(*arguments), *parts)
