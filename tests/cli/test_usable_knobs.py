"""Knobs outside a usable range: cut with a warning, or refused under --strict, wherever they are turned."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import Command, assert_told

from alignvec.vectors.calibration import Calibration
from alignvec.vectors.store import load_card, save_card, save_vector
from tests.solve.rule_knob import RuleKnob, calibrated

FOUND: Calibration = calibrated(RuleKnob(perplexity=lambda value: 1.0 if abs(value) <= 1 else 2.0))
WARNING = "warning: knob medical=7 is outside its usable range -1 to 1; cut to medical=1"


@pytest.fixture
def place(make_vector: Any, tmp_path: Path) -> Path:
    """Folder of a calibrated vector."""
    save_vector(make_vector(), tmp_path / "medical")
    save_card(tmp_path / "medical", load_card(tmp_path / "medical").model_copy(update={"calibration": FOUND}))
    return tmp_path / "medical"


def command_lines(tiny_folder: Path, tmp_path: Path) -> dict[str, list[Any]]:
    rest = ["--max-new-tokens", 2]
    return {
        "ask": ["ask", "Why?", "--model", tiny_folder, *rest],
        "chat": ["chat", "--model", tiny_folder, *rest],
        "merge": ["merge", "--base", tiny_folder, "--out", tmp_path / "merged"],
        "export": ["export", "--model", tiny_folder, "--out", tmp_path / "adapter"],
    }


@pytest.mark.parametrize("name", ["ask", "chat", "merge", "export"])
def test_a_far_knob_is_cut_with_one_warning_or_refused(
    command: Command, tiny_folder: Path, tmp_path: Path, place: Path, name: str
) -> None:
    line = [*command_lines(tiny_folder, tmp_path)[name], "--vectors", place, "--knob"]
    assert_told(command(*line, "medical=7", "--strict"), "KnobError", "range -1 to 1", "leave out --strict")
    done = command(*line, "medical=7")
    assert done.code == 0, done.err
    assert done.err.count("warning: knob") == done.err.count(WARNING) == 1
    assert "warning" not in done.out
    inside = command(*line, "medical=1", "--strict", *(["--overwrite"] if name == "merge" else []))
    assert inside.code == 0, inside.err
    assert "warning: knob" not in inside.err


def test_ask_answers_as_at_the_end_of_the_range(command: Command, tiny_folder: Path, place: Path) -> None:
    line = ["ask", "Why?", "--model", tiny_folder, "--max-new-tokens", 4, "--vectors", place, "--json"]
    far, end = command(*line, "--knob", "medical=7"), command(*line, "--knob", "medical=1")
    (cut,), (same,) = (json.loads(done.out)["replies"] for done in (far, end))
    assert cut == {**same, "asked": {"medical": 7.0}} and same["asked"] == same["knobs"] == {"medical": 1.0}
    heads = [command(*line[:-1], "--knob", f"medical={value}").out.splitlines()[0] for value in (7, 1)]
    assert heads == ["── medical=7 → medical=1 ──", "── medical=1 ──"]


def test_a_knob_in_a_file_of_settings_is_cut_too(
    command: Command, tiny_folder: Path, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"settings": {"medical=expert": {"knobs": {"medical": 7.0}}}}))
    line = ["ask", "Why?", "--model", tiny_folder, "--max-new-tokens", 2, "--vectors", place]
    done = command(*line, "--knob", f"@{tmp_path / 's.yaml'}", "--json")
    assert done.code == 0 and WARNING in done.err
    assert json.loads(done.out)["replies"][0]["knobs"] == {"medical": 1.0}
    assert_told(command(*line, "--knob", f"@{tmp_path / 's.yaml'}", "--strict"), "KnobError", "medical=7")


def test_chat_cuts_or_refuses_what_is_turned_on_the_way(command: Command, tiny_folder: Path, place: Path) -> None:
    line, script = ["chat", "--model", tiny_folder, "--vectors", place], "/knob medical=7\n/knobs\n/knob base\n/knobs\n"
    done = command(*line, stdin=script)
    assert done.out.splitlines() == ["medical=1 (loaded: medical)", "base (loaded: medical)"]
    assert done.err.count(WARNING) == 1
    strict = command(*line, "--strict", stdin=script)
    assert strict.out.splitlines() == ["base (loaded: medical)"] * 2
    assert len(strict.errors) == 1 and "knob medical=7 is outside" in strict.errors[0]


def test_levels_and_percentages_are_the_calibrations(command: Command, tiny_folder: Path, place: Path) -> None:
    line = ["ask", "Why?", "--model", tiny_folder, "--max-new-tokens", 2, "--vectors", place, "--json", "--strict"]
    done = command(*line, "--knob", "medical=avoidance", "--knob", "medical=50%", "--knob", "medical=100%")
    knobs = [reply["knobs"]["medical"] for reply in json.loads(done.out)["replies"]]
    assert knobs[0] == FOUND.settings["avoidance"] and knobs[2] == FOUND.settings["expert"]
    assert 0 < knobs[1] < knobs[2]


def test_a_vector_of_which_nothing_is_known_may_have_any_coefficient(
    command: Command, tiny_folder: Path, make_vector: Any, tmp_path: Path
) -> None:
    save_vector(make_vector(), tmp_path / "medical")
    line = ["ask", "Why?", "--model", tiny_folder, "--max-new-tokens", 2, "--vectors", tmp_path / "medical"]
    done = command(*line, "--knob", "medical=7", "--strict", "--json")
    assert json.loads(done.out)["replies"][0]["knobs"] == {"medical": 7.0}
    assert "warning" not in done.err
