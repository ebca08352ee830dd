"""Replies of a run on disk: a file for every block of prompts at every setting, whole or not there."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from alignvec.data.lines import parse_line
from alignvec.errors import DataError
from alignvec.files import write_text
from alignvec.vectors.strict import Strict

REPLIES = "replies"
"""Folder of the shards in the folder of a run."""


class Generated(Strict):
    """A reply to a prompt at a setting.

    Attributes:
        id: of the prompt.
        domain: of the prompt.
        persona: who asked.
        query: of the prompt.
        knobs: vector to coefficient λ; empty is the base.
        reply: what was generated.
        ended: whether it ended by itself, and not at the longest length.
        tokens: of the reply, as the engine counted; a token per four characters where it does not.
    """

    id: str
    domain: str | None
    persona: str | None
    query: str
    knobs: dict[str, float]
    reply: str
    ended: bool
    tokens: int


def shard_path(out: Path, block: int, setting: int) -> Path:
    """File of the replies to a block of prompts at a setting, both counted from 0."""
    return out / REPLIES / f"{block:05d}-{setting:02d}.jsonl"


def replies_in(path: Path) -> int:
    """Replies in a shard; 0 if there is none."""
    try:
        with path.open("rb") as stream:
            return sum(piece.count(b"\n") for piece in iter(lambda: stream.read(1 << 20), b""))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; move it away to generate it again") from None


def write_shard(path: Path, replies: Sequence[Generated]) -> None:
    """Write a shard, atomically.

    Raises:
        StorageError: if it cannot be written.
    """
    write_text(path, "".join(reply.model_dump_json() + "\n" for reply in replies))


def read_shard(path: Path) -> Iterator[Generated]:
    """Replies of a shard, one by one; none if there is no such file.

    Raises:
        DataError: if it cannot be read, or a line is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                yield parse_line(path, number, line, Generated)
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; move it away to generate it again") from None
