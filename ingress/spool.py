"""The durable local queue for when the broker is away.

A webhook counts as kept once its transaction is fsynced; webhooks that arrive while one commit is under way share the
next. Rows are queue messages as JSON, exactly as they will be published, so a spooled webhook keeps its `received_at`.
Each process writes a file of its own; what a dead process left is adopted by whoever finds it.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from prometheus_client import Counter

from ingress.spoolfile import SUFFIX, Kept, Row, SpoolFile, is_damage, set_aside, try_lock, unlock, write_durably
from shared.log import get_logger

log = get_logger(__name__)

DAMAGED = Counter("palomar_spool_damaged", "What could not be read and was set aside: file, row", ["what"])

COMMIT_ROWS = 1000  # a transaction takes no more; what is left shares the next
ROW_OVERHEAD = 64  # bytes a row takes beside its message
RECYCLE_BYTES = 1024 * 1024  # an emptied file larger than this is replaced by a new one: that frees its disk space
_T = TypeVar("_T")


class SpoolRefused(Exception):
    """The webhook is not kept."""


class SpoolFull(SpoolRefused):
    """The spool has reached its bound in bytes."""


class SpoolFailed(SpoolRefused):
    """The disk or its permissions stand in the way."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest webhooks of one file, in order of arrival."""

    file: SpoolFile
    webhooks: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class State:
    """What the spool holds, as of its last operation."""

    webhooks: int = 0  # in the files of this process
    bytes: int = 0  # on disk, of all processes, less what is free inside our files
    oldest_at: float | None = None  # Unix time
    trouble: str | None = "not opened yet"  # why a webhook would be refused now


class Spool:
    """What this process has written and what it adopted. All files are touched from one thread of its own."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        """`limit` bounds the bytes on disk of all processes that share the folder."""
        self._folder = folder
        self._limit = limit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._own: SpoolFile | None = None
        self._adopted: list[SpoolFile] = []
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        self.state = State()

    async def tend(self) -> None:
        """Make this process's file if there is none, adopt what dead processes left, and see whether trouble is over.

        To be called at start and now and then. Never raises for the disk: `state.trouble` tells.
        """
        await self._run(self._tend)

    async def close(self) -> None:
        """Finish what is being written and give the files up; those with webhooks wait for the next process."""
        if self._writer is not None:
            await self._writer
        await self._run(self._close)
        self._thread.shutdown()

    async def put(self, row: Row) -> None:
        """Return once the webhook is fsynced. Raises SpoolFull or SpoolFailed: then it is not kept."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="spool writer")
        await done

    async def oldest(self, count: int, size: int) -> Batch | None:
        """Up to `count` of the oldest webhooks, of up to `size` bytes together but at least one; None if none is here.

        They are one file's: the one with the oldest head.
        """
        return await self._run(partial(self._oldest, count, size))

    async def remove(self, file: SpoolFile, ids: Sequence[int]) -> None:
        """Forget webhooks that the broker has confirmed. Never raises for the disk: they are then published again."""
        await self._run(partial(self._remove, file, ids))

    async def set_aside(self, file: SpoolFile, kept: Kept) -> None:
        """Move a webhook that nobody can read out of the way, into a file of its own. Never raises for the disk."""
        await self._run(partial(self._set_aside, file, kept))

    def depth(self) -> int:
        """Webhooks waiting in this process's files."""
        return self.state.webhooks + len(self._waiting)

    def bytes(self) -> int:
        """Bytes on disk, of all processes that share the folder."""
        return self.state.bytes

    def oldest_age(self) -> float:
        """Seconds since the oldest waiting webhook came in; 0 when none waits."""
        return max(0.0, time.time() - self.state.oldest_at) if self.state.oldest_at is not None else 0.0

    async def _run(self, operation: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._operate, operation)

    async def _write(self) -> None:
        """Commit what waits, in groups, until nothing does."""
        while self._waiting:
            group, self._waiting = self._waiting[:COMMIT_ROWS], self._waiting[COMMIT_ROWS:]
            outcomes: Sequence[SpoolRefused | None]
            try:
                outcomes = await self._run(partial(self._commit, [row for row, _ in group]))
            except Exception as error:  # nobody may be left waiting, whatever it is
                log.exception("spool writer failed")
                outcomes = [SpoolFailed(f"spool: {type(error).__name__}")] * len(group)
            for (_, done), refused in zip(group, outcomes, strict=True):
                if done.done():  # whoever asked was cancelled meanwhile
                    continue
                if refused is None:
                    done.set_result(None)
                else:
                    done.set_exception(refused)

    # -- in the spool's thread -----------------------------------------------------------------------------------------

    def _operate(self, operation: Callable[[], _T]) -> _T:
        try:
            return operation()
        finally:
            self._look()

    def _tend(self) -> None:
        try:
            own = self._ready()
            self._adopt()
            if self._trouble is not None:
                own.probe()
                self._trouble = None
        except (OSError, sqlite3.Error) as error:
            self._failed("open", error)

    def _ready(self) -> SpoolFile:
        if self._own is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own = SpoolFile.create(self._folder)
        return self._own

    def _adopt(self) -> None:
        ours = {file.path for file in self._files()}
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path in ours or (lock := try_lock(path)) is None:
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

    def _commit(self, rows: Sequence[Row]) -> list[SpoolRefused | None]:
        """Write those that fit. Returns for each row None, or why it was refused."""
        sizes = [len(row.message) + ROW_OVERHEAD for row in rows]
        room = self._room(sum(sizes))
        fits: list[bool] = []
        for size in sizes:
            fits.append(size <= room)
            room -= size if size <= room else 0
        taken = [row for row, fit in zip(rows, fits, strict=True) if fit]
        failed = self._add(taken) if taken else None
        full = SpoolFull(f"the spool holds its {self._limit} bytes")
        return [failed if fit else full for fit in fits]

    def _room(self, wanted: int) -> int:
        """Bytes left below the bound."""
        room = self._limit - self._used()
        if room < wanted and self._own is not None:
            with self._minding(self._own):
                self._own.checkpoint()
            room = self._limit - self._used()
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

    def _oldest(self, count: int, size: int) -> Batch | None:
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

    def _remove(self, file: SpoolFile, ids: Sequence[int]) -> None:
        with self._minding(file):
            file.remove(ids)
            if file.count:
                return
            if file in self._adopted:
                self._adopted.remove(file)
                file.close()
            elif file is self._own and file.size() > RECYCLE_BYTES:
                self._own = None
                file.close()
                self._ready()
            else:
                file.checkpoint()

    def _set_aside(self, file: SpoolFile, kept: Kept) -> None:
        with self._minding(file):
            path = file.path.with_suffix(f".{kept.id}.unreadable")
            write_durably(path, kept.message)
            DAMAGED.labels("row").inc()
            log.error("spooled webhook can't be read, set aside", file=path.name, size=len(kept.message))
            self._remove(file, [kept.id])

    def _close(self) -> None:
        for file in self._files():
            with self._minding(file):
                file.close()
        self._own, self._adopted = None, []

    def _files(self) -> list[SpoolFile]:
        return [*self._adopted, self._own] if self._own is not None else list(self._adopted)

    @contextmanager
    def _minding(self, file: SpoolFile) -> Iterator[None]:
        """Take the disk's errors: a damaged file is set aside, any other error is the spool's trouble for a while."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if is_damage(error):
                self._give_up(file, error)
            else:
                self._failed("read", error)

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
        on_disk = sum(path.stat().st_size for path in self._folder.glob(f"*{SUFFIX}*"))
        return on_disk - sum(file.free_bytes() for file in self._files())

    def _look(self) -> None:
        """Bring `state` up to date. It is replaced as a whole, so the event loop may read it at any time."""
        used, oldest = self.state.bytes, None
        try:
            used = self._used()
            heads = [head for file in self._files() if file.count and (head := file.oldest_at()) is not None]
            oldest = min(heads, default=None)
        except (OSError, sqlite3.Error) as error:
            self._failed("read", error)
        full = f"the spool holds its {self._limit} bytes" if used >= self._limit else None
        self.state = State(sum(file.count for file in self._files()), used, oldest, self._trouble or full)
