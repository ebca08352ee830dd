"""Ratings of replies by people or models: one JSON object a line, the last line of a rater on a reply counts."""

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from alignvec.data.schema import Text
from alignvec.errors import DataError

FLAGS = ("wrong facts", "unsafe", "not fluent", "off topic", "personal data", "other")
"""Problems that a reviewer can flag."""


class Rating(BaseModel):
    """One rater's verdict on one reply.

    Attributes:
        rater: who rated; a model says so in its name (`model-rater-1`).
        id: id of the row.
        shown_level: level that the reply was written for; the rater did not see it.
        level: level that the rater chose; None if the rater flagged the reply without choosing one.
        flag: problem that the rater flagged, one of `FLAGS` or a text of an imported file; None if there is none.
        time: when, ISO 8601, UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rater: Text
    id: Text
    shown_level: Text
    level: Text | None
    flag: Text | None = None
    time: str | None = None

    @property
    def reply(self) -> tuple[str, str]:
        """The reply that was rated: row id and the level it was written for."""
        return self.id, self.shown_level


def load_ratings(path: Path) -> list[Rating]:
    """Read a ratings file; of several ratings of one reply by one rater, the last.

    Raises:
        DataError: if the file cannot be read or a line is malformed (a last line cut off by a kill is dropped).
    """
    found: dict[tuple[str, str, str], Rating] = {}
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip() and (rating := parse_rating(path, number, line)):
                    found[(rating.rater, *rating.reply)] = rating
    except FileNotFoundError:
        raise DataError(f"no ratings at {path}; `alignvec data review` makes some") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}; it must be UTF-8 text, one JSON object a line") from None
    return list(found.values())


def parse_rating(path: Path, number: int, line: bytes) -> Rating | None:
    r"""One line of a ratings file; None if it has no line break and looks like a rating cut off by a kill.

    Raises:
        DataError: if the line is malformed in any other way.
    """
    try:
        return Rating.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        raise DataError(f"{path}:{number}: {where}: {first['msg']}; see docs/data.md for the schema") from None
    except (ValueError, RecursionError):
        # any other unfinished line may be the last one of a file that is no ratings file at all
        if not line.endswith(b"\n") and line.startswith(b'{"rater"'[: len(line)]):
            return None
        raise DataError(f"{path}:{number}: not valid JSON; mend the line") from None


def ratings_text(ratings: Iterable[Rating]) -> str:
    """The lines of a ratings file."""
    return "".join(rating.model_dump_json(exclude_none=False) + "\n" for rating in ratings)
