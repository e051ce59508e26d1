"""python -m workers NAME… | all: runs workers in one process until SIGTERM.

A name is a worker (`persist`: all its queues) or one queue of it (`persist.receipts`). Starting more of the process
whose queue is long is all there is to scaling.
"""

import asyncio
import errno
import importlib
import pkgutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvloop

import workers
from shared import database
from shared.process import health, log, memory
from shared.process.tasks import cancel
from shared.queue.connection import Link, PublishFailed
from shared.queue.publisher import Publisher
from shared.queue.runner import Runner
from shared.queue.topology import WorkQueue
from shared.queue.worker import Context, Loop, Worker
from shared.settings import Settings, SettingsInvalid, load

AnyWorker = Worker[Any, Any] | Loop[Any]


def declared() -> dict[str, AnyWorker]:
    """Every worker there is, by name: `worker` in workers/NAME.py, or in workers/NAME/worker.py."""
    found = [module for module in pkgutil.iter_modules(workers.__path__) if not module.name.startswith("_")]
    paths = {module.name: f"workers.{module.name}{'.worker' if module.ispkg else ''}" for module in found}
    return {name: importlib.import_module(path).worker for name, path in paths.items()}


def chosen(names: Sequence[str]) -> list[tuple[AnyWorker, tuple[WorkQueue, ...]]]:
    """The workers and queues that these names mean. Raises ValueError naming what exists."""
    every = declared()
    workers_of_queues = {
        queue.name: name for name, worker in every.items() if isinstance(worker, Worker) for queue in worker.queues
    }
    there_are = f"there are: all, {', '.join(sorted({*every, *workers_of_queues}))}"
    if not names:
        raise ValueError(f"name at least one worker; {there_are}")
    wanted: dict[str, set[str]] = {}
    for name in every if "all" in names else names:
        if name in every:
            worker = every[name]
            queues = {queue.name for queue in worker.queues} if isinstance(worker, Worker) else set()
            wanted.setdefault(name, set()).update(queues)
        elif name in workers_of_queues:
            wanted.setdefault(workers_of_queues[name], set()).add(name)
        else:
            raise ValueError(f"no worker {name!r}; {there_are}")
    return [
        (every[name], tuple(q for q in getattr(every[name], "queues", ()) if q.name in queues))
        for name, queues in wanted.items()
    ]


class Process:
    """The workers of one process and what they share: the pool, a connection to publish, one to consume."""

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self._settings = settings
        self._chosen = chosen(names)
        self.name = " ".join(names)
        self._runners: list[Runner[Any, Any]] = []
        self._loops: list[asyncio.Task[None]] = []
        self._publisher: Publisher | None = None
        self._watch: database.DatabaseWatch | None = None

    def _missing(self) -> dict[str, str]:
        missing: dict[str, str] = {}
        if reason := self._watch.unready_reason if self._watch is not None else database.why_away(None):
            missing["database"] = reason
        if self._publisher is None or not self._publisher.ready:
            missing["broker"] = "no connection to RabbitMQ"
        for runner in self._runners:
            if runner.breakers.worker.open:
                missing[runner.queue.name] = "the circuit breaker is open: most jobs fail; see its dead-letter queue"
            elif not runner.consuming:
                missing[runner.queue.name] = "not consuming"
        return missing

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Raises what a worker's machinery raised, so that a supervisor starts it anew."""
        logger = log.get_logger("workers")
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(
                health.serving(health.health(self._missing), self._settings.host, self._settings.port or 0)
            )
            logger.info("starting", workers=self.name, port=port)

            pool = database.make_pool(self._settings, process=self.name, lock_wait=database.LOCK_WAIT)
            stack.callback(pool.terminate)
            self._watch = database.DatabaseWatch(pool)
            stack.push_async_callback(self._watch.close)
            self._publisher = Publisher(
                self._settings.amqp_url.get_secret_value(),
                self.name,
                timeout=self._settings.publish_timeout,
                delays=self._settings.retry_delays,
            )
            await self._publisher.start()
            stack.push_async_callback(self._publisher.close)
            stopping = asyncio.create_task(_until(stop))
            stack.callback(stopping.cancel)

            ready = asyncio.create_task(self._open(pool, self._watch, self._publisher))
            await asyncio.wait({ready, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                ready.cancel()
                await asyncio.gather(ready, return_exceptions=True)
                return
            await ready

            link = Link(self._settings.amqp_url.get_secret_value(), f"{self.name} consume")
            link.start()
            stack.push_async_callback(link.close)
            tasks: set[asyncio.Task[None]] = set()
            async with self._resources(pool, self._publisher, stop) as contexts:
                for (worker, queues), context in zip(self._chosen, contexts, strict=True):
                    if isinstance(worker, Worker):
                        for queue in queues:
                            runner = Runner(worker, queue, context, self._watch)
                            self._runners.append(runner)
                            tasks.update(runner.start(link))
                    loop = worker.beside if isinstance(worker, Worker) else worker
                    if loop is not None:
                        self._loops.append(asyncio.create_task(_forever(loop, context, self._watch)))
                        tasks.add(self._loops[-1])
                memory.tune_collector()
                done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
                stop.set()  # also where a task failed: handlers end with what they have in hand
                await cancel(self._loops)
                await asyncio.gather(*(runner.stop(self._settings.stop_grace) for runner in self._runners))
                for task in done & tasks:
                    task.result()
            logger.info("stopped", workers=self.name)

    async def _open(self, pool: database.Pool, watch: database.DatabaseWatch, publisher: Publisher) -> None:
        await pool  # min_size is 0: this prepares the pool and connects nothing yet
        watch.lost()
        await asyncio.gather(watch.wait(), publisher.wait_ready())

    @asynccontextmanager
    async def _resources(
        self, pool: database.Pool, publisher: Publisher, stop: asyncio.Event
    ) -> AsyncIterator[list[Context[Any]]]:
        async with AsyncExitStack() as stack:
            contexts = []
            for worker, _ in self._chosen:
                resource = await stack.enter_async_context(worker.open(self._settings))
                logger = log.get_logger(f"workers.{worker.name}")
                contexts.append(Context(self._settings, pool, publisher, resource, logger, stop))
            yield contexts


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


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _main(settings: Settings, names: Sequence[str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Process(settings, names).run(stop)


def main(names: Sequence[str]) -> int:
    """Exit code 0 after an orderly stop, 1 for a port that is taken, 2 for a wrong name or setting."""
    try:
        chosen(names)
        settings = load()
    except (ValueError, SettingsInvalid) as error:
        print(f"python -m workers: {error}", file=sys.stderr)
        return 2
    log.configure(" ".join(names), settings.log_level)
    memory.return_large_blocks()
    try:
        uvloop.run(_main(settings, names))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        print(
            f"python -m workers: port {settings.port} is taken; set PORT to another one, or unset it", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
