"""The audit log: who used which knobs when, one JSON object a line."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from alignvec.errors import StorageError
from alignvec.files import storage_errors
from alignvec.serve.policy.keys import redacted
from alignvec.serve.setting import Setting

_log = logging.getLogger("alignvec.serve")


@dataclass
class Entry:
    """One request, answered or refused; filled in while it is being answered.

    Attributes:
        key: name of its rules; None if its key is not known.
        request: id, the reply's `X-Request-Id` (the page's requests have one of their own).
        endpoint: path.
        model: as the request names it; empty if it was refused before that was read.
        alignment: its knobs; None if it was refused before they were read.
        prompt_tokens: tokens of all prompts.
        completion_tokens: tokens of all replies.
        finish: why each reply ended; None for one that was cut off.
        status: of HTTP.
        seconds: from its arrival to its end.
        error: code of the error, if there was one; `cancelled` if the client went away or did not want the rest.
        prompt: the text, kept only if the log is asked to.
        reply: texts, likewise.
        time: when it ended, UTC.
    """

    key: str | None
    request: str
    endpoint: str
    model: str
    status: int = 500
    seconds: float = 0.0
    alignment: Setting | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish: Sequence[str | None] = ()
    error: str | None = None
    prompt: str | None = None
    reply: Sequence[str] | None = None
    time: str = field(default_factory=lambda: now())


def now() -> str:
    """The time, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class AuditLog:
    """Appends entries to a file; threads may share it.

    The file is opened once and never rotated: let logrotate do that, with `copytruncate`.

    Args:
        path: the file; None writes nothing.
        prompts: keep the texts of prompts and replies too.

    Raises:
        StorageError: if the file cannot be written.
    """

    def __init__(self, path: Path | None, prompts: bool = False) -> None:
        self._path, self._prompts = path, prompts
        self._stream: BinaryIO | None = None
        if path is not None:
            with storage_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = path.open("ab")

    def write(self, entry: Entry) -> None:
        """Append one line; keys in it (in a prompt, in a model's name) are cut out.

        Raises:
            StorageError: if it cannot be written.
        """
        if self._path is None or self._stream is None:
            return
        setting = entry.alignment.model_dump() if entry.alignment else None
        record = {"time": entry.time} | asdict(replace(entry, alignment=None)) | {"alignment": setting}
        if not self._prompts:
            del record["prompt"], record["reply"]
        # Not ASCII is escaped: half a surrogate pair, which a client can send, has no UTF-8.
        line = redacted(json.dumps(record)).encode()
        with storage_errors(self._path):  # a buffered stream has a lock of its own, so one write is one whole line
            self._stream.write(line + b"\n")
            self._stream.flush()

    def note(self, entry: Entry) -> None:
        """Append one line, or log why not: a full disk must not take the replies with it."""
        try:
            self.write(entry)
        except StorageError as error:
            _log.error("audit log: %s", error)

    def close(self) -> None:
        """Close the file; nothing can be written any more."""
        if self._stream is not None:
            self._stream.close()
