"""Argilla (version 2): a dataset folder out, its records back in.

Create the dataset from the folder, and export the records when annotators are done; the flat form says which responses
are drafts or discarded, the nested one (`dataset.records.to_json`) does not:

    import argilla as rg
    client = rg.Argilla(api_url=..., api_key=...)
    dataset = rg.Dataset.from_disk("DIR", name="review", workspace="argilla", client=client)
    ...
    Path("records.json").write_text(json.dumps(dataset.records(with_responses=True).to_list(flatten=True)))

Suggestions, and responses to questions other than `level` and `flag`, are not read.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

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

QUESTIONS = ("level", "flag")


class _Response(BaseModel):
    value: str | list[str] | None
    user_id: str
    status: Literal["draft", "submitted", "discarded"] | None = None


class _Nested(BaseModel):
    id: str
    responses: dict[str, list[Any]]


class _Flat(BaseModel):
    """Question to its responses: values, users, states."""

    id: str
    columns: dict[str, tuple[list[Any], list[Any], list[Any]]]


def export(
    rows: Sequence[PreferenceRow],
    folder: Path,
    *,
    defined: Sequence[str] = (),
    seed: int = 0,
    limit: int | None = None,
) -> int:
    """Write a folder that `rg.Dataset.from_disk` reads; returns the number of records.

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
    records = [
        {
            "id": reply_key(reply),
            "fields": {"query": reply.row.query, "reply": reply.row.responses[reply.level]},
            "metadata": {"row_id": reply.row.id},
            "suggestions": {},
            "responses": {},
            "vectors": {},
        }
        for reply in replies
    ]
    with atomic_folder(folder) as staging:
        (staging / ".argilla").mkdir()
        for name, content in (
            ("records.json", records),
            (".argilla/settings.json", settings(levels_of(rows), defined)),
            (".argilla/dataset.json", {"name": "review", "allow_extra_metadata": True}),
        ):
            (staging / name).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return len(records)


def settings(levels: Sequence[str], defined: Sequence[str] = ()) -> dict[str, Any]:
    """The settings: guidelines, query and reply, a required question of level and one of flag, two raters a record."""
    return {
        "guidelines": "\n\n".join([INSTRUCTION + ", ".join(levels), *defined]),
        "fields": [_field("query"), _field("reply")],
        "questions": [_question("level", levels, required=True), _question("flag", FLAGS, required=False)],
        "metadata": [],
        "vectors": [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 2},
        "mapping": None,
    }


def read(path: Path, rows: Sequence[PreferenceRow], *, names: Mapping[str, str] | None = None) -> Imported:
    """Ratings from exported records, nested or flat; raters are called by user id.

    Drafts and discarded responses are left out and counted. The nested form has no status, so drafts in it are taken
    too, and a note says so.

    Args:
        path: the export.
        rows: rows whose replies were exported.
        names: user id to the rater's name, where it shall be another.

    Raises:
        ConfigError: if a name is given for a user that is not in the file.
        DataError: if the file is malformed, or a response is not about a reply and a level of these rows.
    """
    left_out: Counter[str] = Counter()
    notes: set[str] = set()
    found = ratings_from(path, _answers(path, left_out, notes), rows, names or {})
    return Imported(found.ratings, left_out + found.left_out, tuple(notes))


def _answers(path: Path, left_out: Counter[str], notes: set[str]) -> Iterator[Answer]:
    for number, item in enumerate(read_list(path), start=1):
        where = f"record number {number}"
        key, responses = _responses(item, path, where)
        left_out["records without a response"] += not responses
        for user, given in responses.items():
            status = next(iter(given.values())).status
            if status in ("draft", "discarded"):
                left_out[f"{status} responses"] += 1
                continue
            if status is None:
                notes.add("the file does not tell drafts from submitted responses; to_list(flatten=True) does")
            chosen = {question: _choices(response.value) for question, response in given.items()}
            yield Answer(f"{where}, user {user}", key, user, chosen.get("level", ()), chosen.get("flag", ()))


def _responses(item: Any, path: Path, where: str) -> tuple[str, dict[str, dict[str, _Response]]]:
    """A record's id, and its responses by user and question."""
    if isinstance(item, dict) and "responses" not in item:
        ends = (".responses", ".responses.users", ".responses.status")
        columns = {question: [item.get(question + end) or [] for end in ends] for question in QUESTIONS}
        flat = checked(_Flat, {"id": item.get("id"), "columns": columns}, path, where)
        if any(len({len(part) for part in column}) > 1 for column in flat.columns.values()):
            raise DataError(f"{path}: {where}: not as many users and states as responses; export the records again")
        names = ("value", "user_id", "status")
        listed = {
            q: [dict(zip(names, one, strict=True)) for one in zip(*c, strict=True)] for q, c in flat.columns.items()
        }
        record = _Nested(id=flat.id, responses=listed)
    else:
        record = checked(_Nested, item, path, where)
    by_user: dict[str, dict[str, _Response]] = {}
    for question in QUESTIONS:
        for value in record.responses.get(question, []):
            response = checked(_Response, value, path, f"{where}, question {question}")
            by_user.setdefault(response.user_id, {})[question] = response
    return record.id, by_user


def _choices(value: str | list[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _field(name: str) -> dict[str, Any]:
    return {"name": name, "title": name.capitalize(), "required": True, "settings": {"type": "text"}}


def _question(name: str, options: Sequence[str], *, required: bool) -> dict[str, Any]:
    choices = [{"value": option, "text": option} for option in options]
    settings = {"type": "label_selection", "options": choices}
    return {"name": name, "title": name.capitalize(), "required": required, "settings": settings}
