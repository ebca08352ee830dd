"""Label Studio: what goes out, and its JSON and JSON_MIN coming back.

The simulated exports have the fields of Label Studio's export serializer; the JSON_MIN ones are what the converter of
label-studio-sdk 2.1.2 makes of them.
"""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import pytest

from alignvec.data.review.label_studio import config, export, read
from alignvec.data.review.ratings import FLAGS, Rating
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import ConfigError, DataError

A, G, E = LEVELS
EARLY, LATE = "2026-11-01T10:00:00.000000Z", "2026-11-02T10:00:00.000000Z"
ANNA: Any = {"id": 1, "email": "anna@example.org", "first_name": "Anna", "last_name": ""}


def tasks_of(rows: list[PreferenceRow], folder: Path) -> list[dict[str, Any]]:
    export(rows, folder / "tasks", seed=1)
    tasks: list[dict[str, Any]] = json.loads((folder / "tasks" / "tasks.json").read_text())
    return tasks


def chosen(name: str, *choices: str) -> dict[str, Any]:
    value = {"choices": list(choices)}
    return {"id": "Dx_aB91ISN", "from_name": name, "to_name": "reply", "type": "choices", "value": value}


def annotation(number: int, by: Any, *result: dict[str, Any], time: str = EARLY, skipped: bool = False) -> Any:
    return {
        "id": number,
        "completed_by": by,
        "result": list(result),
        "was_cancelled": skipped,
        "ground_truth": False,
        "created_at": EARLY,
        "updated_at": time,
        "lead_time": 4.288,
        "task": 1,
    }


def exported(task: dict[str, Any], number: int, *annotations: Any) -> dict[str, Any]:
    fields = {"id": number, "annotations": list(annotations), "predictions": [], "drafts": [], "meta": {}, "project": 1}
    return fields | {"created_at": EARLY, "updated_at": LATE} | task


def minimal(task: dict[str, Any], number: int, annotator: Any, time: str = EARLY, **answers: Any) -> dict[str, Any]:
    data = task["data"] | answers | {"id": number, "annotator": annotator}
    return data | {"annotation_id": 10, "created_at": EARLY, "updated_at": time, "lead_time": 4.2}


def saved(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def shown(rows: list[PreferenceRow], task: dict[str, Any]) -> tuple[str, str]:
    """Row id and level of a task, told from its texts."""
    return next(
        (row.id, level)
        for row in rows
        for level, text in row.responses.items()
        if (row.query, text) == (task["data"]["query"], task["data"]["reply"])
    )


def test_tasks_are_every_reply_once_blind_and_shuffled_by_seed(rows: list[PreferenceRow], tmp_path: Path) -> None:
    tasks = tasks_of(rows, tmp_path)
    replies = [shown(rows, task) for task in tasks]
    assert sorted(replies) == sorted((row.id, level) for row in rows for level in LEVELS)
    for task, (_, level) in zip(tasks, replies, strict=True):
        assert set(task["data"]) == {"reply_key", "row_id", "query", "reply"}
        rest = json.dumps({k: v for k, v in task["data"].items() if k not in ("query", "reply")})
        assert level not in rest
    assert replies != sorted(replies)
    export(rows, tmp_path / "same", seed=1)
    export(rows, tmp_path / "other", seed=2)
    same, other = (json.loads((tmp_path / n / "tasks.json").read_text()) for n in ("same", "other"))
    assert same == tasks
    assert other != tasks
    assert sorted(t["data"]["reply_key"] for t in other) == sorted(t["data"]["reply_key"] for t in tasks)


def test_limit_spreads_over_rows(rows: list[PreferenceRow], tmp_path: Path) -> None:
    assert export(rows, tmp_path / "few", limit=16) == 16
    tasks = json.loads((tmp_path / "few" / "tasks.json").read_text())
    assert len({task["data"]["row_id"] for task in tasks}) == 16


def test_configuration_offers_levels_and_flags_and_shows_only_texts() -> None:
    view = xml.fromstring(config(["very <short>", "long & winding"]))
    choices = {c.get("name"): [one.get("value") for one in c] for c in view.iter("Choices")}
    assert choices == {"level": ["very <short>", "long & winding"], "flag": list(FLAGS)}
    assert [text.get("value") for text in view.iter("Text")] == ["$query", "$reply"]
    assert {c.get("toName") for c in view.iter("Choices")} <= {text.get("name") for text in view.iter("Text")}


def test_configuration_tells_definitions_before_the_texts_and_keeps_amounts() -> None:
    view = xml.fromstring(config(["low", "high"], ["low: say <little>", "high: fines over $500 & more"]))
    headers = [header.get("value") for header in view.iter("Header")]
    # a word joiner: Label Studio replaces what matches \$[\w.]+ by a field of the task
    assert headers[1:] == ["low: say <little>", "high: fines over $\u2060500 & more", "Query", "Reply"]


def test_round_trip_is_exact(rows: list[PreferenceRow], tmp_path: Path) -> None:
    tasks = tasks_of(rows, tmp_path)
    wanted, full, short = [], [], []
    for i, task in enumerate(tasks):
        row, level = shown(rows, task)
        answer, flag = LEVELS[i % 3], FLAGS[0] if i % 5 == 0 else None
        flags = {"flag": flag} if flag else {}
        wanted.append(Rating(rater="anna@example.org", id=row, shown_level=level, level=answer, flag=flag, time=EARLY))
        results = [chosen("level", answer), *(chosen("flag", f) for f in flags.values())]
        full.append(exported(task, i, annotation(10 * i, ANNA, *results)))
        short.append(minimal(task, i, "anna@example.org", level=answer, **flags))
    found = read(saved(tmp_path / "full.json", full), rows)
    assert (found.ratings, dict(found.left_out), found.notes) == (wanted, {}, ())
    found = read(saved(tmp_path / "min.json", short), rows)
    assert (found.ratings, dict(found.left_out)) == (wanted, {})
    assert found.notes == ("JSON_MIN does not list skipped annotations; JSON does",)


def test_two_annotators_with_skips_flags_and_second_thoughts(rows: list[PreferenceRow], tmp_path: Path) -> None:
    tasks = tasks_of(rows, tmp_path)[:5]
    content = [
        exported(tasks[0], 1, annotation(1, ANNA, chosen("level", E)), annotation(2, 2, chosen("level", G))),
        exported(tasks[1], 2, annotation(3, ANNA, skipped=True), annotation(4, 2, chosen("flag", "unsafe", "other"))),
        exported(tasks[2], 3),
        # the later one comes first
        exported(tasks[3], 4, annotation(6, 2, chosen("level", A), time=LATE), annotation(5, 2, chosen("level", E))),
        exported(tasks[4], 5, annotation(7, 2), annotation(8, ANNA, chosen("level", G), {"type": "relation"})),
    ]
    found = read(saved(tmp_path / "export.json", content), rows, names={"user-2": "ben"})
    ids = [shown(rows, task) for task in tasks]
    assert [(r.rater, r.reply, r.level, r.flag) for r in found.ratings] == [
        ("anna@example.org", ids[0], E, None),
        ("ben", ids[0], G, None),
        ("ben", ids[1], None, "unsafe, other"),
        ("ben", ids[3], A, None),
        ("anna@example.org", ids[4], G, None),
    ]
    assert dict(found.left_out) == {
        "skipped (cancelled) annotations": 1,
        "tasks without an annotation": 1,
        "replaced by a later one of the same rater": 1,
        "without level and flag": 1,
    }


def test_json_min_has_the_latest_first_and_many_choices_in_an_object(rows: list[PreferenceRow], tmp_path: Path) -> None:
    one, two, three = tasks_of(rows, tmp_path)[:3]
    content = [
        minimal(one, 1, 2, LATE, level=A),
        minimal(one, 1, 2, EARLY, level=E),
        minimal(two, 2, "anna@example.org", flag={"choices": ["unsafe", "other"]}),
        minimal(three, 3, None),
    ]
    found = read(saved(tmp_path / "min.json", content), rows)
    assert [(r.rater, r.level, r.flag, r.time) for r in found.ratings] == [
        ("user-2", A, None, LATE),
        ("anna@example.org", None, "unsafe, other", EARLY),
    ]
    assert dict(found.left_out) == {"replaced by a later one of the same rater": 1, "tasks without an annotation": 1}


def test_annotations_that_cannot_be_used(rows: list[PreferenceRow], tmp_path: Path) -> None:
    task = tasks_of(rows, tmp_path)[0]
    row, _ = shown(rows, task)
    path = tmp_path / "export.json"

    def refused(message: str, *annotations: Any, task: dict[str, Any] = task) -> None:
        with pytest.raises(DataError, match=message):
            read(saved(path, [exported(task, 7, *annotations)]), rows)

    refused(
        f"task 7, annotation 3 has level 'superb', and row {row} has", annotation(3, ANNA, chosen("level", "superb"))
    )
    refused("annotation 3 has two levels", annotation(3, ANNA, chosen("level", A, G)))
    refused("annotation 3 has two levels", annotation(3, ANNA, chosen("level", A), chosen("level", G)))
    refused("does not say who made it", annotation(3, None, chosen("level", A)))
    refused("annotation 3: value: Field required", annotation(3, ANNA, {"from_name": "level", "type": "choices"}))
    foreign = {"data": {"text": "Something else"}}
    refused("has no reply_key", annotation(3, ANNA, chosen("level", A)), task=foreign)
    unknown = {"data": task["data"] | {"reply_key": "0" * 20}}
    refused("0{20}, which is not in these rows", annotation(3, ANNA, chosen("level", A)), task=unknown)


def test_a_reply_changed_since_the_export_is_refused(rows: list[PreferenceRow], tmp_path: Path) -> None:
    task = tasks_of(rows, tmp_path)[0]
    row, level = shown(rows, task)
    changed = [
        r.model_copy(update={"responses": {**r.responses, level: "Mended."}}) if r.id == row else r for r in rows
    ]
    path = saved(tmp_path / "export.json", [exported(task, 1, annotation(1, ANNA, chosen("level", A)))])
    assert len(read(path, rows).ratings) == 1
    with pytest.raises(DataError, match="was changed since the export"):
        read(path, changed)


def test_names_must_be_of_annotators(rows: list[PreferenceRow], tmp_path: Path) -> None:
    task = tasks_of(rows, tmp_path)[0]
    path = saved(tmp_path / "export.json", [exported(task, 1, annotation(1, ANNA, chosen("level", A)))])
    with pytest.raises(ConfigError, match=r"no annotator 'user-9' \(have: anna@example.org\)"):
        read(path, rows, names={"user-9": "ben"})


@pytest.mark.parametrize("annotator", ["2", "user-2"])
def test_annotators_without_an_address_are_named_by_number_too(
    rows: list[PreferenceRow], tmp_path: Path, annotator: str
) -> None:
    task = tasks_of(rows, tmp_path)[0]
    by = [annotation(1, ANNA, chosen("level", A)), annotation(2, 2, chosen("level", A))]
    path = saved(tmp_path / "export.json", [exported(task, 1, *by)])
    found = read(path, rows, names={annotator: "ben", "anna@example.org": "anna"})
    assert [rating.rater for rating in found.ratings] == ["anna", "ben"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ('[{"id": 1', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"id": 1}', "no list"),
        ("[1]", "task number 1: the whole"),
        ('[{"id": 4, "data": {}}]', "task 4: annotations: Field required"),
        ('[{"id": 4, "data": {}, "annotations": [{"completed_by": "x"}]}]', "task 4: annotations.0.completed_by"),
        ('[{"id": 4, "annotator": {}}]', "task 4: annotator"),
    ],
)
def test_malformed_files(rows: list[PreferenceRow], tmp_path: Path, content: str, message: str) -> None:
    path = saved(tmp_path / "export.json", content)
    with pytest.raises(DataError, match="export.json") as told:
        read(path, rows)
    assert message in str(told.value)


def test_files_that_cannot_be_read(rows: list[PreferenceRow], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file at"):
        read(tmp_path / "none.json", rows)
    with pytest.raises(DataError, match="cannot read"):
        read(tmp_path, rows)
    (tmp_path / "latin.json").write_bytes(b'["\xe9"]')
    with pytest.raises(DataError, match="not valid JSON"):
        read(tmp_path / "latin.json", rows)
