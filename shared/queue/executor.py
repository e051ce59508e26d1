"""Runs a worker's handler on jobs, and isolates those that fail or wait for a lock from the others of their batch."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar
from uuid import UUID

from structlog.contextvars import bound_contextvars

from shared import database
from shared.process import metrics
from shared.queue import topology
from shared.queue.connection import is_cancellation
from shared.queue.delivery import JobRun
from shared.queue.failures import BREAKER_OPEN, LOCKED, Failures
from shared.queue.gate import Gate
from shared.queue.jobs import Job
from shared.queue.worker import Context, Worker
from shared.resilience.lock_waits import Locked

J = TypeVar("J", bound=Job)
R = TypeVar("R")
Handle = Callable[[Sequence[JobRun[J]]], Awaitable[Sequence[JobRun[J]]]]  # returns those that it left


class Executor(Generic[J, R]):
    """Takes jobs from `waiting` and handles them, alone or in batches. Run `work` as a task per concurrent handler."""

    def __init__(
        self, worker: Worker[J, R], queue: topology.WorkQueue, context: Context[R], gate: Gate, failures: Failures[J, R]
    ) -> None:
        self._worker = worker
        self._queue = queue
        self._context = context
        self._locks = context.locks
        self._gate = gate
        self._failures = failures
        self._busy = 0  # handlers
        self.idle = asyncio.Event()  # no handler is running
        self.idle.set()
        self.waiting: asyncio.Queue[JobRun[J]] = asyncio.Queue(maxsize=max(worker.batch, worker.concurrency))

    async def work(self) -> None:
        """Handle jobs until the process is stopping."""
        await (self._work_batches() if self._worker.takes_batches(self._queue) else self._work_jobs())

    async def _work_jobs(self) -> None:
        handler = self._worker.handler
        assert handler is not None, f"worker {self._worker.name} has no handler"

        async def one(runs: Sequence[JobRun[J]]) -> Sequence[JobRun[J]]:
            await handler(runs[0].job, self._context)
            return ()

        while not self._gate.stopping:
            await self._guard([await self.waiting.get()], one)

    async def _work_batches(self) -> None:
        handler = self._worker.batch_handler
        assert handler is not None

        async def many(runs: Sequence[JobRun[J]]) -> Sequence[JobRun[J]]:
            left = {id(job) for job in await handler([run.job for run in runs], self._context) or ()}
            assert not left or len(runs) > 1, "a handler waits for the locks of a job that it is given alone"
            return [run for run in runs if id(run.job) in left]

        while not self._gate.stopping:
            await self._guard(await self._next_batch(), many)  # a local name would keep it in memory until the next one

    async def _next_batch(self) -> list[JobRun[J]]:
        batch = [await self.waiting.get()]
        while len(batch) < self._worker.batch and not self.waiting.empty():
            batch.append(self.waiting.get_nowait())
        return batch

    async def _guard(self, runs: list[JobRun[J]], handle: Handle[J]) -> None:
        self._busy += 1
        self.idle.clear()
        try:
            about = runs[0].job.about if len(runs) == 1 else {}
            with bound_contextvars(queue=self._queue.name, **about):
                await self._beside_locks(runs, handle)
        finally:
            self._busy -= 1
            if not self._busy:
                self.idle.set()
            metrics.IN_HAND.labels(self._queue.name).dec(len(runs))

    async def _handle(self, runs: list[JobRun[J]], handle: Handle[J]) -> None:
        """Handle jobs together; where that fails, halve them until the one that fails is alone.

        Returns with jobs unsettled when the process is stopping: the broker takes those back.
        """
        repeats = 0
        while runs := [run for run in runs if run.delivery.alive]:
            if self._gate.breakers.open_scopes:
                runs = await self._without_open_scopes(runs, handle)
                if not runs:
                    return
            if self._gate.breakers.worker.open and len(runs) > 1:  # a trial is of one job
                for run in runs:
                    await self._handle([run], handle)
                return
            if not await self._gate.wait():
                return
            if not all(run.delivery.alive for run in runs):
                continue
            started = time.monotonic()
            try:
                with self._locks.handling(runs[0].job.tenant if len(runs) == 1 else None):
                    left = await handle(runs)
            except (Exception, asyncio.CancelledError) as error:
                if is_cancellation(error):
                    raise
                if await self._gate.outage(runs[0], error):
                    continue
                locked = isinstance(error, (Locked, database.LockTimeout, TimeoutError))
                if locked and len(runs) > 1:
                    await self._by_tenant(runs, handle)
                    return
                if locked and await self._failures.wait_for_lock(runs[0], error):
                    return
                if database.is_conflict(error) and repeats < database.REPEATS:
                    repeats += 1
                    await asyncio.sleep(0.01 * 2**repeats)
                elif len(runs) > 1:
                    middle = len(runs) // 2
                    await self._handle(runs[:middle], handle)
                    await self._handle(runs[middle:], handle)
                    return
                else:
                    await self._failures.failed(runs[0], error)
                    return
            else:
                metrics.HANDLER_SECONDS.labels(self._queue.name).observe(time.monotonic() - started)
                metrics.JOBS.labels(self._queue.name, "done").inc(len(runs) - len(left))
                not_done = set(map(id, left))
                for run in runs:
                    if id(run) not in not_done:
                        self._gate.record(run.job.scope, failed=False)
                        self._locks.went_through(run.job.tenant)
                        await run.delivery.settled()
                await self._one_by_one(left, handle)
                return

    # -- isolation -------------------------------------------------------------------------------------------------

    async def _beside_locks(self, runs: list[JobRun[J]], handle: Handle[J]) -> None:
        """Handle jobs together, but the jobs of tenants that hold locks afterwards, one by one."""
        if not self._locks:
            await self._handle(runs, handle)
            return
        others: list[JobRun[J]] = []
        behind_locks: list[JobRun[J]] = []
        for run in runs:
            (behind_locks if run.job.tenant in self._locks else others).append(run)
        if others:
            await self._handle(others, handle)
        await self._one_by_one(behind_locks, handle)

    async def _one_by_one(self, runs: Sequence[JobRun[J]], handle: Handle[J]) -> None:
        """Handle each job alone. After one has waited for a lock in vain, its tenant's next jobs are postponed."""
        later = []
        for run in runs:
            if (wait := self._locks.wait(run.job.tenant)) > 0:
                later.append((run, wait))
            else:
                await self._handle([run], handle)
        # Together: they may be many, again and again, and the jobs of others are behind them.
        await asyncio.gather(*(self._failures.postpone(run, wait, LOCKED) for run, wait in later))

    async def _by_tenant(self, runs: Sequence[JobRun[J]], handle: Handle[J]) -> None:
        """Handle each tenant's jobs apart, so that only the tenant that holds the lock waits for it.

        The tenant with the fewest jobs comes first, as a flood may be of the tenant that holds the lock.
        """
        tenants: dict[UUID | None, list[JobRun[J]]] = {}
        for run in runs:
            tenants.setdefault(run.job.tenant, []).append(run)
        if len(tenants) == 1:
            await self._one_by_one(runs, handle)
            return
        for of_tenant in sorted(tenants.values(), key=len):
            await self._handle(of_tenant, handle)

    async def _without_open_scopes(self, runs: list[JobRun[J]], handle: Handle[J]) -> list[JobRun[J]]:
        """The jobs to handle now: without those of channels whose circuit breaker is open.

        Those wait on the retry schedule, and no attempt is counted. When a trial is due, one of them is handled alone.
        """
        others = []
        for run in runs:
            if run.trial or run.job.scope not in self._gate.breakers.open_scopes:
                others.append(run)
            elif (wait := self._gate.breakers.wait(run.job.scope)) is not None:
                await self._failures.postpone(run, wait, BREAKER_OPEN)
            else:
                run.trial = True
                if len(runs) == 1:
                    return runs
                await self._handle([run], handle)
        return others
