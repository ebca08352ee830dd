"""The hidden folder a merge is written into: owned by one process, resumed after a kill, renamed when whole."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from alignvec.errors import StorageError, VectorError
from alignvec.files import put_in_place, storage_errors

PLAN, JOURNAL = "plan.json", "journal.jsonl"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Staging:
    """A folder `.NAME.merging` beside the result, with a journal of the tensors that are done.

    Attributes:
        folder: where shards are written.
        done: what was recorded of each finished tensor.
    """

    def __init__(self, folder: Path, done: dict[str, Any]) -> None:
        self.folder = folder
        self.done = done
        self._journal = os.open(folder / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def record(self, tensor: str, value: Any) -> None:
        """Note that a tensor's bytes are all written; one system call, so a kill leaves it whole or absent."""
        # the line break comes first, so that a line which a full disk cut short spoils no other
        os.write(self._journal, ("\n" + json.dumps([tensor, value])).encode())
        self.done[tensor] = value

    def close(self) -> None:
        """Close the journal."""
        os.close(self._journal)


@contextmanager
def staging(out: Path, plan: Mapping[str, Any]) -> Iterator[Staging]:
    """Yield the staging folder of `out`, and rename it to `out` when the block ends without an error.

    After a full disk or a kill the folder stays, and the next call with the same plan goes on with it. With another
    plan, or after a restart of the machine (which may have lost written bytes), it begins anew.

    Raises:
        StorageError: if another process is writing there, or the place cannot be written.
    """
    folder = out.parent / f".{out.name}.merging"
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out.parent / f".{out.name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise StorageError(f"another merge is writing {out} now; wait for it, or choose another --out") from None
    try:
        with storage_errors(out):
            identity = {**plan, "boot": _BOOT.read_text().strip() if _BOOT.is_file() else None}
            done = _resumable(folder, identity)
            if done is None:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                (folder / PLAN).write_text(json.dumps(identity), encoding="utf-8")
            place = Staging(folder, done or {})
            try:
                yield place
            except VectorError:  # the same call would end the same way
                shutil.rmtree(folder)
                raise
            finally:
                place.close()
            for name in (PLAN, JOURNAL):
                (folder / name).unlink()
            put_in_place(folder, out)
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is held, so that nobody else's is taken away
        lock.release()


def _resumable(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was done of this very merge; None if there is nothing to go on with."""
    try:
        if json.loads((folder / PLAN).read_text(encoding="utf-8")) != json.loads(json.dumps(identity)):
            return None
        lines = (folder / JOURNAL).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    done: dict[str, Any] = {}
    for line in lines:
        try:
            name, value = json.loads(line)
        except ValueError:  # the line that a kill or a full disk cut short
            continue
        done[name] = value
    return done
