"""Writing files so that a reader sees the old content or the new, never half of it.

Of several processes only the main one writes, but for caches; the others' calls leave nothing behind.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from alignvec import processes
from alignvec.errors import DataError, StorageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REASONS = {
    errno.ENOSPC: "no space left on the device; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EACCES: "permission denied; choose another place",
    errno.EPERM: "permission denied; choose another place",
    errno.ENOTDIR: "a file is in the way, here or above; choose another place",
    errno.EEXIST: "a file is in the way; choose another place",
    errno.EISDIR: "a folder is in the way; choose another place",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an operating-system error while writing `path` into a `StorageError` in one line.

    Raises:
        StorageError: for any error of the operating system in the block.
    """
    try:
        yield
    except SafetensorError as error:  # safetensors hides the system's error in its text
        found = re.search(r"os error (\d+)", str(error))
        if not found:
            raise
        number = int(found[1])
        raise StorageError(f"cannot write {path}: {_REASONS.get(number) or _told(os.strerror(number))}") from error
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or _told(error.strerror or str(error))
        raise StorageError(f"cannot write {path}: {reason}") from error


def _told(reason: str) -> str:
    return f"{reason[:1].lower()}{reason[1:]}; choose another place"


@contextmanager
def atomic_folder(path: Path, *, everyone: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of `path` that becomes `path` when the block ends without an error.

    An existing folder at `path` is replaced; if the block fails, it stays as it was.

    Args:
        path: of the folder.
        everyone: not the main process alone puts its folder in place, as for a cache that whoever comes first fills.

    Raises:
        StorageError: if the place cannot be written.
    """
    with storage_errors(path):
        if path.resolve() == Path.cwd():
            raise StorageError(f"cannot write {path}: it is the current folder; name a new one in it")
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with storage_errors(path):
            staging.chmod(0o755)
            yield staging
            if everyone or processes.is_main():
                put_in_place(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def put_in_place(staging: Path, path: Path) -> None:
    """Rename the finished folder `staging` to `path`, its sibling, replacing what is there."""
    if not path.exists():
        staging.rename(path)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    try:
        path.rename(retired / "content")
    except OSError:
        retired.rmdir()
        raise
    try:
        staging.rename(path)
    except OSError:
        (retired / "content").rename(path)
        retired.rmdir()
        raise
    shutil.rmtree(retired)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically (temporary sibling, then rename).

    Raises:
        StorageError: if the place cannot be written.
    """
    _write(path, lambda stream: stream.write(text.encode()))


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a picture to `path`, in the format of its ending, atomically.

    Raises:
        StorageError: if the place cannot be written.
    """
    _write(path, lambda stream: figure.savefig(stream, dpi=130, format=path.suffix.removeprefix(".")))


def _write(path: Path, content: Callable[[IO[bytes]], object]) -> None:
    if not processes.is_main():
        return
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                content(stream)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep a folder of results to this process; it is made if there is none.

    Raises:
        DataError: if another process works there.
        StorageError: if it cannot be made.
    """
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise DataError(f"another process works in {out}; wait for it, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()
