"""Knows whether PostgreSQL answers this process, and lets work wait while it does not."""

import asyncio
from typing import Final

from shared.database.outages import why_away
from shared.database.pool import Pool
from shared.process import metrics
from shared.process.log import get_logger
from shared.process.outage_log import OutageLog
from shared.process.tasks import cancel

log = get_logger(__name__)

PROBE_TIMEOUT: Final = 5.0  # seconds


class DatabaseWatch:
    """The state of the database as this process sees it.

    Code that meets an outage calls `lost`. The watch then asks the database, after at most a second each time, until it
    answers again.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._up = asyncio.Event()
        self._outage = OutageLog()
        self._last: BaseException | None = None  # the error that began the last outage, or that its last probe met
        self._task: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._up.is_set()

    @property
    def unready_reason(self) -> str | None:
        """Why work waits; None where the database answers."""
        return None if self.up else why_away(self._last)

    def lost(self, error: BaseException | None = None) -> None:
        """Stop work until the database answers."""
        if self._task is None or self._task.done():
            if error is not None:
                self._log_outage(error)
            self._up.clear()
            metrics.DATABASE_UP.set(0)
            self._task = asyncio.create_task(self._probe(), name="database watch")

    async def wait(self) -> None:
        """Return once the database answers."""
        if not self._up.is_set() and self._task is None:
            self.lost()
        await self._up.wait()

    async def answers(self) -> bool:
        """Whether the database answers now, which tells a statement that took too long from an outage."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                await self._pool.fetchval("SELECT 1")
        except Exception:
            return False
        return True

    async def close(self) -> None:
        if self._task is not None:
            await cancel([self._task])

    async def _probe(self) -> None:
        delay = 0.1
        while True:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT):
                    await self._pool.fetchval("SELECT 1")
            except Exception as error:  # any error: a probe that ended without an answer would leave all work waiting
                self._log_outage(error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
            else:
                self._up.set()
                metrics.DATABASE_UP.set(1)
                log.info("database answers", away_for=self._outage.ended() or 0.0)
                return

    def _log_outage(self, error: BaseException) -> None:
        self._last = error
        if (lasted := self._outage.failed()) is not None:
            log.warning("database away", error=type(error).__name__, detail=str(error)[:200], away_for=lasted)
