"""Chooses the workers that a process runs, and runs them with one pool and one pair of connections."""

import asyncio
import importlib
import pkgutil
from collections.abc import Sequence
from contextlib import AsyncExitStack

import workers
from shared import database
from shared.process import health, log, memory
from shared.queue.connection import Link
from shared.queue.publisher import Publisher
from shared.queue.topology import WorkQueue
from shared.queue.worker import Worker
from shared.settings import Settings
from workers._unit import AnyWorker, Connections, Unit


def declared() -> dict[str, AnyWorker]:
    """Every worker there is, by name: `worker` in workers/NAME.py, or in workers/NAME/worker.py."""
    return {name: _imported(path) for name, path in _paths().items()}


def _paths() -> dict[str, str]:
    """The module of every worker, by the worker's name."""
    found = [module for module in pkgutil.iter_modules(workers.__path__) if not module.name.startswith("_")]
    return {module.name: f"workers.{module.name}{'.worker' if module.ispkg else ''}" for module in found}


def _imported(path: str) -> AnyWorker:
    worker: AnyWorker = importlib.import_module(path).worker
    return worker


def chosen(names: Sequence[str]) -> list[tuple[AnyWorker, tuple[WorkQueue, ...]]]:
    """The workers and queues that these names mean. Raises ValueError naming what exists.

    A queue has the name of its worker, or begins with it and a dot. No other worker is imported: each has libraries of
    its own, which take a fifth of a process's memory.
    """
    if not names:
        raise ValueError(f"name at least one worker; {_there_are()}")
    paths = _paths()
    wanted: dict[str, set[str]] = {}
    for name in paths if "all" in names else names:
        worker_name = name.partition(".")[0]
        queues = _queues(_imported(paths[worker_name])) if worker_name in paths else ()
        meant = {queue.name for queue in queues if name in (worker_name, queue.name)}
        if not meant and name not in paths:
            raise ValueError(f"no worker {name!r}; {_there_are()}")
        wanted.setdefault(worker_name, set()).update(meant)
    chosen_workers = [(_imported(paths[name]), queues) for name, queues in wanted.items()]
    return [(worker, tuple(q for q in _queues(worker) if q.name in queues)) for worker, queues in chosen_workers]


def _queues(worker: AnyWorker) -> tuple[WorkQueue, ...]:
    return worker.queues if isinstance(worker, Worker) else ()


def _there_are() -> str:
    every = declared()
    return f"there are: all, {', '.join(sorted({*every, *(q.name for w in every.values() for q in _queues(w))}))}"


class Process:
    """The workers of one process and what they share: the pool, a connection to publish, one to consume.

    A worker that crashes ends the process where it is the only one; else it starts again, and the others go on.
    """

    def __init__(
        self,
        settings: Settings,
        names: Sequence[str],
        *,
        serve_health: health.Serve | None = None,
        pool_size: int | None = None,
    ) -> None:
        """`serve_health` is where it says how it is, its PORT unless given. `pool_size` replaces the setting."""
        self._settings = settings
        self._chosen = chosen(names)
        self.name = " ".join(names)
        self._serve_health = serve_health or health.at_port(settings.host, settings.port or 0)
        self._pool_size = pool_size
        self._units: list[Unit] = []
        self._publisher: Publisher | None = None
        self._watch: database.DatabaseWatch | None = None

    def _missing(self) -> dict[str, str]:
        missing: dict[str, str] = {}
        if reason := self._watch.unready_reason if self._watch is not None else database.why_away(None):
            missing["database"] = reason
        if self._publisher is None or not self._publisher.ready:
            missing["broker"] = "no connection to RabbitMQ"
        for unit in self._units:
            missing |= unit.missing
        return missing

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Raises what the only worker's machinery raised, so that a supervisor starts the
        process anew."""
        logger = log.get_logger("workers")
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(self._serve_health(self._missing, dict))
            logger.info("starting", workers=self.name, port=port)

            pool = database.make_pool(
                self._settings, process=self.name, size=self._pool_size, lock_wait=database.LOCK_WAIT
            )
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
            connections = Connections(self._settings, pool, self._watch, self._publisher, link)
            self._units = [Unit(worker, queues, connections) for worker, queues in self._chosen]
            alone = len(self._units) == 1
            tasks = [asyncio.create_task(unit.run(stop) if alone else unit.keep_running(stop)) for unit in self._units]
            started = asyncio.create_task(self._started())
            await asyncio.wait({*tasks, started}, return_when=asyncio.FIRST_COMPLETED)
            memory.tune_collector()
            await asyncio.gather(*tasks)
            logger.info("stopped", workers=self.name)

    async def _open(self, pool: database.Pool, watch: database.DatabaseWatch, publisher: Publisher) -> None:
        await pool  # min_size is 0: this prepares the pool and connects nothing yet
        watch.lost()
        await asyncio.gather(watch.wait(), publisher.wait_ready())

    async def _started(self) -> None:
        for unit in self._units:
            await unit.started.wait()


async def _until(event: asyncio.Event) -> None:
    await event.wait()
