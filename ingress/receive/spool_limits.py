"""Computes how much the spool may still write: below its own limit, and above a reserve of the disk.

Emptying the spool needs space too: a deletion goes through the write-ahead log before it frees any. So webhooks never
take the last of the disk. An owner is a tenant, or an endpoint that serves several. An owner with more in the spool
than is left for all gets no more, so that its flood leaves half of the space to the others.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from ingress.receive.spool_file import SUFFIX, SpoolFile

RESERVE = 16 * 1024 * 1024  # bytes
RESERVE_SHARE = 4  # of a small disk the reserve is one part in so many


class Space(NamedTuple):
    """Bytes that new rows may take."""

    limit: int  # below PALOMAR_SPOOL_LIMIT
    disk: int  # above the reserve

    @property
    def left(self) -> int:
        return max(0, min(self))


Verdict = Literal["stored", "full", "share"]  # full: there is no space; share: its owner has more than its share


def share_out(wanted: Sequence[tuple[bytes, int]], held: Mapping[bytes, int], left: int) -> list[Verdict]:
    """Decide for each (owner, bytes) in turn whether it may be written. `held`: bytes in the spool by owner."""
    holds, verdicts = dict(held), list[Verdict]()
    for owner, size in wanted:
        if size > left:
            verdicts.append("full")
        elif holds.get(owner, 0) > left:
            verdicts.append("share")
        else:
            verdicts.append("stored")
            holds[owner] = holds.get(owner, 0) + size
            left -= size
    return verdicts


class SpoolLimits:
    """The limits of one folder, which several processes may share."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` is bytes on disk, of all processes."""
        self._folder = folder
        self._limit = limit

    def used(self, files: Iterable[SpoolFile]) -> int:
        """Bytes on disk, less what is free inside these files of ours. Raises OSError or sqlite3.Error."""
        on_disk = 0
        for path in self._folder.glob(f"*{SUFFIX}*"):
            with suppress(FileNotFoundError):  # another process has just deleted it
                on_disk += path.stat().st_size
        return on_disk - sum(file.free_bytes() for file in files)

    def space(self, used: int, own: SpoolFile | None) -> Space:
        """The space for new rows in our own file, `used` bytes being on disk. Raises OSError."""
        below_limit = self._limit - used
        try:
            disk = os.statvfs(self._folder)
        except FileNotFoundError:  # a write will make the folder, or fail with the reason
            return Space(below_limit, below_limit)
        free = disk.f_frsize * disk.f_bavail - min(RESERVE, disk.f_frsize * disk.f_blocks // RESERVE_SHARE)
        # Each row is written twice before the log is cut back, and what the log holds now once more.
        return Space(below_limit, (free - (own.log_size() if own is not None else 0)) // 2)

    def unready_reason(self, space: Space) -> str | None:
        """Why nothing may be written; None where something may."""
        if space.limit <= 0:
            return f"the spool holds its {self._limit} bytes"
        if space.disk <= 0:
            return f"the disk of {self._folder} is full, but for the reserve that emptying the spool needs"
        return None
