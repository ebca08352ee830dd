"""The folder of a data set: Hugging Face's loader reads it, and the card says what is known and what is not."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from published_rows import PROVENANCE, record, write

from alignvec.data.load import load_rows, shipped_file
from alignvec.data.publish.card import load_report, require_free, write_dataset_folder
from alignvec.data.publish.statistics import Statistics
from alignvec.errors import DataError

SPLITS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.jsonl", [record(i, split) for i, split in enumerate(SPLITS)])


def front_matter(folder: Path) -> dict[str, Any]:
    _, front, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    content = yaml.safe_load(front)
    assert isinstance(content, dict)
    return content


def with_licence(licence: str | None) -> dict[str, Any]:
    return {**PROVENANCE, "persona": {"kind": "persona-hub", "name": "proj-persona/PersonaHub", "licence": licence}}


def test_datasets_loads_the_folder(tmp_path: Path, rows_file: Path) -> None:
    import datasets

    write_dataset_folder(rows_file, tmp_path / "set")
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 6, "validation": 2, "test": 2}
    rows = load_rows(rows_file)
    assert [r["query"] for r in loaded["test"]] == [r.query for r in rows if r.split == "test"]
    assert loaded["train"][0]["responses"] == dict(rows[0].responses)
    assert loaded["train"][0]["provenance"]["teacher"] == "teacher-1"


def test_the_folder_holds_what_it_should_and_again_the_same(tmp_path: Path, rows_file: Path) -> None:
    out = tmp_path / "set"
    result = write_dataset_folder(rows_file, out, report={"rejected": {}})
    names = ["README.md", "data", "plots", "report.json", "rows.jsonl", "statistics.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert (out / "rows.jsonl").read_bytes() == rows_file.read_bytes()
    assert Statistics.model_validate_json((out / "statistics.json").read_text()) == result
    first = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    write_dataset_folder(out / "rows.jsonl", out, report={"rejected": {}})
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == first


def test_the_front_matter_is_what_the_hub_reads(tmp_path: Path, rows_file: Path) -> None:
    write_dataset_folder(rows_file, tmp_path / "set", title="Sleep: a set", licence="Apache-2.0", language="en")
    front = front_matter(tmp_path / "set")
    assert front["license"] == "apache-2.0"
    assert front["language"] == ["en"]
    assert front["pretty_name"] == "Sleep: a set"
    assert front["size_categories"] == ["n<1K"]
    assert {"preference", "synthetic", "medical"} <= set(front["tags"])
    files = front["configs"][0]["data_files"]
    assert [entry["path"] for entry in files] == ["data/train.parquet", "data/validation.parquet", "data/test.parquet"]


def test_a_split_without_rows_is_not_promised(tmp_path: Path) -> None:
    write_dataset_folder(write(tmp_path / "rows.jsonl", [record(0), record(1)]), tmp_path / "set")
    assert [entry["split"] for entry in front_matter(tmp_path / "set")["configs"][0]["data_files"]] == ["train"]
    assert "No rows in split validation, test." in (tmp_path / "set" / "README.md").read_text()


def test_a_licence_of_ones_own_and_none(tmp_path: Path, rows_file: Path) -> None:
    write_dataset_folder(rows_file, tmp_path / "own", licence="House Rules 2")
    own = front_matter(tmp_path / "own")
    assert (own["license"], own["license_name"]) == ("other", "house-rules-2")
    write_dataset_folder(rows_file, tmp_path / "none")
    assert front_matter(tmp_path / "none")["license"] == "unknown"


@pytest.mark.parametrize("licence", ["CC-BY-NC-SA-4.0", "CC BY-NC-SA 4.0"])
def test_personahubs_terms_come_along(tmp_path: Path, licence: str) -> None:
    records = [record(0), record(1), record(2, provenance=with_licence(licence))]
    path = write(tmp_path / "rows.jsonl", records)
    write_dataset_folder(path, tmp_path / "set")
    assert front_matter(tmp_path / "set")["license"] == "cc-by-nc-sa-4.0"
    text = (tmp_path / "set" / "README.md").read_text()
    assert "non-commercial" in text
    assert "same** licence" in text
    with pytest.raises(DataError, match=r"licence 'MIT' contradicts that of the persona source"):
        write_dataset_folder(path, tmp_path / "other", licence="MIT")
    assert not (tmp_path / "other").exists()


def test_other_licences_do_not_bring_them(tmp_path: Path) -> None:
    records = [record(0, provenance=with_licence("CC-BY-SA-4.0")), record(1, provenance=with_licence(None))]
    write_dataset_folder(write(tmp_path / "rows.jsonl", records), tmp_path / "set", licence="mit")
    assert "non-commercial" not in (tmp_path / "set" / "README.md").read_text()


def test_the_card_has_the_numbers_of_the_statistics(tmp_path: Path, rows_file: Path) -> None:
    result = write_dataset_folder(rows_file, tmp_path / "set")
    text = (tmp_path / "set" / "README.md").read_text()
    assert "| medical | train | 6 | 3 | 1 |" in text
    expert = result.by_level["expert"]
    assert expert.reading_ease is not None
    assert f"| expert | {expert.words.mean:.1f} ({expert.words.sd:.1f}) |" in text
    assert f" {expert.reading_ease.mean:.1f} ({expert.reading_ease.sd:.1f}) |" in text
    assert f"accuracy of {result.confound.by_word_count:.2f} (chance: 0.33" in text
    assert "| prompt | `reply: reply/1#bbbb` | 10 |" in text
    assert "| teacher | `teacher-1` | 10 |" in text
    assert "Facts in the replies were not checked" in text
    assert "`expert>generic>avoidance`" in text


def test_what_is_missing_says_missing(tmp_path: Path) -> None:
    records = [record(i, provenance=None) for i in range(2)]
    write_dataset_folder(write(tmp_path / "rows.jsonl", records), tmp_path / "set", language="de")
    text = (tmp_path / "set" / "README.md").read_text()
    for line in (
        "0 of 2 rows say how they were made: missing.",
        "No report of a build was given: missing.",
        "No ratings were given: missing.",
        "predicts the level: missing",
        "| missing | missing |",
    ):
        assert line in text
    assert "Written by a language model" not in text
    assert "synthetic" not in front_matter(tmp_path / "set")["tags"]
    assert not (tmp_path / "set" / "plots" / "readability.png").exists()
    assert "readability.png" not in text


def test_a_builds_report_is_told_whatever_is_in_it(tmp_path: Path, rows_file: Path) -> None:
    rejected = {"reply": {"length": 3, "a|b": 1}, "query": {"near duplicate": 2}}
    report = {"rejected": rejected, "personas": {"made": 5, "failed": {}}, "seconds": 1.23456, "notes": ["one"]}
    write_dataset_folder(rows_file, tmp_path / "set", report=report)
    text = (tmp_path / "set" / "README.md").read_text()
    for line in ("| reply / length | 3 |", "| reply / a\\|b | 1 |", "| query / near duplicate | 2 |"):
        assert line in text
    for line in ("| personas / made | 5 |", "| seconds | 1.235 |"):
        assert line in text
    assert json.loads((tmp_path / "set" / "report.json").read_text()) == report
    write_dataset_folder(rows_file, tmp_path / "clean", report={"rejected": {}})
    assert "Nothing was rejected." in (tmp_path / "clean" / "README.md").read_text()
    write_dataset_folder(rows_file, tmp_path / "unsaid", report={"personas": 5})
    assert "Nothing was rejected." not in (tmp_path / "unsaid" / "README.md").read_text()


def test_model_raters_are_called_models_and_other_rows_ratings_are_left_out(tmp_path: Path, rows_file: Path) -> None:
    ratings = [
        {"rater": rater, "id": f"medical-{i}", "shown_level": "expert", "level": "expert" if i % 2 else "generic"}
        for rater in ("model-a", "ann")
        for i in range(12)
    ]
    write_dataset_folder(rows_file, tmp_path / "set", ratings=[write(tmp_path / "ratings.jsonl", ratings)])
    text = (tmp_path / "set" / "README.md").read_text()
    assert "10 replies were rated" in text
    assert "ann, model-a (a model)" in text
    assert "it is no check by people" in text
    assert "| ann and model-a | 10 | 1.00" in text
    assert "| ann and intended | 10 | 0.50" in text


def test_ratings_of_other_rows_only_are_refused(tmp_path: Path, rows_file: Path) -> None:
    rating = {"rater": "ann", "id": "legal-1", "shown_level": "expert", "level": "expert"}
    with pytest.raises(DataError, match=r"none of its 1 ratings is of a row in"):
        write_dataset_folder(rows_file, tmp_path / "set", ratings=[write(tmp_path / "ratings.jsonl", [rating])])
    mine = write(tmp_path / "mine.jsonl", [rating | {"id": "medical-1"}])
    with pytest.raises(DataError, match=r"ratings\.jsonl: none of its 1 ratings"):
        write_dataset_folder(rows_file, tmp_path / "set", ratings=[tmp_path / "ratings.jsonl", mine])


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path, rows_file: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"set holds 'thesis\.tex', which would be lost"):
        write_dataset_folder(rows_file, tmp_path / "set")
    with pytest.raises(DataError, match="is a file, which would be lost"):
        write_dataset_folder(rows_file, rows_file)


def test_hidden_files_are_kept_and_hidden_folders_are_refused(tmp_path: Path, rows_file: Path) -> None:
    out = tmp_path / "set"
    require_free(out)
    write_dataset_folder(rows_file, out)
    (out / ".DS_Store").write_bytes(b"icons")
    require_free(out)
    write_dataset_folder(rows_file, out)
    assert (out / ".DS_Store").read_bytes() == b"icons"
    (out / ".git").mkdir()
    with pytest.raises(DataError, match=r"set holds '\.git', which would be lost"):
        require_free(out)


def test_pictures_are_pngs_of_every_level(tmp_path: Path, rows_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    figures: dict[str, Figure] = {}
    save = Figure.savefig

    def keep(self: Figure, path: Path, **options: Any) -> None:
        figures[path.name] = self
        save(self, path, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    write_dataset_folder(rows_file, tmp_path / "set")
    for path in (tmp_path / "set" / "plots").iterdir():
        content = path.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert min(struct.unpack(">II", content[16:24])) > 200
    assert set(figures) == {"words.png", "readability.png", "splits.png"}
    for name in ("words.png", "readability.png"):
        legend = figures[name].axes[0].get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == ["avoidance", "generic", "expert"]
    bars: list[Any] = list(figures["splits.png"].axes[0].patches)
    assert [bar.get_width() for bar in bars] == [6, 2, 2]
    assert [bar.get_x() for bar in bars] == [0, 6, 8]


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff\x00", b"[" * 100_000])
def test_a_report_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(DataError, match=r"report\.json.*check --report"):
        load_report(tmp_path / "report.json")
    with pytest.raises(DataError, match="no report at"):
        load_report(tmp_path / "none.json")


def test_the_easiest_and_the_hardest_reply_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    heights: list[float] = []
    draw = Axes.hist

    def keep(self: Axes, values: Any, **options: Any) -> Any:
        drawn = draw(self, values, **options)
        heights.append(float(drawn[0].sum()))
        return drawn

    monkeypatch.setattr(Axes, "hist", keep)
    replies = {"easy": "Go.", "hard": "Incomprehensibilities internationalization."}
    write_dataset_folder(write(tmp_path / "rows.jsonl", [record(0, responses=replies)]), tmp_path / "set")
    assert heights == [1.0] * 8  # two pictures, two levels, outline and filling


def test_two_folders_of_one_name_are_not_taken_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for domain in ("medical", "legal", "medical"):
        write_dataset_folder(shipped_file(domain), tmp_path / domain / "dataset")
        loaded = datasets.load_dataset(str(tmp_path / domain / "dataset"), cache_dir=str(tmp_path / "cache"))
        assert set(loaded["test"]["domain"]) == {domain}
    some = tmp_path / "some.jsonl"
    some.write_text("".join(shipped_file("medical").read_text().splitlines(keepends=True)[:120]))
    write_dataset_folder(some, tmp_path / "medical" / "dataset")
    again = datasets.load_dataset(str(tmp_path / "medical" / "dataset"), cache_dir=str(tmp_path / "cache"))
    assert sum(len(split) for split in again.values()) == 120
