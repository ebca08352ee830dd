"""JSON-lines files of small records; every complaint names the file and the line."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel as Record
from pydantic import ValidationError

from alignvec.errors import DataError

R = TypeVar("R", bound=Record)


def numbered_lines(path: Path, advice: str) -> list[tuple[int, str]]:
    """Lines of a file that are not blank, with their numbers; at least one.

    Args:
        path: the file; a byte-order mark at its beginning is skipped.
        advice: what to do if it cannot be read.

    Raises:
        DataError: if it cannot be read, or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"no file at {path}; {advice}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; {advice}") from None
    found = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise DataError(f"{path}: the file is empty; {advice}")
    return found


def parse_line(path: Path, number: int, line: str, kind: type[R]) -> R:
    """One line as a record.

    Raises:
        DataError: naming file, line and field.
    """
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise DataError(f"{path}:{number}: {where}: {first['msg']}; mend the line") from None
