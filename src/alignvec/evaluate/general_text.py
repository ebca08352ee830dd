"""General text whose perplexity stands for fluency: replies of general rows, or a plain text file cut into windows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.logprobs import EncodedReplies, encode_replies

WINDOW = 256
"""Tokens of a window, unless the model's context is shorter."""


@dataclass(frozen=True)
class GeneralText:
    """Pieces of text, each one reply to a prompt.

    Attributes:
        name: of the text, for the record.
        ids: keys of the pieces in a journal.
        groups: what is drawn as a whole for the intervals: the persona of a reply, or the window itself.
        encoded: the pieces' tokens.
    """

    name: str
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    encoded: tuple[EncodedReplies, ...]

    def digest(self) -> str:
        """What a journal knows the pieces by."""
        return hashlib.sha256(repr(self.encoded).encode()).hexdigest()[:16]


def replies_as_text(tokenizer: Any, rows: Sequence[PreferenceRow], name: str, *, max_length: int) -> GeneralText:
    """The replies of the rows' middle level, given their queries: what `spillover` and `calibrate` score too.

    Raises:
        DataError: if a reply with its query has more than `max_length` tokens, or rows differ in their levels.
    """
    levels = levels_of(rows)
    middle = levels[len(levels) // 2]
    encoded = (encode_replies(tokenizer, r.query, [r.responses[middle]], max_length=max_length) for r in rows)
    return GeneralText(name, tuple(f"text {r.id}" for r in rows), tuple(r.persona for r in rows), tuple(encoded))


def windows_of(tokenizer: Any, path: Path, *, max_length: int, limit: int | None = None) -> GeneralText:
    """A plain text file as windows of `WINDOW` tokens that follow each other; a window's first token is its prompt.

    A last piece that is shorter than a window is left out, unless it is the only one.

    Args:
        max_length: most tokens the model takes.
        limit: keep at most this many windows, the first ones.

    Raises:
        DataError: if the file cannot be read, or has under two tokens.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; --text takes a plain text file in UTF-8") from None
    tokens = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    if len(tokens) < 2:
        raise DataError(f"{path} has {len(tokens)} tokens, too few to predict any; name a longer text with --text")
    size = min(WINDOW, max_length)
    pieces = [tuple(tokens[i : i + size]) for i in range(0, len(tokens), size)]
    whole = ([piece for piece in pieces if len(piece) == size] or pieces)[:limit]
    ids = tuple(f"window {i}" for i in range(len(whole)))
    return GeneralText(path.name, ids, ids, tuple(EncodedReplies(piece[:1], (piece[1:],)) for piece in whole))
