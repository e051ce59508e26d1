"""What a process gives back of its memory."""

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3  # malloc.h of glibc
_LARGE: Final = 1024 * 1024  # bytes; an envelope of small webhooks is less


def give_back_large_blocks() -> None:
    """Let what is large go back to the system when it is freed, and never share the heap with what is small.

    glibc keeps blocks as large as any that were freed before (mallopt(3), M_MMAP_THRESHOLD): after one mail of ten
    megabytes a process keeps room for several. Where the C library is another one, nothing happens.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
    except (OSError, AttributeError):
        return
