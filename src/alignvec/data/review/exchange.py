"""Review in other tools: the replies that go out, blind, and the ratings that come back."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from alignvec.data.load import levels_of
from alignvec.data.review.queue import Reply, spread
from alignvec.data.review.ratings import Rating
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError, DataError

INSTRUCTION = (
    "Which level does the reply have? Judge the reply as it stands, and flag a problem if there is one. "
    "Levels, from the one that says least: "
)
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Answer:
    """What one annotator said about one reply, as the tool has it.

    Attributes:
        where: place in the tool's file, for messages.
        key: the reply's `reply_key`; None if the tool's file has none.
        rater: the tool's name or number of the annotator.
        levels: levels chosen.
        flags: problems flagged.
        time: when it was last changed, ISO 8601.
    """

    where: str
    key: str | None
    rater: str
    levels: tuple[str, ...]
    flags: tuple[str, ...]
    time: str | None = None


@dataclass(frozen=True)
class Imported:
    """Ratings from a tool's file; how many of its answers are no ratings, by reason; what the file does not tell."""

    ratings: list[Rating]
    left_out: Counter[str]
    notes: tuple[str, ...] = ()


def reply_key(reply: Reply) -> str:
    """Name of a reply in a tool: a hash of row, level and texts, which tells nothing and does not outlive a change.

    A field with the level would not be blind: Label Studio shows all data of a task to whoever looks for it.
    """
    told = json.dumps([reply.row.id, reply.level, reply.row.query, reply.row.responses[reply.level]])
    return hashlib.sha256(told.encode()).hexdigest()[:20]


def replies_to_review(rows: Sequence[PreferenceRow], *, seed: int = 0, limit: int | None = None) -> list[Reply]:
    """All replies, or `limit` of them from as many rows as possible, shuffled with those of one row far apart.

    Raises:
        DataError: if rows have different levels.
    """
    levels = levels_of(rows)
    return spread((Reply(row, level) for row in rows for level in levels), Random(seed))[:limit]


def ratings_from(
    path: Path, answers: Iterable[Answer], rows: Sequence[PreferenceRow], names: Mapping[str, str]
) -> Imported:
    """Turn answers into ratings; of several by one rater on one reply the last by time, then by place in the file.

    Args:
        path: file that the answers are from.
        answers: what annotators said.
        rows: rows whose replies were exported.
        names: the tool's name of an annotator to the rater's name, where it shall be another.

    Raises:
        ConfigError: if a name is given for an annotator that is not in the file.
        DataError: if an answer is not about a reply of the rows, or has another level than those of its row, or two.
    """
    known = {reply_key(reply): reply for row in rows for level in row.responses if (reply := Reply(row, level))}
    left_out: Counter[str] = Counter()
    raters: set[str] = set()
    found: dict[tuple[str, str, str], Rating] = {}
    for answer in answers:
        raters.add(answer.rater)
        rating = _rating(path, answer, known, names)
        if rating.level is None and rating.flag is None:
            left_out["without level and flag"] += 1
            continue
        place = (rating.rater, *rating.reply)
        earlier = found.get(place)
        left_out["replaced by a later one of the same rater"] += earlier is not None
        if earlier is None or (rating.time or "") >= (earlier.time or ""):
            found[place] = rating
    if strange := names.keys() - raters:
        have = ", ".join(sorted(raters)) or "none"
        raise ConfigError(f"{path} has no annotator {min(strange)!r} (have: {have}); check --rater")
    return Imported(list(found.values()), +left_out)


def _rating(path: Path, answer: Answer, known: Mapping[str, Reply], names: Mapping[str, str]) -> Rating:
    if answer.key is None:
        raise DataError(f"{path}: {answer.where} has no reply_key; only what `data review-export` wrote comes back")
    reply = known.get(answer.key)
    if reply is None:
        raise DataError(
            f"{path}: {answer.where} is about reply {answer.key}, which is not in these rows, or was changed since the "
            "export; check --rows"
        )
    row, level = reply.key
    if len(answer.levels) > 1:
        raise DataError(f"{path}: {answer.where} has two levels ({', '.join(answer.levels)}); mend it in the tool")
    if answer.levels and answer.levels[0] not in reply.row.responses:
        raise DataError(
            f"{path}: {answer.where} has level {answer.levels[0]!r}, and row {row} has "
            f"{', '.join(reply.row.responses)}; mend it in the tool"
        )
    return Rating(
        rater=names.get(answer.rater, answer.rater),
        id=row,
        shown_level=level,
        level=answer.levels[0] if answer.levels else None,
        flag=", ".join(answer.flags) or None,
        time=answer.time,
    )


def read_list(path: Path) -> list[Any]:
    """The list in a JSON file.

    Raises:
        DataError: if the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no file at {path}; export it from the tool as JSON") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; name the tool's JSON file") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({str(error)[:60]}); export it from the tool again, as JSON") from None
    if not isinstance(content, list):
        raise DataError(f"{path}: holds no list of tasks or records; export it from the tool as JSON")
    return content


def checked(model: type[Model], value: Any, path: Path, where: str) -> Model:
    """`value` as `model`.

    Raises:
        DataError: if it does not fit.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise DataError(f"{path}: {where}: {place}: {first['msg']}; is this the tool's own JSON export?") from None
