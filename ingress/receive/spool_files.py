"""Reads and writes the spool's files: this process's own and those it adopted. To be called from one thread.

Deleting needs space on the disk as well, so the spool leaves a reserve (spool_limits.py). Where something else fills
the disk to the last byte, still no webhook is published twice: what the broker has confirmed is remembered, and once
all of a file is confirmed the file is deleted as a whole, which needs no space.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Counter

from ingress.receive.durable_files import write_durably
from ingress.receive.spool_file import (
    SUFFIX,
    Row,
    SpoolFile,
    StoredRow,
    is_damage,
    quarantine,
)
from ingress.receive.spool_limits import Space, SpoolLimits, Verdict, share_out
from ingress.receive.spool_lock import try_lock, unlock
from shared.process.log import get_logger

log = get_logger(__name__)

DAMAGED = Counter("palomar_spool_damaged", "What could not be read and was quarantined: file, row", ["what"])

RECYCLE_BYTES = 1024 * 1024  # an emptied file larger than this is replaced by a new one: that frees its disk space
DELETE_PAUSE = 1.0  # seconds until confirmed webhooks that could not be deleted are tried again


class SpoolRefused(Exception):
    """The webhook is not stored."""


class SpoolFull(SpoolRefused):
    """The spool has reached its limit in bytes, the disk its reserve, or the owner its share."""


class SpoolFailed(SpoolRefused):
    """The disk or its permissions do not allow a write."""


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
    unready_reason: str | None = "not opened yet"  # why a webhook would be refused now


class SpoolFiles:
    """The files of one process. Only `commit` reports a refusal; no operation raises for the disk."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` bounds the bytes on disk of all processes that share the folder."""
        self._folder = folder
        self._limits = SpoolLimits(folder, limit)
        self._own: SpoolFile | None = None
        self._adopted: list[SpoolFile] = []
        self._unready_reason: str | None = None
        self._used_last = 0  # bytes on disk, when they could last be counted
        self._delete_at = 0.0  # by the monotonic clock; earlier no deletion is tried

    def maintain(self) -> None:
        """Adopt files of dead processes, make our own if there is none, and try again after a disk error."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._adopt()  # first: that needs less of the disk than a file of our own, and may give some of it back
            own = self._ready()
            for file in self._files():
                self._delete(file)
            if self._unready_reason is not None:
                own.probe()
                self._unready_reason = None
        except (OSError, sqlite3.Error) as error:
            self._failed("open", error)

    def commit(self, rows: Sequence[Row]) -> list[SpoolRefused | None]:
        """Write those that fit. Returns for each row None, or why it was refused."""
        files, owners = self._files(), {row.owner for row in rows}
        held = {owner: sum(file.bytes_by_owner[owner] for file in files) for owner in owners}
        try:
            space = self._make_space(max(sum(row.size for row in rows), *held.values()))
        except (OSError, sqlite3.Error) as error:
            self._failed("write", error)
            return [SpoolFailed(f"the spool can't be written: {error}")] * len(rows)
        verdicts = share_out([(row.owner, row.size) for row in rows], held, space.left)
        stored = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict == "stored"]
        outcomes: dict[Verdict, SpoolRefused | None] = {
            "stored": self._add(stored) if stored else None,
            "full": SpoolFull(self._limits.unready_reason(space) or f"the spool has space for {space.left} bytes"),
            "share": SpoolFull(f"its tenant has more in the spool than the {space.left} bytes that are left for all"),
        }
        return [outcomes[verdict] for verdict in verdicts]

    def oldest(self, count: int, size: int) -> Batch | None:
        """A batch of the file whose first webhook is the oldest; None where none waits."""
        heads: list[tuple[float, int]] = []
        files = self._files()
        for place, file in enumerate(files):
            with self._handling_disk_errors(file):
                if file.count and (oldest_at := file.oldest_at()) is not None:
                    heads.append((oldest_at, place))
        for _, place in sorted(heads):
            with self._handling_disk_errors(files[place]):
                return Batch(files[place], files[place].oldest(count, size))
        return None

    def remove(self, file: SpoolFile, ids: Sequence[int]) -> None:
        """Remove a batch's first webhooks: at once in memory, on disk as soon as that succeeds."""
        file.confirm(ids)
        with self._handling_disk_errors(file):
            small = file is self._own and file.size() <= RECYCLE_BYTES
            if file.count or small:
                self._delete(file)
            if file.count == 0 and file in self._files():
                self._emptied(file, small)

    def quarantine(self, file: SpoolFile, row: StoredRow) -> bool:
        """Copy an unreadable webhook into a file of its own; returns whether it is there."""
        path = file.path.with_suffix(f".{row.id}.unreadable")
        with self._handling_disk_errors(file):
            if not path.exists():  # else an earlier try did it, and the batch was not published
                write_durably(path, row.message)
                DAMAGED.labels("row").inc()
                log.error("spooled webhook can't be read, quarantined", file=path.name, size=len(row.message))
            return True
        return False

    def close(self) -> None:
        """Release the files."""
        for file in self._files():
            with self._handling_disk_errors(file):
                file.delete()  # else the next process would publish it again
            with self._handling_disk_errors(file):
                file.close()
        self._own, self._adopted = None, []

    def state(self) -> State:
        """Read the state of all files."""
        used, oldest, full = self._used_last, None, None
        try:
            used = self._used_last = self._used()
            full = self._limits.unready_reason(self._limits.space(used, self._own))
            heads = [head for file in self._files() if file.count and (head := file.oldest_at()) is not None]
            oldest = min(heads, default=None)
        except (OSError, sqlite3.Error) as error:
            self._failed("read", error)
        files = self._files()
        return State(
            sum(file.count for file in files),
            sum(file.stuck for file in files),
            used,
            oldest,
            self._unready_reason or full,
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
            if not path.exists():  # its owner emptied and deleted it after we listed it
                unlock(path, lock, delete=True)
                continue
            try:
                file = SpoolFile(path, lock)
            except (OSError, sqlite3.Error) as error:
                if is_damage(error):
                    self._report_damage(quarantine(path, lock), error)
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
        """The lock of a dead process's file; None where the process lives, or the file can't be locked now."""
        try:
            return try_lock(path)
        except OSError as error:
            log.warning("spool file can't be locked now", file=path.name, error=str(error))
            return None

    def _make_space(self, wanted: int) -> Space:
        """The space for new rows; where it is too little, after cutting the write-ahead log back."""
        space = self._limits.space(self._used(), self._own)
        if space.left < wanted and self._own is not None:
            with self._handling_disk_errors(self._own):
                self._own.checkpoint()
            space = self._limits.space(self._used(), self._own)
        return space

    def _add(self, rows: Sequence[Row]) -> SpoolFailed | None:
        """Write into our own file, or into a new one where that is damaged or was deleted."""
        try:
            try:
                self._ready().add(rows)
            except (FileNotFoundError, sqlite3.DatabaseError) as error:
                if self._own is None or not (isinstance(error, FileNotFoundError) or is_damage(error)):
                    raise
                self._quarantine_file(self._own, error)
                self._ready().add(rows)
        except (OSError, sqlite3.Error) as error:
            self._failed("write", error)
            return SpoolFailed(f"the spool can't be written: {error}")
        self._unready_reason = None
        return None

    def _delete(self, file: SpoolFile) -> None:
        """Delete what is confirmed, unless that failed within the last second."""
        if file.stuck and time.monotonic() >= self._delete_at:
            self._delete_at = time.monotonic() + DELETE_PAUSE
            with self._handling_disk_errors(file, "empty"):
                file.delete()
                self._delete_at, self._unready_reason = 0.0, None

    def _emptied(self, file: SpoolFile, small: bool) -> None:
        """Delete a file without unconfirmed webhooks as a whole; a small one of our own is written to again."""
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
    def _handling_disk_errors(self, file: SpoolFile, doing: str = "read") -> Iterator[None]:
        """Quarantine a file that turns out damaged; any other disk error makes the spool unready until it is over."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if is_damage(error):
                self._quarantine_file(file, error)
            else:
                self._failed(doing, error)

    def _quarantine_file(self, file: SpoolFile, error: BaseException) -> None:
        if file is self._own:
            self._own = None
        else:
            self._adopted.remove(file)
        self._report_damage(file.quarantine(), error, webhooks=file.count)

    def _report_damage(self, quarantined: Path, error: BaseException, webhooks: int | None = None) -> None:
        DAMAGED.labels("file").inc()
        log.error(
            "spool file is damaged, quarantined; `sqlite3 FILE .recover` may still read it",
            file=str(quarantined),
            webhooks=webhooks,
            error=str(error),
        )

    def _failed(self, doing: str, error: BaseException) -> None:
        reason = f"can't {doing} the spool in {self._folder}: {error}"
        if reason != self._unready_reason:
            log.error("spool is unready: check disk space and permissions", reason=reason)
        self._unready_reason = reason

    def _used(self) -> int:
        return self._limits.used(self._files())
