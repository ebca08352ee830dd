"""Statistics of shipped and of made-up data."""

import json
from pathlib import Path

import numpy as np
import pytest

from alignvec.data.load import SHIPPED, load_rows
from alignvec.errors import DataError
from alignvec.reproduce.dataset import dataset_statistics, median_interval, plot_words, tables
from tests.conftest import preference_record


def narrow(table: object) -> bool:
    columns, rows = table.columns, table.rows  # type: ignore[attr-defined]
    lines = [[max(map(len, cell.split("\n"))) for cell in row] for row in (columns, *rows)]
    widths = [max(line[i] for line in lines) for i in range(len(columns))]
    return sum(widths) + 2 * (len(widths) - 1) <= 80


def test_the_shipped_data_have_the_numbers_of_their_readme(tmp_path: Path) -> None:
    result = dataset_statistics([SHIPPED])
    assert [one.name for one in result.files] == [f"levels/{n}" for n in ("financial", "general", "legal", "medical")]
    medical = result.files[3]
    assert medical.queries == {"train": 140, "validation": 20, "test": 40} and sum(medical.personas.values()) == 100
    assert result.files[1].queries == {"test": 40}
    medians = {w.level: w.median.value for w in medical.words}
    assert list(medians) == ["avoidance", "generic", "expert"] and 30 < medians["avoidance"] < medians["expert"] < 120
    (rated,) = result.rated
    assert rated.replies == 72 and len(rated.models) == len(rated.raters) == 2
    assert rated.pairs[0][:2] == ("model-rater-1", "model-rater-2")
    assert all(pair[2].value == pair[3].value == 1.0 for pair in rated.pairs)
    found = tables(result)
    assert [len(table.rows) for table in found] == [4, 12, 3] and all(map(narrow, found))
    assert found[0].rows[3][1:] == ("140 (70)", "20 (10)", "40 (20)", "200 (100)", str(medical.topics))
    plot_words(result, tmp_path / "words.png")
    assert dataset_statistics([SHIPPED]).files == result.files


def test_a_small_file_is_counted_by_hand(data_file: Path) -> None:
    one, other = dataset_statistics([data_file.parent], more={"safety/harmful": load_rows(data_file)}).files
    assert other == one.model_copy(update={"name": "safety/harmful"})
    assert one.queries == {"train": 8, "validation": 4, "test": 4}
    assert one.personas == {"train": 4, "validation": 2, "test": 2} and one.topics == 1
    assert [(w.level, w.median.value) for w in one.words] == [("avoidance", 8), ("generic", 12), ("expert", 12)]
    assert one.words[0].median.low == one.words[0].median.high == 8


def test_the_median_is_numpys_and_its_interval_resamples_personas() -> None:
    draw = np.random.default_rng(0)
    for count in (7, 8):
        values = draw.integers(10, 90, count).tolist()
        found = median_interval(values, [f"p{i}" for i in range(count)])
        assert found.value == np.median(values) and found.low is not None and found.low <= found.value <= found.high  # type: ignore[operator]
    assert median_interval([1, 9], ["a", "a"]).low is None
    alike = median_interval([1.0] * 5 + [9.0] * 5, ["a"] * 5 + ["b"] * 5)
    assert (alike.value, alike.low, alike.high) == (5.0, 1.0, 9.0)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files of rows"):
        dataset_statistics([tmp_path])
    row = preference_record(0, "train")
    (tmp_path / "one.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "ratings.jsonl").write_text("")
    with pytest.raises(DataError, match="no ratings in it"):
        dataset_statistics([tmp_path])
    (tmp_path / "two.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"two.jsonl:1: id: Field required"):
        dataset_statistics([tmp_path])
