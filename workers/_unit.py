"""Runs one worker of a process: its resource, its queues and its loop. Starts it again after a crash."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from shared import database
from shared.process import log, metrics
from shared.process.tasks import cancel
from shared.queue.connection import Link, PublishFailed
from shared.queue.publisher import Publisher
from shared.queue.runner import Runner
from shared.queue.topology import WorkQueue
from shared.queue.worker import Context, Loop, Worker
from shared.settings import Settings

AnyWorker = Worker[Any, Any] | Loop[Any]

FIRST_PAUSE: Final = 1.0  # seconds until a worker that has crashed starts again; doubled each time
LONGEST_PAUSE: Final = 30.0
SETTLED_AFTER: Final = 60.0  # seconds; one that ran so long starts again after the first pause

logger = log.get_logger("workers")


@dataclass(frozen=True, slots=True)
class Connections:
    """What all workers of a process share."""

    settings: Settings
    pool: database.Pool
    watch: database.DatabaseWatch
    publisher: Publisher
    link: Link  # to consume


class Unit:
    """One worker of a process, with some or all of its queues.

    A handler that raises never ends it. What does is an error in the machinery around handlers, or a resource that
    can't be opened.
    """

    def __init__(self, worker: AnyWorker, queues: Sequence[WorkQueue], connections: Connections) -> None:
        self._worker = worker
        self._queues = queues
        self._connections = connections
        self._runners: list[Runner[Any, Any]] = []
        self._crash: str | None = None  # what it waits for to start again
        self.started = asyncio.Event()  # once it works, or has crashed

    @property
    def missing(self) -> dict[str, str]:
        """What of it does not work, each with its reason."""
        if self._crash is not None:
            return {self._worker.name: self._crash}
        missing: dict[str, str] = {}
        for runner in self._runners:
            if runner.breakers.worker.open:
                missing[runner.queue.name] = "the circuit breaker is open: most jobs fail; see its dead-letter queue"
            elif not runner.consuming:
                missing[runner.queue.name] = "not consuming"
        return missing

    async def keep_running(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, and start again after a crash: the other workers of the process go on."""
        pause = FIRST_PAUSE
        while not stop.is_set():
            started = time.monotonic()
            try:
                await self.run(stop)
            except Exception as error:
                if time.monotonic() - started > SETTLED_AFTER:
                    pause = FIRST_PAUSE
                self._crash = f"it crashed with {type(error).__name__}, and starts again; see the log"
                metrics.WORKER_CRASHES.labels(self._worker.name).inc()
                logger.exception("worker crashed; starting it again", worker=self._worker.name, pause=pause)
                self.started.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await stop.wait()
                pause = min(pause * 2, LONGEST_PAUSE)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, and finish what is in hand. Raises what the worker's machinery raised."""
        own, settings = asyncio.Event(), self._connections.settings
        async with self._worker.open(settings) as resource:
            context: Context[Any] = Context(
                settings,
                self._connections.pool,
                self._connections.publisher,
                resource,
                log.get_logger(f"workers.{self._worker.name}"),
                own,
            )
            tasks: set[asyncio.Task[Any]] = {asyncio.create_task(stop.wait())}
            self._runners = []
            if isinstance(self._worker, Worker):
                for queue in self._queues:
                    runner = Runner(self._worker, queue, context, self._connections.watch)
                    self._runners.append(runner)
                    tasks.update(runner.start(self._connections.link))
            loop = self._worker.beside if isinstance(self._worker, Worker) else self._worker
            loops = []
            if loop is not None:
                loops.append(asyncio.create_task(_forever(loop, context, self._connections.watch)))
            self._crash = None
            self.started.set()
            done, _ = await asyncio.wait({*tasks, *loops}, return_when=asyncio.FIRST_COMPLETED)
            own.set()  # also where a task failed: handlers end with what they have in hand
            await cancel(loops)
            await asyncio.gather(*(runner.stop(settings.stop_grace) for runner in self._runners))
            await cancel(tasks)
            for task in done:
                if task.cancelled():  # a library may cancel it, and CancelledError would pass for our own end
                    raise RuntimeError(f"the task {task.get_name()!r} was cancelled")
                task.result()


async def _forever(loop: Loop[Any], context: Context[Any], watch: database.DatabaseWatch) -> None:
    """Run a loop's body; start it again after a second where it raised, whatever it was."""
    assert loop.body is not None, f"loop {loop.name} has no body"
    while True:
        await watch.wait()
        try:
            await loop.body(context)
        except Exception as error:
            if isinstance(error, PublishFailed):
                if context.publisher.ready:  # else its link says that the broker is away
                    context.log.warning("broker did not take it; starting the loop again", worker=loop.name)
            elif database.is_outage(error):
                watch.lost(error)
            else:
                context.log.exception("loop failed; starting it again", worker=loop.name)
        await asyncio.sleep(1)
