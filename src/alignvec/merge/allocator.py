"""One setting of the C library's allocator that streaming is sensitive to."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers from glibc's malloc.h


def keep_freed_blocks() -> None:
    """Let this process reuse freed blocks up to 32 MB instead of giving them back to the system each time.

    Otherwise every block of a stream is fresh memory that the kernel clears page by page, which costs more than the
    sums. For a process that does nothing but merge; does nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, 1 << 25)
    mallopt(_TRIM_THRESHOLD, 1 << 29)
