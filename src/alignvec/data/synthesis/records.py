"""What the steps hand on: personas and queries, one JSON object a line, so that a person can edit them in between."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from alignvec.data.schema import PersonaSource, Text
from alignvec.errors import DataError


class Persona(BaseModel):
    """Someone who asks.

    Attributes:
        id: unique in the build.
        number: place in the order that topics rotate in; None: a place that follows from the id.
        text: one sentence.
        source: where it comes from.
        prompt: reference of the prompt that made it, if it was invented.
        attributes: the grid cell it was invented for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    number: int | None = None
    text: Text
    source: PersonaSource
    prompt: str | None = None
    attributes: dict[str, str] | None = None


class Query(BaseModel):
    """What a persona asks.

    Attributes:
        id: unique in the build; becomes the row's id.
        topic: topic of the domain it was asked for.
        text: the message.
        persona: who asks.
        prompt: reference of the prompt that made it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    topic: Text
    text: Text
    persona: Persona
    prompt: str | None = None


class Rejected(BaseModel):
    """Something that did not make it, and why.

    Attributes:
        stage: what it wanted to be.
        id: of the persona, query or row.
        level: of a reply.
        attempt: which try of it, from 0.
        gate: name of the gate; `teacher` if no usable answer came.
        reason: for people.
        text: what was rejected.
        final: whether it was the last try, so that the persona, query or row is missing from the result.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    id: str
    level: str | None = None
    attempt: int = 0
    gate: str
    reason: str
    text: str
    final: bool


STAGE_OF = {"persona": "personas", "query": "queries", "reply": "rows", "row": "rows"}
"""What a rejected text wanted to be, and the stage that rejects it."""

Record = TypeVar("Record", bound=BaseModel)


def read_records(path: Path, kind: type[Record], *, made_by: str, may_be_empty: bool = False) -> Iterator[Record]:
    """Stream the records of a JSON-lines file.

    Args:
        path: the file.
        kind: of record; ids of personas and queries must be unique.
        made_by: the command that makes such a file, for what the user is told.
        may_be_empty: whether a file without records is fine.

    Raises:
        DataError: if the file cannot be read, is empty or a line is malformed.
    """
    try:
        stream = path.open(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"no file at {path}; {made_by} makes it") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the path") from None
    number, seen = 0, False
    ids: set[str] = set()
    with stream:
        try:
            for line in stream:
                number += 1
                if line.strip():
                    seen = True
                    record = kind.model_validate(json.loads(line))
                    if isinstance(record, Persona | Query):
                        if record.id in ids:
                            raise DataError(f"{path}:{number}: id {record.id!r} is used twice; give each its own")
                        ids.add(record.id)
                    yield record
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the line"
            raise DataError(f"{path}:{number}: {where}: {first['msg']}; mend the line") from None
        except UnicodeDecodeError:
            raise DataError(f"{path}:{number + 1}: not UTF-8 text; mend the file") from None
        except ValueError:
            raise DataError(f"{path}:{number}: not valid JSON; mend the line") from None
    if not (seen or may_be_empty):
        raise DataError(f"{path} is empty; {made_by} makes it")
