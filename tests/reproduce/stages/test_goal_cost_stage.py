"""What of the solver's and of joint training's seconds is counted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alignvec.errors import DataError
from alignvec.reproduce.cost.goal_cost import SearchSeconds, time_settings
from alignvec.reproduce.place import Place
from alignvec.reproduce.scale import Scale
from alignvec.reproduce.stages import goal_cost as stage
from alignvec.reproduce.stages.joint import JointRun, JointRuns
from alignvec.solve.measure import Meter
from alignvec.solve.seconds import Phase
from tests.solve.synthetic import BOX, RuleMeter

WARM_UP = 1000.0


class TimedMeter(Meter):
    """Each setting takes 3 s to score and 2 s to reply at; the first call is slow besides."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.box = BOX
        self.scoring = self.generating = Phase()
        self.asked: list[np.ndarray] = []

    def measure(self, points: Any, *_: Any, **__: Any) -> Any:
        slow = 0.0 if self.asked else WARM_UP
        self.asked.append(points)
        self.scoring += Phase(seconds=slow + 3.0 * len(points))
        self.generating += Phase(seconds=slow + 2.0 * len(points))


def test_seconds_of_a_setting_times_settings_without_the_warm_up() -> None:
    meter = TimedMeter()
    found = time_settings(meter, 40, 4, seed=0, advance=lambda *_: None)
    assert (found.settings, found.seconds, found.estimated) == (40, 40 * 5.0, True)
    base, drawn = meter.asked
    assert base.shape == (1, 2) and not base.any()
    assert drawn.shape == (4, 2) and (np.abs(drawn) <= 1).all() and len(np.unique(drawn)) == 8
    again = TimedMeter()
    time_settings(again, 40, 4, seed=0, advance=lambda *_: None)
    assert (again.asked[1] == drawn).all()


def place_of(folder: Path, *seconds: float | None, solved: Path | None = None) -> Place:
    runs = tuple(
        JointRun(recipe=f"r{i}", goal={}, rows=1, steps=1, tokens=1, epochs=1, seconds=one, machine=f"m{i}")
        for i, one in enumerate(seconds)
    )
    place = Place(Scale(solved=solved), folder, lambda *_: None)
    place.keep("joint", JointRuns(runs=runs))
    return place


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths of journals that the stage has read; whatever takes long is replaced."""
    paths: list[Path] = []
    for name in ("domain_vectors", "held_out", "level_judge", "knobbed", "router_of", "row_shares"):
        monkeypatch.setattr(stage, name, lambda *_: [])
    monkeypatch.setattr(Place, "base", SimpleNamespace(tokenizer=None))
    monkeypatch.setattr(stage, "box_of", lambda _: BOX)
    monkeypatch.setattr(stage, "read_journal", paths.append)
    monkeypatch.setattr(stage, "replay", lambda *_, **__: RuleMeter().measure(BOX.design(30, 0)))
    monkeypatch.setattr(stage, "time_search", lambda *_, **__: SearchSeconds(fit=2.0, goals=(1.0, 3.0)))
    monkeypatch.setattr(stage, "Meter", TimedMeter)
    return paths


def test_the_stage_counts_what_was_solved_and_the_runs_that_were_timed(tmp_path: Path, read: list[Path]) -> None:
    journal = tmp_path / "mine.jsonl"
    journal.touch()
    found = stage.measure(place_of(tmp_path, 600.0, None, 900.0, solved=journal))
    assert read == [journal]
    assert (found.settings, found.evaluations, found.estimated) == (30, 150.0, True)
    assert (found.joint, found.machines["joint training"]) == (750.0, "m0, m2")
    assert found.further(verify=True) == 2.0 + 5.0 and found.first(verify=True) == 150.0 + 2.0 + 7.0
    assert found.vectors is None


def test_settings_solved_here_are_read_from_the_stage_that_solved_them(tmp_path: Path, read: list[Path]) -> None:
    journal = tmp_path / "data" / "goals" / "solve" / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    journal.touch()
    stage.measure(place_of(tmp_path, 600.0))
    assert read == [journal]


def test_what_is_missing_is_told(tmp_path: Path, read: list[Path]) -> None:
    with pytest.raises(DataError, match=r"goals/solve/journal.jsonl; name the one .* as `solved`"):
        stage.measure(place_of(tmp_path, 600.0))
    with pytest.raises(DataError, match="none.jsonl"):
        stage.measure(place_of(tmp_path, 600.0, solved=tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="--again joint"):
        stage.measure(place_of(tmp_path, None))
    assert not read


def test_the_formula_is_told_once(tmp_path: Path, read: list[Path]) -> None:
    journal = tmp_path / "mine.jsonl"
    journal.touch()
    section = stage.show(stage.measure(place_of(tmp_path, 600.0, solved=journal)), tmp_path)
    lines = [*section.text, *(cell for table in section.tables for row in table.rows for cell in row)]
    assert sum("further goal = search" in line for line in lines) == 1
