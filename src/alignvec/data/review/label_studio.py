"""Label Studio: tasks and labelling configuration out, its JSON or JSON_MIN export back in.

In Label Studio: create a project, paste `config.xml` under Labeling Setup > Code, import `tasks.json`, and have every
task annotated by two people or more; then Export > JSON. JSON_MIN works too, but leaves skipped tasks out untold.
Predictions, and answers to controls other than `level` and `flag`, are not read.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as xml

from pydantic import BaseModel, Field

from alignvec.data.load import levels_of
from alignvec.data.review.exchange import (
    INSTRUCTION,
    Answer,
    Imported,
    checked,
    ratings_from,
    read_list,
    replies_to_review,
    reply_key,
)
from alignvec.data.review.ratings import FLAGS
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.files import atomic_folder


class _User(BaseModel):
    id: int | None = None
    email: str | None = None


class _Chosen(BaseModel):
    choices: list[str]


class _Result(BaseModel):
    from_name: Literal["level", "flag"]
    value: _Chosen


class _Annotation(BaseModel):
    id: int | str | None = None
    completed_by: int | _User | None = None
    was_cancelled: bool | None = None
    updated_at: str | None = None
    created_at: str | None = None
    result: list[dict[str, Any]] = Field(default_factory=list)


class _Data(BaseModel):
    reply_key: str | None = None


class _Task(BaseModel):
    id: int | str | None = None
    data: _Data
    annotations: list[_Annotation]


class _Minimal(BaseModel):
    """One annotation of a JSON_MIN file, where a single choice is a text, and several are `{"choices": [...]}`."""

    id: int | str | None = None
    reply_key: str | None = None
    annotator: int | str | None
    annotation_id: int | str | None = None
    updated_at: str | None = None
    created_at: str | None = None
    level: str | _Chosen | list[str | _Chosen] | None = None
    flag: str | _Chosen | list[str | _Chosen] | None = None


def export(
    rows: Sequence[PreferenceRow],
    folder: Path,
    *,
    defined: Sequence[str] = (),
    seed: int = 0,
    limit: int | None = None,
) -> int:
    """Write `tasks.json` and `config.xml` into a new folder; returns the number of tasks.

    Args:
        rows: rows whose replies are to be judged.
        folder: the new folder.
        defined: what the levels mean, line by line.
        seed: of the choice and the order of replies.
        limit: at most this many replies; None for all.

    Raises:
        DataError: if rows have different levels.
        StorageError: if the place cannot be written.
    """
    replies = replies_to_review(rows, seed=seed, limit=limit)
    tasks = [
        {
            "data": {
                "reply_key": reply_key(reply),
                "row_id": reply.row.id,
                "query": reply.row.query,
                "reply": reply.row.responses[reply.level],
            }
        }
        for reply in replies
    ]
    with atomic_folder(folder) as staging:
        (staging / "tasks.json").write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
        (staging / "config.xml").write_text(config(levels_of(rows), defined), encoding="utf-8")
    return len(tasks)


def config(levels: Sequence[str], defined: Sequence[str] = ()) -> str:
    """The labelling setup: definitions, query and reply, one choice of level (keys 1, 2, ...) and one of flag."""
    view = xml.Element("View")
    xml.SubElement(view, "Header", value=INSTRUCTION + ", ".join(levels))
    for line in defined:  # a word joiner, as Label Studio would take $500 for a field of the task
        xml.SubElement(view, "Header", size="6", value=line.replace("$", "$\u2060"))
    for name in ("query", "reply"):
        xml.SubElement(view, "Header", value=name.capitalize())
        xml.SubElement(view, "Text", name=name, value=f"${name}")
    level = xml.SubElement(view, "Choices", name="level", toName="reply", choice="single", showInline="true")
    for number, value in enumerate(levels, start=1):
        xml.SubElement(level, "Choice", {"value": value} | ({"hotkey": str(number)} if number < 10 else {}))
    flag = xml.SubElement(view, "Choices", name="flag", toName="reply", choice="single", showInline="true")
    for value in FLAGS:
        xml.SubElement(flag, "Choice", value=value)
    xml.indent(view)
    return xml.tostring(view, encoding="unicode") + "\n"


def read(path: Path, rows: Sequence[PreferenceRow], *, names: Mapping[str, str] | None = None) -> Imported:
    """Ratings from a JSON or JSON_MIN export; raters are called by e-mail address, or `user-N` where there is none.

    Args:
        path: the export.
        rows: rows whose replies were exported.
        names: annotator (N will do for `user-N`) to the rater's name, where it shall be another.

    Raises:
        ConfigError: if a name is given for an annotator that is not in the file.
        DataError: if the file is malformed, or an annotation is not about a reply and a level of these rows.
    """
    left_out: Counter[str] = Counter()
    notes: set[str] = set()
    called = {_name(annotator): name for annotator, name in (names or {}).items()}
    found = ratings_from(path, _answers(path, left_out, notes), rows, called)
    return Imported(found.ratings, left_out + found.left_out, tuple(notes))


def _answers(path: Path, left_out: Counter[str], notes: set[str]) -> Iterator[Answer]:
    for number, item in enumerate(read_list(path), start=1):
        where = f"task {item.get('id', f'number {number}')}" if isinstance(item, dict) else f"task number {number}"
        if isinstance(item, dict) and "annotator" in item:
            notes.add("JSON_MIN does not list skipped annotations; JSON does")
            yield from _minimal(checked(_Minimal, item, path, where), where, left_out)
        else:
            yield from _full(checked(_Task, item, path, where), path, where, left_out)


def _full(task: _Task, path: Path, where: str, left_out: Counter[str]) -> Iterator[Answer]:
    left_out["tasks without an annotation"] += not task.annotations
    for annotation in task.annotations:
        if annotation.was_cancelled:
            left_out["skipped (cancelled) annotations"] += 1
            continue
        place = f"{where}, annotation {annotation.id}"
        by = annotation.completed_by
        rater = (by.email or by.id) if isinstance(by, _User) else by
        if rater is None:
            raise DataError(f"{path}: {place} does not say who made it; export with user details")
        chosen: dict[str, tuple[str, ...]] = {"level": (), "flag": ()}
        for raw in annotation.result:
            if raw.get("from_name") in chosen:
                result = checked(_Result, raw, path, place)
                chosen[result.from_name] += tuple(result.value.choices)
        time = annotation.updated_at or annotation.created_at
        yield Answer(place, task.data.reply_key, _name(rater), chosen["level"], chosen["flag"], time)


def _minimal(item: _Minimal, where: str, left_out: Counter[str]) -> Iterator[Answer]:
    if item.annotator is None:
        left_out["tasks without an annotation"] += 1
        return
    place = f"{where}, annotation {item.annotation_id}"
    time = item.updated_at or item.created_at
    yield Answer(place, item.reply_key, _name(item.annotator), _choices(item.level), _choices(item.flag), time)


def _name(rater: int | str) -> str:
    return f"user-{rater}" if str(rater).isdecimal() else str(rater)


def _choices(value: str | _Chosen | list[str | _Chosen] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(choice for part in value for choice in _choices(part))
    return (value,) if isinstance(value, str) else tuple(value.choices)
