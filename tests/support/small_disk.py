"""A real disk that is small enough to be filled: a tmpfs of the test's own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_FILLER = "filler"


class SmallDisk:
    """What is mounted at `folder`, and a file that takes what is free on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave not a byte."""
        handle = os.open(self.folder / _FILLER, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for size in (256 * 1024, 4096):
                while self._fits(handle, bytes(size)):
                    pass
        finally:
            os.close(handle)

    def free(self) -> None:
        """Give back what was filled."""
        (self.folder / _FILLER).unlink(missing_ok=True)

    @staticmethod
    def _fits(handle: int, content: bytes) -> bool:
        try:
            return os.write(handle, content) == len(content)
        except OSError:
            return False


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of so many bytes at `folder`. Skips the test where none can be mounted."""
    with mounted(folder, size) as disk:
        if disk is None:
            pytest.skip("no disk can be mounted here: that takes root")
        yield disk


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[SmallDisk | None]:
    """The same; None where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "palomar-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
