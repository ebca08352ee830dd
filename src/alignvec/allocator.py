"""What the C library's allocator is told about large blocks; nothing happens where it is not glibc."""

import ctypes
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers from glibc's malloc.h


def keep_freed_blocks() -> None:
    """Let this process reuse freed blocks up to 32 MB instead of giving them back to the system each time.

    Otherwise every block of a stream is fresh memory that the kernel clears page by page, which costs more than the
    sums. For a process that does nothing but merge.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 25)
        mallopt(_TRIM_THRESHOLD, 1 << 29)


def give_back_freed_blocks() -> None:
    """Give the system what was freed, in all threads' arenas; takes some milliseconds.

    Otherwise blocks of changing sizes, freed by one thread and taken by another, pile up holes.
    """
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
