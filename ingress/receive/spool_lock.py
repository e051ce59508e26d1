"""Locks a file of the spool for as long as its process lives, by a lock file beside it.

The lock is a file of its own because closing any handle of an SQLite database drops SQLite's own locks on it. A free
lock belongs to a dead process: the kernel releases flock with the last handle, also after kill -9.
"""

import fcntl
import os
from pathlib import Path


def try_lock(path: Path) -> int | None:
    """Take the lock of the file at `path`: a descriptor to keep open, or None if another process holds it.

    Raises OSError where locks can't be had at all.
    """
    lock_path = _lock_path(path)
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last owner may have deleted it between our open and our flock, and would then exclude no one.
        if os.stat(lock_path).st_ino == os.fstat(lock).st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def unlock(path: Path, lock: int, *, delete: bool) -> None:
    """Release a lock; `delete` with it the lock file, while the lock is still held."""
    if delete:
        _lock_path(path).unlink(missing_ok=True)
    os.close(lock)


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
