"""Progress where stderr is no terminal."""

import pytest

from alignvec import progress as told
from alignvec.progress import EVERY, progress
from alignvec.train.progress import track


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number: the seconds that have passed."""
    passed = [0.0]
    monkeypatch.setattr(told.time, "monotonic", lambda: passed[0])
    return passed


def test_a_line_comes_every_half_minute_and_at_the_end_of_each_stage(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress() as advance:
        for done in range(70):
            clock[0] = float(done)
            advance("scoring", 1, 70)
        advance("generating", 0, 2080)
        clock[0] += EVERY - 1
        advance("generating", 110, 2080)
        clock[0] += 1
        advance("generating", 10, 2080)
        advance("generating", 10, 2080)
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.splitlines() == [
        "scoring 31 of 70",
        "scoring 61 of 70",
        "scoring 70 of 70",
        "generating 120 of 2080",
        "generating 130 of 2080",  # how far it came
    ]


def test_a_further_round_of_the_same_stage_is_counted_anew(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress() as advance:
        for total in (3, 2):
            for _ in range(total):
                advance("scoring", 1, total)
    assert capsys.readouterr().err.splitlines() == ["scoring 3 of 3", "scoring 2 of 2"]


def test_fractions_that_miss_their_total_by_rounding_are_done(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress() as advance:
        for _ in range(10):
            advance("merge (MB)", 0.1, 1.0)
        assert capsys.readouterr().err == "merge (MB) 1 of 1\n"


def test_a_run_that_fails_tells_how_far_it_came(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), progress() as advance:
        advance("generating", 7, 20)
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "generating 7 of 20\n"


def test_training_tells_its_stages_the_same_way(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(4), "reference")) == [0, 1, 2, 3]
    assert capsys.readouterr() == ("", "reference 4 of 4\n")


def test_rate_and_time_left_are_of_what_was_done_since_the_first_report(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(rate=True) as advance:
        advance("replies", 400, 1000)
        for _ in range(3):
            clock[0] += 20
            advance("replies", 200, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "replies 800 of 1000, 10/s, 0:00:20 left",
        "replies 1000 of 1000, 10/s",
    ]


def test_what_is_from_before_is_no_part_of_the_rate_whenever_it_is_told(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(rate=True) as advance:
        advance("replies", 400, 1000, before=True)
        clock[0] += EVERY
        advance("replies", 300, 1000, before=True)
        advance("replies", 150, 1000)
        clock[0] += EVERY
        advance("replies", 150, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "replies 700 of 1000",
        "replies 1000 of 1000, 5/s",
    ]


def test_a_bar_has_the_same_rate(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    bars = told.bar(rate=True)
    monkeypatch.setattr(bars, "get_time", lambda: clock[0])
    monkeypatch.setattr(bars.console, "_force_terminal", True)
    monkeypatch.setattr(told, "bar", lambda **_: bars)
    with progress(rate=True) as advance:
        advance("replies", 400, 1000, before=True)
        for _ in range(2):
            advance("replies", 200, 1000, before=True)
            clock[0] += 10
            advance("replies", 50, 1000)
        (task,) = bars.tasks
        assert (task.completed, task.speed) == (900, 5.0)
        advance("replies", 100, 1000, before=True)
        assert task.finished
