"""One file of the spool: an SQLite database of webhooks that only the process with its lock uses."""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self
from uuid import uuid4

from ingress.receive.durable_files import touch
from ingress.receive.spool_lock import try_lock, unlock

SUFFIX = ".db"
_WAL_BYTES = 1024 * 1024  # the write-ahead log is cut back to this when it starts again
_SCHEMA = """
CREATE TABLE IF NOT EXISTS webhooks (
    id integer PRIMARY KEY AUTOINCREMENT,
    received_at real NOT NULL,  -- Unix time
    owner blob NOT NULL,  -- counts against this owner's share; before the message, so that reading it reads no message
    message blob NOT NULL
)
"""
# A few at a time: each transaction must fit into the space that is left on the disk.
_DELETE_ROWS = 1000
_DELETE = """
DELETE FROM webhooks WHERE id IN (SELECT id FROM webhooks WHERE id <= ? ORDER BY id LIMIT ?)
RETURNING {}, length(message)
"""
_INSERT = "INSERT INTO webhooks (received_at, owner, message) VALUES (?, ?, ?)"
_COUNT = """
SELECT {}, count(*) FILTER (WHERE id > :confirmed), count(*) FILTER (WHERE id <= :confirmed), sum(length(message))
FROM webhooks GROUP BY 1
"""
_OVERHEAD = 64  # bytes a row takes beside its message
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Row(NamedTuple):
    """One webhook on its way to the disk."""

    received_at: float  # Unix time
    owner: bytes  # an id: the webhook counts against this owner's share of the spool
    message: bytes  # the job as JSON

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return len(self.message) + _OVERHEAD


class StoredRow(NamedTuple):
    """One webhook on the disk."""

    id: int
    message: bytes


class SpoolFile:
    """An open file whose lock this process holds. Belongs to the thread that opened it."""

    def __init__(self, path: Path, lock: int) -> None:
        """Open or make the file. Raises sqlite3.Error or OSError, and leaves the lock to its caller."""
        self.path = path
        self.count = 0  # webhooks that the broker has not confirmed
        self.stuck = 0  # webhooks that it has confirmed, and that can't be deleted yet
        self.bytes_by_owner = Counter[bytes]()  # bytes on the disk of each owner, confirmed or not
        self._confirmed = 0  # the broker has everything up to this id
        self._lock = lock
        self._inode = touch(path)
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
            self._db.execute(_SCHEMA)
            # A file of an earlier version has no owners, and on a full disk the column could not be added.
            columns = {name for (name,) in self._db.execute("SELECT name FROM pragma_table_info('webhooks')")}
            self._owner = "owner" if "owner" in columns else "x''"
            self._recount()
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make a new file, owned by this process. Raises sqlite3.Error or OSError."""
        while True:
            path = folder / f"{time.time_ns()}-{os.getpid()}-{uuid4().hex[:8]}{SUFFIX}"
            lock = try_lock(path)
            if lock is None:  # another process took the new lock for a dead process's
                continue
            try:
                return cls(path, lock)
            except BaseException:
                _delete(path)
                unlock(path, lock, delete=True)
                raise

    def add(self, rows: Sequence[Row]) -> None:
        """Write and fsync. Raises sqlite3.Error, or FileNotFoundError where the file was deleted meanwhile."""
        if os.stat(self.path).st_ino != self._inode:
            raise FileNotFoundError(f"{self.path} was replaced")
        with self._transaction() as db:
            db.executemany(_INSERT, rows)
        self.count += len(rows)
        for row in rows:
            self.bytes_by_owner[row.owner] += row.size

    def oldest(self, count: int, size: int) -> tuple[StoredRow, ...]:
        """Up to `count` unconfirmed webhooks of up to `size` bytes together, but at least one if there is any."""
        taken: list[StoredRow] = []
        cursor = self._db.execute(
            "SELECT id, message FROM webhooks WHERE id > ? ORDER BY id LIMIT ?", (self._confirmed, count)
        )
        for row in map(StoredRow._make, cursor):
            size -= len(row.message)
            if taken and size < 0:
                break
            taken.append(row)
        cursor.close()  # an open one would hold a read transaction, and the write-ahead log could not be cut back
        return tuple(taken)

    def oldest_at(self) -> float | None:
        """Unix time of the oldest unconfirmed webhook."""
        row = self._db.execute(
            "SELECT received_at FROM webhooks WHERE id > ? ORDER BY id LIMIT 1", (self._confirmed,)
        ).fetchone()
        return row[0] if row else None

    def confirm(self, ids: Sequence[int]) -> None:
        """Remember that the broker has these, the oldest ones: `oldest` skips them, deleted or not.

        This writes nothing, so it works on a full disk.
        """
        self._confirmed = max(self._confirmed, *ids)
        self.count = max(0, self.count - len(ids))
        self.stuck += len(ids)

    def delete(self) -> None:
        """Delete what the broker has confirmed. Raises sqlite3.Error; what it could not delete stays confirmed."""
        while self.stuck:
            with self._transaction() as db:
                deleted = db.execute(_DELETE.format(self._owner), (self._confirmed, _DELETE_ROWS)).fetchall()
            # Counted after the commit.
            self.stuck = max(0, self.stuck - len(deleted)) if deleted else 0
            for owner, size in deleted:
                self.bytes_by_owner[owner] -= size + _OVERHEAD
            self.bytes_by_owner = +self.bytes_by_owner

    def is_done_with(self) -> bool:
        """Whether the file holds nothing unconfirmed, counted anew. Raises sqlite3.Error.

        `count` may be too small: a commit that was reported as failed may have reached the disk.
        """
        self._recount()
        return self.count == 0

    def probe(self) -> None:
        """Write and fsync a value without meaning. Raises sqlite3.Error where a webhook could not be written."""
        with self._transaction() as db:
            db.execute(f"PRAGMA user_version = {int(time.time())}")

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file and truncate it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def size(self) -> int:
        return self.path.stat().st_size

    def log_size(self) -> int:
        """Bytes of the write-ahead log, by which the file may have to grow."""
        try:
            return _parts(self.path)[1].stat().st_size
        except FileNotFoundError:
            return 0

    def free_bytes(self) -> int:
        """Bytes inside the file that new rows will use first."""
        (pages,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (page_size,) = self._db.execute("PRAGMA page_size").fetchone()
        return int(pages * page_size)

    def close(self) -> None:
        """Release the file, and delete it where it holds nothing unconfirmed."""
        done = False
        with suppress(sqlite3.Error):
            done = not self.count and self.is_done_with()
        with suppress(sqlite3.Error):
            self._db.close()
        if done:
            _delete(self.path)
        unlock(self.path, self._lock, delete=done)

    def quarantine(self) -> Path:
        """Release a damaged file, renamed so that no process opens it again; returns its new path."""
        with suppress(sqlite3.Error):
            self._db.close()
        return quarantine(self.path, self._lock)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A block that is committed and fsynced at its end, or rolled back."""
        if self._db.in_transaction:  # an earlier one that could not even be rolled back
            self._db.execute("ROLLBACK")
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            yield self._db

    def _recount(self) -> None:
        """Count what the file holds, in one pass that reads no message."""
        counted = self._db.execute(_COUNT.format(self._owner), {"confirmed": self._confirmed}).fetchall()
        self.count = sum(count for _, count, _, _ in counted)
        self.stuck = sum(stuck for _, _, stuck, _ in counted)
        self.bytes_by_owner = Counter(
            {owner: size + _OVERHEAD * (count + stuck) for owner, count, stuck, size in counted}
        )


def is_damage(error: BaseException) -> bool:
    """Whether the file itself is broken, rather than the disk full or out of reach."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def quarantine(path: Path, lock: int) -> Path:
    """Rename a damaged file with its log, so that `sqlite3 FILE .recover` still finds both, and release its lock."""
    quarantined = path.with_suffix(".damaged")
    for part, new in zip(_parts(path), _parts(quarantined), strict=True):
        with suppress(FileNotFoundError):
            part.rename(new)
    unlock(path, lock, delete=True)
    return quarantined


def _delete(path: Path) -> None:
    for part in _parts(path):
        part.unlink(missing_ok=True)


def _parts(path: Path) -> tuple[Path, Path, Path]:
    return path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
