"""The picture of a comparison: its format, and that it shows every number."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from alignvec.errors import StorageError
from alignvec.vectors.compare import Comparison, Similarity
from alignvec.vectors.compare_plot import plot_comparison

LABELS = ("medical+", "medical-", "legal")
PAIRS = ((0, 1), (0, 2), (1, 2))
LAYERS = (*map(str, range(30)), "embed_tokens")


def similarity(seed: int, *, zero: int | None = None) -> Similarity:
    """Random norms and cosines; the delta `zero` has none."""
    generator = np.random.default_rng(seed)
    norms, values = generator.random(3), generator.uniform(-1, 1, (3, 3))
    values = (values + values.T) / 2
    return Similarity(
        norms=tuple(0.0 if i == zero else float(norms[i]) for i in range(3)),
        cosines=tuple(
            tuple(None if zero in (i, j) else 1.0 if i == j else float(values[i, j]) for j in range(3))
            for i in range(3)
        ),
    )


COMPARISON = Comparison(
    labels=LABELS,
    total=similarity(99),
    layers={layer: similarity(i, zero=2 if layer == "embed_tokens" else None) for i, layer in enumerate(LAYERS)},
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """The panels: cosines in all, by layer, norms in all, by layer, and the colour bar."""
    figures: list[Figure] = []

    def keep(self: Figure, path: Path, **_: object) -> None:
        figures.append(self)
        path.touch()

    monkeypatch.setattr(Figure, "savefig", keep)
    plot_comparison(COMPARISON, tmp_path / "c.png")
    return figures[0].axes


def heat(axis: Any) -> Any:
    image = axis.get_images()[0]
    assert image.get_clim() == (-1, 1)
    return image.get_array()


def ticks(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


def test_it_is_a_png_of_a_size_that_grows_with_what_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "compare.png"
    plot_comparison(COMPARISON, path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[-8:-4] == b"IEND"
    few = COMPARISON.model_copy(update={"layers": {"0": similarity(0)}})
    plot_comparison(few, tmp_path / "few.png")
    assert struct.unpack(">I", content[16:20]) > struct.unpack(">I", (tmp_path / "few.png").read_bytes()[16:20])
    assert sorted(p.name for p in path.parent.iterdir()) == ["compare.png"]


def test_the_matrix_has_its_numbers_on_a_fixed_scale(drawn: list[Any]) -> None:
    expected = np.array(COMPARISON.total.cosines, dtype=float)
    np.testing.assert_array_equal(heat(drawn[0]), expected)
    assert [text.get_text() for text in drawn[0].texts] == [f"{value:.2f}" for value in expected.reshape(-1)]
    assert ticks(drawn[0]) == list(LABELS)


def test_the_layers_panel_has_a_row_a_pair_and_a_column_a_layer(drawn: list[Any]) -> None:
    found = heat(drawn[1])
    assert found.shape == (len(PAIRS), len(LAYERS))
    assert ticks(drawn[1]) == ["medical+ · medical-", "medical+ · legal", "medical- · legal"]
    for row, (i, j) in enumerate(PAIRS):
        for column, layer in enumerate(LAYERS):
            cosine = COMPARISON.layers[layer].cosines[i][j]
            assert np.ma.is_masked(found[row, column]) if cosine is None else found[row, column] == cosine
    assert [label.get_text() for label in drawn[1].get_xticklabels()] == list(LAYERS)


def test_an_unknown_cosine_has_a_colour_of_its_own(drawn: list[Any]) -> None:
    image = drawn[1].get_images()[0]
    unknown, zero = image.get_cmap()(np.ma.masked_invalid([np.nan, 0.5]))
    assert tuple(unknown[:3]) == pytest.approx((0.85, 0.85, 0.85))
    assert zero[:3].min() > 0.95


def test_norms_are_bars_in_all_and_lines_by_layer(drawn: list[Any]) -> None:
    assert [bar.get_width() for bar in drawn[2].patches] == list(COMPARISON.total.norms)
    assert ticks(drawn[2]) == list(LABELS)
    lines = {line.get_label(): line for line in drawn[3].get_lines()}
    colours = [lines[label].get_color() for label in LABELS]
    assert colours[0] == colours[1] != colours[2]
    assert [lines[label].get_linestyle() for label in LABELS] == ["-", "--", "-"]
    for i, label in enumerate(LABELS):
        assert list(lines[label].get_ydata()) == [COMPARISON.layers[layer].norms[i] for layer in LAYERS[:30]]
    outside = [line for line in drawn[3].get_lines() if line.get_label() not in LABELS]
    assert [list(line.get_ydata()) for line in outside] == [[n] for n in COMPARISON.layers["embed_tokens"].norms]


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*compare\.png: a file is in the way"):
        plot_comparison(COMPARISON, tmp_path / "file" / "compare.png")
    (tmp_path / "c.png").mkdir()
    with pytest.raises(StorageError, match="a folder is in the way"):
        plot_comparison(COMPARISON, tmp_path / "c.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.png", "file"]
