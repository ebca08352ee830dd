"""The picture of a calibration: what it shows."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from alignvec.errors import StorageError
from alignvec.solve.calibration_plot import plot_calibration
from tests.solve.rule_knob import LEVELS, RuleKnob, calibrated

FOUND = calibrated(RuleKnob(perplexity=lambda value: 1 + value * value / 8))


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    figures: list[Figure] = []
    monkeypatch.setattr("alignvec.solve.calibration_plot.write_figure", lambda _, figure: figures.append(figure))
    plot_calibration("medical", FOUND, Path("not written.png"))
    return list(figures[0].axes)


def test_it_is_a_png_and_a_place_under_a_file_is_refused(tmp_path: Path) -> None:
    plot_calibration("medical", FOUND, tmp_path / "deep" / "c.png")
    assert (tmp_path / "deep" / "c.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*c\.png: a file is in the way"):
        plot_calibration("medical", FOUND, tmp_path / "file" / "c.png")


def test_every_level_has_its_counted_rates_and_its_position(axes: list[Any]) -> None:
    for axis, meter in zip(axes[:2], ("level_rate", "preference_rate"), strict=True):
        lines = {line.get_label(): line for line in axis.get_lines()}
        for level in LEVELS:
            assert list(lines[level].get_ydata()) == [getattr(point, meter)[level] for point in FOUND.points]
        marks = [line.get_xdata()[0] for line in axis.get_lines() if line.get_marker() == "^"]
        assert marks == [FOUND.settings[level] for level in LEVELS]


def test_the_usable_range_is_shaded_and_the_curves_end_with_it(axes: list[Any]) -> None:
    for axis in axes[:3]:
        (span,) = axis.patches
        assert (span.get_x(), span.get_x() + span.get_width()) == FOUND.usable
    fitted = [line for line in axes[0].get_lines() if line.get_linestyle() == "-"]
    assert {(line.get_xdata()[0], line.get_xdata()[-1]) for line in fitted} == {FOUND.usable}


def test_the_limits_are_drawn_beside_what_they_limit(axes: list[Any]) -> None:
    perplexity, limit = axes[2].get_lines()
    assert list(perplexity.get_ydata()) == [point.perplexity for point in FOUND.points]
    assert limit.get_ydata()[0] == FOUND.limits.perplexity
    assert axes[2].get_ylim()[1] > FOUND.limits.perplexity


def test_a_level_that_the_knob_does_not_name_has_no_position(tmp_path: Path) -> None:
    ends = {level: value for level, value in FOUND.settings.items() if level != LEVELS[0]}
    plot_calibration("medical", FOUND.model_copy(update={"settings": ends}), tmp_path / "c.png")
    assert (tmp_path / "c.png").is_file()
