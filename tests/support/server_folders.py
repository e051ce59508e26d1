"""Chooses where the tests' own servers have their data: in memory, where the machine has plenty of it.

A test's database is six hundred files. On a disk, to make and to drop them takes a fifth of the processor time of the
suite, and each commit waits. What a killed server has written to a file is there afterwards, in memory as on a disk;
only a power cut would differ, which no test plays.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

import psutil

SHARED_MEMORY: Final = Path("/dev/shm")
ROOM: Final = 8 * 2**30  # bytes that shared memory must have free: four servers may each write a gigabyte of WAL
SPARE: Final = 4 * 2**30  # bytes of memory that must be left for all else


def servers_folder(state: Path) -> Path:
    """The folder in which stacks of this checkout's tests stand: `state`, or one in memory."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:  # not Linux
        return state
    if free < ROOM or psutil.virtual_memory().available < ROOM + SPARE:
        return state
    folder = SHARED_MEMORY / f"palomar-{os.getuid()}-{hashlib.sha256(os.fsencode(state)).hexdigest()[:8]}"
    folder.mkdir(mode=0o711, exist_ok=True)
    return folder if folder.stat().st_uid == os.getuid() and not folder.is_symlink() else state


def forget(folder: Path) -> None:
    """Give back the memory of a stopped stack. Its lock stays: the next run takes the folder by it."""
    if SHARED_MEMORY not in folder.parents:
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
