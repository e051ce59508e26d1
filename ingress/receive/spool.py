"""Stores webhooks on disk while the broker is away.

A webhook is durable once its transaction is fsynced; webhooks that arrive during one commit share the next. A row is
the job as JSON, exactly as it will be published, so its `received_at` stays the first one. Each process writes a file
of its own, and adopts the files of dead processes.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from ingress.receive.spool_file import Row, SpoolFile, StoredRow
from ingress.receive.spool_files import Batch, SpoolFailed, SpoolFiles, SpoolRefused, State
from shared.process.log import get_logger

log = get_logger(__name__)

COMMIT_ROWS = 1000  # a transaction takes no more; what is left shares the next
_T = TypeVar("_T")


class Spool:
    """The spool of one process: its own file and those it adopted. All files are used from one thread of its own."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        """`limit` bounds the bytes on disk of all processes that share the folder."""
        self._files = SpoolFiles(folder, limit)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self.state = State()

    async def maintain(self) -> None:
        """Make this process's file if there is none, adopt files of dead processes, and try again after a disk error.

        To be called at start and now and then. Never raises for the disk: `state.unready_reason` says what is wrong.
        """
        await self._run(self._files.maintain)

    async def close(self) -> None:
        """Finish the write under way and release the files; those with webhooks wait for the next process."""
        if self._writer is not None:
            await self._writer
        await self._run(self._files.close)
        self._thread.shutdown()

    async def put(self, row: Row) -> None:
        """Return once the webhook is fsynced. Raises SpoolFull or SpoolFailed where it is not stored."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="spool writer")
        await done

    async def oldest(self, count: int, size: int) -> Batch | None:
        """Up to `count` of the oldest webhooks, of up to `size` bytes together but at least one; None if none waits.

        They come from one file: the one whose first webhook is the oldest.
        """
        return await self._run(partial(self._files.oldest, count, size))

    async def remove(self, file: SpoolFile, ids: Sequence[int]) -> None:
        """Remove a batch's first webhooks, which the broker has confirmed or which are quarantined.

        Never raises for the disk: what can't be deleted now is remembered, so `oldest` does not return it again.
        """
        await self._run(partial(self._files.remove, file, ids))

    async def quarantine(self, file: SpoolFile, row: StoredRow) -> bool:
        """Copy an unreadable webhook into a file of its own; returns whether it is there, so that it may be removed.

        Never raises for the disk.
        """
        return await self._run(partial(self._files.quarantine, file, row))

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
                outcomes = await self._run(partial(self._files.commit, [row for row, _ in group]))
            except Exception as error:  # every caller of `put` gets an answer, whatever went wrong
                log.exception("spool writer failed")
                outcomes = [SpoolFailed(f"spool: {type(error).__name__}")] * len(group)
            for (_, done), refused in zip(group, outcomes, strict=True):
                if done.done():  # the caller was cancelled meanwhile
                    continue
                if refused is None:
                    done.set_result(None)
                else:
                    done.set_exception(refused)

    def _operate(self, operation: Callable[[], _T]) -> _T:
        """In the spool's thread: run the operation, then refresh `state`, which the event loop reads as one value."""
        try:
            return operation()
        finally:
            self.state = self._files.state()
