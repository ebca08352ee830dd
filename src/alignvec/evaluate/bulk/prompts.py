"""Prompts of a run, read from their file as they are needed: held are digests of their ids, not the prompts."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from alignvec.data.lines import parse_line
from alignvec.data.schema import Split, Text
from alignvec.errors import DataError
from alignvec.vectors.strict import Strict


class Prompt(Strict):
    """A query to be replied to; rows of preference data are prompts too, and what else they have is not used.

    Attributes:
        id: unique in its file.
        query: what the user says.
        domain: level rates are told by domain.
        persona: who asks; queries of one persona are resampled together. None: everybody asks once.
        split: of preference data.
        topic: not used.
        responses: not used.
        provenance: not used.
    """

    id: Text
    query: Text
    domain: Text | None = None
    persona: Text | None = None
    split: Split | None = None
    topic: Any = None
    responses: Any = None
    provenance: Any = None


@dataclass(frozen=True)
class PromptFile:
    """Prompts that were read once, to be sure that they can be.

    Attributes:
        path: JSON-lines file.
        split: of preference data; None: all.
        limit: the first so many; None: all.
        count: how many there are.
        digest: of what is used of them, in their order.
    """

    path: Path
    split: str | None
    limit: int | None
    count: int
    digest: str

    def __iter__(self) -> Iterator[Prompt]:
        return islice(_chosen(self.path, self.split), self.limit)

    def blocks(self, size: int) -> Iterator[list[Prompt]]:
        """The prompts, `size` at a time."""
        prompts = iter(self)
        while block := list(islice(prompts, size)):
            yield block


def read_prompts(path: Path, *, split: str | None = None, limit: int | None = None) -> PromptFile:
    """Check the prompts of a file.

    Args:
        path: file with one JSON object a line, in the schema of `Prompt`.
        split: keep only those of this split.
        limit: keep at most this many, the first ones.

    Raises:
        DataError: if the file cannot be read, a line is malformed, an id is used twice, or nothing is left.
    """
    digest, count = hashlib.sha256(), 0
    for prompt in islice(_chosen(path, split), limit):
        used = prompt.model_dump_json(include={"id", "query", "domain", "persona"})
        digest.update(used.encode() + b"\n")
        count += 1
    if not count:
        of = f" of split {split!r}" if split else ""
        raise DataError(f"{path} has no prompts{of}; it needs lines such as " + '{"id": "1", "query": "Is it safe?"}')
    return PromptFile(path, split, limit, count, digest.hexdigest()[:16])


def _chosen(path: Path, split: str | None) -> Iterator[Prompt]:
    seen: dict[bytes, int] = {}
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                prompt = parse_line(path, number, line, Prompt)
                key = hashlib.blake2b(prompt.id.encode(), digest_size=8).digest()  # ids may be long
                if (first := seen.setdefault(key, number)) != number:
                    raise DataError(f"{path}:{number}: id {prompt.id!r} was used on line {first}; make ids unique")
                if split in (None, prompt.split):
                    yield prompt
    except FileNotFoundError:
        raise DataError(f"no prompts at {path}; check --prompts") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}:{number + 1}: not UTF-8 text; mend the file") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check --prompts") from None
