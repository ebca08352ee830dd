"""Argilla: the dataset folder that goes out, and records coming back, nested and flat.

The simulated exports have the form that `GenericIO.to_list` of argilla 2.8.0 gives; its `Settings.from_json`,
`DatasetModel` and `Record.from_dict` were run on the folder.
"""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from alignvec.data.review.argilla import export, read, settings
from alignvec.data.review.ratings import FLAGS, Rating
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import ConfigError, DataError

A, G, E = LEVELS
ANNA, BEN = str(UUID(int=1)), str(UUID(int=2))
Given = dict[str, list[tuple[str, str, str]]]
"""Question to value, user and status of each response."""


def records_of(rows: list[PreferenceRow], folder: Path) -> list[dict[str, Any]]:
    export(rows, folder / "dataset", seed=1)
    records: list[dict[str, Any]] = json.loads((folder / "dataset" / "records.json").read_text())
    return records


def nested(record: dict[str, Any], given: Given) -> dict[str, Any]:
    responses = {q: [{"value": value, "user_id": user} for value, user, _ in every] for q, every in given.items()}
    return record | {"responses": responses, "status": "completed", "_server_id": str(UUID(int=9))}


def flat(record: dict[str, Any], given: Given) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for question in ("level", "flag"):  # a list of records is normalised: what one has, the others have as None
        for place, end in enumerate(("", ".users", ".status")):
            every = given.get(question)
            columns[f"{question}.responses{end}"] = [one[place] for one in every] if every else None
    return {"id": record["id"], "status": "pending"} | record["fields"] | record["metadata"] | columns


def saved(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def shown(rows: list[PreferenceRow], record: dict[str, Any]) -> tuple[str, str]:
    """Row id and level of a record, told from its texts."""
    return next(
        (row.id, level)
        for row in rows
        for level, text in row.responses.items()
        if (row.query, text) == (record["fields"]["query"], record["fields"]["reply"])
    )


def test_folder_is_every_reply_once_and_blind(rows: list[PreferenceRow], tmp_path: Path) -> None:
    records = records_of(rows, tmp_path)
    replies = [shown(rows, record) for record in records]
    assert sorted(replies) == sorted((row.id, level) for row in rows for level in LEVELS)
    assert replies != sorted(replies)
    for record, (row, level) in zip(records, replies, strict=True):
        assert set(record["fields"]) == {"query", "reply"}
        assert record["metadata"] == {"row_id": row}
        assert level not in json.dumps(record | {"fields": None})
    folder = tmp_path / "dataset"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"records.json", ".argilla/settings.json", ".argilla/dataset.json"}
    assert json.loads((folder / ".argilla/settings.json").read_text()) == settings(LEVELS)


def test_settings_ask_for_a_level_and_a_flag() -> None:
    level, flag = settings(("terse", "long"))["questions"]
    assert [option["value"] for option in level["settings"]["options"]] == ["terse", "long"]
    assert [option["value"] for option in flag["settings"]["options"]] == list(FLAGS)
    assert (level["required"], flag["required"]) == (True, False)


def test_guidelines_tell_definitions_in_paragraphs() -> None:
    guidelines = settings(("terse", "long"), ("terse: a word", "long: $500 and more"))["guidelines"]
    assert guidelines.split("\n\n")[1:] == ["terse: a word", "long: $500 and more"]


@pytest.mark.parametrize("form", [nested, flat])
def test_round_trip_is_exact(rows: list[PreferenceRow], tmp_path: Path, form: Any) -> None:
    wanted, content = [], []
    for i, record in enumerate(records_of(rows, tmp_path)):
        row, level = shown(rows, record)
        flag = FLAGS[1] if i % 4 == 0 else None
        given: Given = {"level": [(E, ANNA, "submitted"), (LEVELS[i % 3], BEN, "submitted")]}
        wanted += [
            Rating(rater=ANNA, id=row, shown_level=level, level=E),
            Rating(rater="ben", id=row, shown_level=level, level=LEVELS[i % 3], flag=flag),
        ]
        content.append(form(record, given | ({"flag": [(flag, BEN, "submitted")]} if flag else {})))
    found = read(saved(tmp_path / "records.json", content), rows, names={BEN: "ben"})
    assert (found.ratings, dict(found.left_out)) == (wanted, {})
    assert bool(found.notes) == (form is nested)


def test_drafts_and_discarded_responses_are_counted(rows: list[PreferenceRow], tmp_path: Path) -> None:
    records = records_of(rows, tmp_path)[:4]
    content = [
        flat(records[0], {"level": [(E, ANNA, "submitted"), (G, BEN, "draft")]}),
        flat(records[1], {"level": [(A, BEN, "discarded")], "flag": [("other", BEN, "discarded")]}),
        flat(records[2], {}),
        flat(records[3], {"flag": [("unsafe", ANNA, "submitted")]}),
    ]
    found = read(saved(tmp_path / "records.json", content), rows)
    assert [(r.rater, r.reply, r.level, r.flag) for r in found.ratings] == [
        (ANNA, shown(rows, records[0]), E, None),
        (ANNA, shown(rows, records[3]), None, "unsafe"),
    ]
    left_out = {"draft responses": 1, "discarded responses": 1, "records without a response": 1}
    assert dict(found.left_out) == left_out


def test_the_last_of_two_responses_of_a_user_counts(rows: list[PreferenceRow], tmp_path: Path) -> None:
    record = records_of(rows, tmp_path)[0]
    content = [flat(record, {"level": [(level, ANNA, "submitted")]}) for level in (A, E)]
    found = read(saved(tmp_path / "records.json", content), rows)
    assert [r.level for r in found.ratings] == [E]
    assert dict(found.left_out) == {"replaced by a later one of the same rater": 1}


def test_responses_that_cannot_be_used(rows: list[PreferenceRow], tmp_path: Path) -> None:
    record = records_of(rows, tmp_path)[0]
    path = tmp_path / "records.json"

    def refused(message: str, content: Any) -> None:
        with pytest.raises(DataError, match=message):
            read(saved(path, [content]), rows)

    submitted: Given = {"level": [(A, ANNA, "submitted")]}
    refused("record number 1, user .* has level 'superb'", flat(record, {"level": [("superb", ANNA, "submitted")]}))
    refused("which is not in these rows", flat(record | {"id": "medical-1"}, submitted))
    refused("status: Input should be", flat(record, {"level": [(A, ANNA, "lost")]}))
    refused("not as many users", flat(record, submitted) | {"level.responses.users": []})
    refused("record number 1: id", {"text": "a"})
    refused("responses: Input should be a valid dictionary", nested(record, submitted) | {"responses": []})
    refused("user_id: Field required", nested(record, {}) | {"responses": {"level": [{"value": A}]}})
    with pytest.raises(ConfigError, match="no annotator 'carl'"):
        read(saved(path, [flat(record, submitted)]), rows, names={"carl": "Carl"})
    with pytest.raises(DataError, match="no list"):
        read(saved(path, {"records": []}), rows)
