"""Creates and replaces files so that they survive a crash of the machine."""

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def write_durably(path: Path, content: bytes) -> None:
    """Put a small file in place so that a crash leaves the old one or the new one whole. Mode 0600. Raises OSError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{uuid4().hex[:8]}.new")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    _sync_folder(path.parent)


def touch(path: Path) -> int:
    """Make the file where it is missing, 0600 (SQLite gives its log the same mode); return its inode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _sync_folder(path.parent)
    return os.stat(path).st_ino


def _sync_folder(folder: Path) -> None:
    """A new name is durable only once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
