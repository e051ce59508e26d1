"""The spool's files on disk: our own one and those that were adopted. To be called from one thread.

Deleting needs room on the disk as well, so the spool leaves a reserve (spoolroom.py). Where somebody else fills the
disk to the last byte, nothing is published twice: what the broker has confirmed is remembered, and a file goes as a
whole, which needs no room, once everything in it is confirmed.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Counter

from ingress.receive.spool_file import (
    SUFFIX,
    Row,
    SpoolFile,
    StoredRow,
    is_damage,
    set_aside,
    try_lock,
    unlock,
    write_durably,
)
from ingress.receive.spool_limits import Room, SpoolRoom, Verdict, share_out
from shared.process.log import get_logger

log = get_logger(__name__)

DAMAGED = Counter("palomar_spool_damaged", "What could not be read and was set aside: file, row", ["what"])

RECYCLE_BYTES = 1024 * 1024  # an emptied file larger than this is replaced by a new one: that frees its disk space
DELETE_PAUSE = 1.0  # seconds until confirmed webhooks that could not be deleted are tried again


class SpoolRefused(Exception):
    """The webhook is not stored."""


class SpoolFull(SpoolRefused):
    """The spool has reached its bound in bytes, or the disk its reserve."""


class SpoolFailed(SpoolRefused):
    """The disk or its permissions stand in the way."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest webhooks of one file, in order of arrival."""

    file: SpoolFile
    webhooks: tuple[StoredRow, ...]


@dataclass(frozen=True, slots=True)
class State:
    """What the spool holds, as of its last operation."""

    webhooks: int = 0  # in the files of this process, not confirmed by the broker
    stuck: int = 0  # in the files of this process, confirmed by the broker and not deleted: the disk has no room
    bytes: int = 0  # on disk, of all processes, less what is free inside our files
    oldest_at: float | None = None  # Unix time
    trouble: str | None = "not opened yet"  # why a webhook would be refused now


class SpoolFiles:
    """What this process has written and what it adopted. Only `commit` refuses; the rest never raises for the disk."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` bounds the bytes on disk of all processes that share the folder."""
        self._folder = folder
        self._bounds = SpoolRoom(folder, limit)
        self._own: SpoolFile | None = None
        self._adopted: list[SpoolFile] = []
        self._trouble: str | None = None
        self._used_last = 0  # bytes on disk, when they could last be counted
        self._delete_at = 0.0  # by the monotonic clock; earlier no deletion is tried

    def tend(self) -> None:
        """Adopt what dead processes left, make our file if there is none, and see whether trouble is over."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._adopt()  # first: that needs less of the disk than a file of our own, and may give some of it back
            own = self._ready()
            for file in self._files():
                self._delete(file)
            if self._trouble is not None:
                own.probe()
                self._trouble = None
        except (OSError, sqlite3.Error) as error:
            self._failed("open", error)

    def commit(self, rows: Sequence[Row]) -> list[SpoolRefused | None]:
        """Write those that fit. Returns for each row None, or why it was refused."""
        files, owners = self._files(), {row.owner for row in rows}
        held = {owner: sum(file.held[owner] for file in files) for owner in owners}
        try:
            room = self._make_room(max(sum(row.size for row in rows), *held.values()))
        except (OSError, sqlite3.Error) as error:
            self._failed("write", error)
            return [SpoolFailed(f"the spool can't be written: {error}")] * len(rows)
        verdicts = share_out([(row.owner, row.size) for row in rows], held, room.left)
        taken = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict == "taken"]
        outcomes: dict[Verdict, SpoolRefused | None] = {
            "taken": self._add(taken) if taken else None,
            "full": SpoolFull(self._bounds.trouble(room) or f"the spool has room for {room.left} bytes"),
            "share": SpoolFull(f"its tenant has more in the spool than the {room.left} bytes that are left for all"),
        }
        return [outcomes[verdict] for verdict in verdicts]

    def oldest(self, count: int, size: int) -> Batch | None:
        """A batch of the file with the oldest head; None where nothing waits."""
        heads: list[tuple[float, int]] = []
        files = self._files()
        for place, file in enumerate(files):
            with self._minding(file):
                if file.count and (oldest_at := file.oldest_at()) is not None:
                    heads.append((oldest_at, place))
        for _, place in sorted(heads):
            with self._minding(files[place]):
                return Batch(files[place], files[place].oldest(count, size))
        return None

    def remove(self, file: SpoolFile, ids: Sequence[int]) -> None:
        """Forget a batch's first webhooks: at once in memory, on disk as soon as it lets us."""
        file.confirm(ids)
        with self._minding(file):
            small = file is self._own and file.size() <= RECYCLE_BYTES
            if file.count or small:
                self._delete(file)
            if file.count == 0 and file in self._files():
                self._emptied(file, small)

    def set_aside(self, file: SpoolFile, row: StoredRow) -> bool:
        """Copy a webhook into a file of its own; whether it is there."""
        path = file.path.with_suffix(f".{row.id}.unreadable")
        with self._minding(file):
            if not path.exists():  # else that was done before, and the batch was not published
                write_durably(path, row.message)
                DAMAGED.labels("row").inc()
                log.error("spooled webhook can't be read, set aside", file=path.name, size=len(row.message))
            return True
        return False

    def close(self) -> None:
        """Give the files up."""
        for file in self._files():
            with self._minding(file):
                file.delete()  # else the next process would publish it again
            with self._minding(file):
                file.close()
        self._own, self._adopted = None, []

    def look(self) -> State:
        """What the files hold now."""
        used, oldest, full = self._used_last, None, None
        try:
            used = self._used_last = self._used()
            full = self._bounds.trouble(self._bounds.room(used, self._own))
            heads = [head for file in self._files() if file.count and (head := file.oldest_at()) is not None]
            oldest = min(heads, default=None)
        except (OSError, sqlite3.Error) as error:
            self._failed("read", error)
        files = self._files()
        return State(
            sum(file.count for file in files), sum(file.stuck for file in files), used, oldest, self._trouble or full
        )

    def _files(self) -> list[SpoolFile]:
        return [*self._adopted, self._own] if self._own is not None else list(self._adopted)

    def _ready(self) -> SpoolFile:
        if self._own is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own = SpoolFile.create(self._folder)
        return self._own

    def _adopt(self) -> None:
        ours = {file.path for file in self._files()}
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path in ours or (lock := self._locked(path)) is None:
                continue
            if not path.exists():  # its owner emptied and deleted it between our two looks
                unlock(path, lock, delete=True)
                continue
            try:
                file = SpoolFile(path, lock)
            except (OSError, sqlite3.Error) as error:
                if is_damage(error):
                    self._tell_damage(set_aside(path, lock), error)
                else:
                    unlock(path, lock, delete=False)
                    log.warning("spool file can't be opened now", file=path.name, error=str(error))
                continue
            if file.count:
                self._adopted.append(file)
                log.info("spool file of a dead process adopted", file=path.name, webhooks=file.count)
            else:
                file.close()

    def _locked(self, path: Path) -> int | None:
        """The lock of a dead process's file; None where its process lives, or the lock can't be had now."""
        try:
            return try_lock(path)
        except OSError as error:
            log.warning("spool file can't be locked now", file=path.name, error=str(error))
            return None

    def _make_room(self, wanted: int) -> Room:
        """What may be written; where that is too little, after the write-ahead log was cut back."""
        room = self._bounds.room(self._used(), self._own)
        if room.left < wanted and self._own is not None:
            with self._minding(self._own):
                self._own.checkpoint()
            room = self._bounds.room(self._used(), self._own)
        return room

    def _add(self, rows: Sequence[Row]) -> SpoolFailed | None:
        """Write into our file; where that is damaged or was deleted, into a new one."""
        try:
            try:
                self._ready().add(rows)
            except (FileNotFoundError, sqlite3.DatabaseError) as error:
                if self._own is None or not (isinstance(error, FileNotFoundError) or is_damage(error)):
                    raise
                self._give_up(self._own, error)
                self._ready().add(rows)
        except (OSError, sqlite3.Error) as error:
            self._failed("write", error)
            return SpoolFailed(f"the spool can't be written: {error}")
        self._trouble = None
        return None

    def _delete(self, file: SpoolFile) -> None:
        """Delete what is confirmed, unless that failed just now."""
        if file.stuck and time.monotonic() >= self._delete_at:
            self._delete_at = time.monotonic() + DELETE_PAUSE
            with self._minding(file, "empty"):
                file.delete()
                self._delete_at, self._trouble = 0.0, None

    def _emptied(self, file: SpoolFile, small: bool) -> None:
        """Nothing in it is unconfirmed: it goes as a whole, but for a small one that we go on writing to."""
        if small and not file.stuck:
            file.checkpoint()
        elif file.is_done_with():
            if file is self._own:
                self._own = None
            else:
                self._adopted.remove(file)
            file.close()
            self._ready()

    @contextmanager
    def _minding(self, file: SpoolFile, doing: str = "read") -> Iterator[None]:
        """Take the disk's errors: a damaged file is set aside, any other error is the spool's trouble for a while."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if is_damage(error):
                self._give_up(file, error)
            else:
                self._failed(doing, error)

    def _give_up(self, file: SpoolFile, error: BaseException) -> None:
        if file is self._own:
            self._own = None
        else:
            self._adopted.remove(file)
        self._tell_damage(file.set_aside(), error, webhooks=file.count)

    def _tell_damage(self, aside: Path, error: BaseException, webhooks: int | None = None) -> None:
        DAMAGED.labels("file").inc()
        log.error(
            "spool file is damaged, set aside; `sqlite3 FILE .recover` may still read it",
            file=str(aside),
            webhooks=webhooks,
            error=str(error),
        )

    def _failed(self, doing: str, error: BaseException) -> None:
        trouble = f"can't {doing} the spool in {self._folder}: {error}"
        if trouble != self._trouble:
            log.error("spool trouble: check disk space and permissions", trouble=trouble)
        self._trouble = trouble

    def _used(self) -> int:
        return self._bounds.used(self._files())
