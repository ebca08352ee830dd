"""The picture of a sweep: its format, its size, and that it shows everything."""

import struct
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from alignvec.errors import StorageError
from alignvec.evaluate.sweep_plot import plot_sweep, plot_sweeps
from alignvec.evaluate.sweep_record import SweepResult
from alignvec.provenance import Provenance
from alignvec.steer.sampling import Sampling
from alignvec.vectors.card import CurvePoint
from alignvec.vectors.strict import Interval


def interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.1, high=value + 0.1)


def result(levels: tuple[str, ...], *, generated: int = 4) -> SweepResult:
    rates = {level: interval(i / 10) for i, level in enumerate(levels)}
    curve = [
        CurvePoint(
            coefficient=value,
            preference_rate={"per_token": rates},
            margin=interval(value),
            margin_sum=interval(9 * value),
            level_rate=rates if generated else {},
            degenerate=interval(0.5) if generated else None,
        )
        for value in (-1.0, 0.0, 1.0)
    ]
    return SweepResult(
        vector="medical",
        base="tiny",
        data="medical.jsonl test",
        levels=levels,
        queries=4,
        generated=generated,
        sampling=Sampling(),
        curve=tuple(curve),
        judge=None,
        replies=(),
        provenance=Provenance(command="test", versions={}, machine="test", commit=None),
    )


THREE = ("avoidance", "generic", "expert")


def drawn(monkeypatch: pytest.MonkeyPatch, *results: SweepResult) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr("alignvec.evaluate.sweep_plot.write_figure", lambda _, figure: figures.append(figure))
    plot_sweeps(results, Path("not written.png"))
    return figures[0]


@pytest.mark.parametrize("count", [1, 3])
def test_it_is_a_png_of_one_row_a_sweep(tmp_path: Path, count: int) -> None:
    path = tmp_path / "deep" / "sweep.png"
    plot_sweeps([result(THREE)] * count, path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[12:16] == b"IHDR"
    assert struct.unpack(">II", content[16:24]) == (13 * 130, 468 * count)
    assert content[-8:-4] == b"IEND"


@pytest.mark.parametrize("levels", [THREE, tuple("abcdef")], ids=["three levels", "six levels"])
def test_every_level_has_a_line_of_its_own_values(monkeypatch: pytest.MonkeyPatch, levels: tuple[str, ...]) -> None:
    said, preferred, _ = drawn(monkeypatch, result(levels)).axes
    for axis in (said, preferred):
        lines: dict[str, Any] = {str(line.get_label()): line for line in axis.get_lines()}
        for i, level in enumerate(levels):
            assert list(lines[level].get_xdata()) == [-1.0, 0.0, 1.0]
            assert list(lines[level].get_ydata()) == [i / 10] * 3


def test_the_third_panel_shows_the_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    line: Any = drawn(monkeypatch, result(THREE)).axes[2].get_lines()[0]
    assert list(line.get_ydata()) == [-1.0, 0.0, 1.0]


def test_what_was_not_generated_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    said, preferred, _ = drawn(monkeypatch, result(THREE, generated=0)).axes
    assert not any(str(line.get_label()) in (*THREE, "degenerate") for line in said.get_lines())
    assert said.get_legend() is None
    assert preferred.get_legend() is not None


def test_a_place_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*sweep\.png: a file is in the way, here or above"):
        plot_sweep(result(THREE), tmp_path / "file" / "out" / "sweep.png")
