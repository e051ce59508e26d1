"""How much the spool may still write: below its own bound, and above the disk's reserve.

Emptying the spool needs room as well: a deletion goes through the write-ahead log before it frees anything. So no
webhook takes the last of the disk. And no owner takes all of it, which is a tenant, or an endpoint that serves several:
one that has more in the spool than is left for all gets no more, so that its flood leaves half of the room to others.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from ingress.receive.spool_file import SUFFIX, SpoolFile

RESERVE = 16 * 1024 * 1024  # bytes
RESERVE_SHARE = 4  # of a small disk the reserve is one part in so many


class Room(NamedTuple):
    """Bytes that rows may take."""

    bound: int  # below PALOMAR_SPOOL_LIMIT
    disk: int  # above the reserve

    @property
    def left(self) -> int:
        return max(0, min(self))


Verdict = Literal["taken", "full", "share"]  # or refused: there is no room, or its owner has had its share


def share_out(wanted: Sequence[tuple[bytes, int]], held: Mapping[bytes, int], left: int) -> list[Verdict]:
    """Who of these may be written, in this order: each an owner and bytes. `held` is what owners have by now."""
    holds, verdicts = dict(held), list[Verdict]()
    for owner, size in wanted:
        if size > left:
            verdicts.append("full")
        elif holds.get(owner, 0) > left:
            verdicts.append("share")
        else:
            verdicts.append("taken")
            holds[owner] = holds.get(owner, 0) + size
            left -= size
    return verdicts


class SpoolRoom:
    """The bounds of one folder, which several processes may share."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` is bytes on disk, of all processes."""
        self._folder = folder
        self._limit = limit

    def used(self, files: Iterable[SpoolFile]) -> int:
        """Bytes on disk, less what is free inside these files of ours. Raises OSError or sqlite3.Error."""
        on_disk = 0
        for path in self._folder.glob(f"*{SUFFIX}*"):
            with suppress(FileNotFoundError):  # another process has just emptied and deleted it
                on_disk += path.stat().st_size
        return on_disk - sum(file.free_bytes() for file in files)

    def room(self, used: int, own: SpoolFile | None) -> Room:
        """What may be written into our own file, where so much is used. Raises OSError."""
        bound = self._limit - used
        try:
            disk = os.statvfs(self._folder)
        except FileNotFoundError:  # whoever writes makes the folder, or says why it can't be made
            return Room(bound, bound)
        free = disk.f_frsize * disk.f_bavail - min(RESERVE, disk.f_frsize * disk.f_blocks // RESERVE_SHARE)
        # A row is written twice before the log is cut back, and what the log holds by now a second time.
        return Room(bound, (free - (own.log_size() if own is not None else 0)) // 2)

    def trouble(self, room: Room) -> str | None:
        """Why nothing may be written; None where something may."""
        if room.bound <= 0:
            return f"the spool holds its {self._limit} bytes"
        if room.disk <= 0:
            return f"the disk of {self._folder} is full, but for the reserve that emptying the spool needs"
        return None
