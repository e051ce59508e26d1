"""What the tests of broker and runner stand on: a worker of one's own on a real queue, and what came of its jobs.

The queue is `reply`, whose own worker does not run here. The table `effects` records what a handler did, which takes
each name once, and by `runs`, which counts how often the handler was called.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import aio_pika
import aiormq
import asyncpg
import orjson
from aio_pika.abc import AbstractIncomingMessage

from shared import database
from shared.queue import topology
from shared.queue.connection import Link
from shared.queue.envelope import dump, envelope
from shared.queue.jobs import Job
from shared.queue.publisher import Publisher
from shared.queue.runner import Runner
from shared.queue.worker import Context, Worker
from shared.resilience.circuit_breaker import NO_SCOPE, Scope
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
QUEUE = topology.REPLY
SECONDS = 30.0  # patience of `until`; nothing takes a tenth of it on an idle machine


class SampleJob(Job):
    """A job of these tests. `act` tells a handler what to do with it."""

    type: ClassVar[str] = "test.job"
    queues: ClassVar[tuple[str, ...]] = (QUEUE.name,)

    name: str
    act: str = "do"
    tenant_id: UUID | None = None
    channel_id: UUID | None = None

    @property
    def key(self) -> str:
        return f"job:{self.name}"


Act = Callable[[SampleJob], Awaitable[None]]
BatchAct = Callable[[Sequence[SampleJob]], Awaitable[Sequence[SampleJob] | None]]


def sample_jobs(count: int, act: str = "do", prefix: str = "job", scope: Scope = NO_SCOPE) -> list[SampleJob]:
    return [
        SampleJob(name=f"{prefix}-{number}", act=act, tenant_id=scope.tenant, channel_id=scope.channel)
        for number in range(count)
    ]


def names(jobs: Iterable[SampleJob]) -> set[str]:
    return {job.name for job in jobs}


def patient(settings: Settings, **others: object) -> Settings:
    """The same settings with a quick retry schedule and short waits; `others` on top."""
    return settings.model_copy(
        update={"retry_delays": (0.1, 0.2, 0.3), "publish_timeout": 3.0, "stop_grace": 10.0, **others}
    )


async def until(ask: Callable[[], Awaitable[bool]], what: str, within: float = SECONDS) -> None:
    """Ask again and again until it holds."""
    deadline = asyncio.get_running_loop().time() + within
    while not await ask():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.05)


@dataclass
class Bench:
    """One test's broker and database, with a publisher of its own."""

    settings: Settings
    pool: database.Pool
    publisher: Publisher
    watch: database.DatabaseWatch
    runs: Counter[str] = field(default_factory=Counter)

    @property
    def context(self) -> Context[None]:
        return Context(self.settings, self.pool, self.publisher, None)

    # -- jobs and effects ------------------------------------------------------------------------------------------

    async def publish(self, *jobs: Job) -> None:
        await self.publisher.publish(*jobs)

    async def put(self, body: bytes, **headers: int) -> None:
        """One AMQP message with any body."""
        await self.publisher.publish_body(
            topology.WORK, QUEUE.name, body, message_id="put", type_=SampleJob.type, headers=headers
        )

    async def put_envelope(self, *jobs: SampleJob) -> None:
        """These jobs as one AMQP message, however many."""
        await self.put(envelope(SampleJob.type, [dump(job) for job in jobs]))

    async def do(self, job: SampleJob) -> None:
        """The effect of a job, once."""
        self.runs[job.name] += 1
        await self.pool.execute("INSERT INTO effects (name) VALUES ($1) ON CONFLICT DO NOTHING", job.name)

    async def done(self) -> set[str]:
        return {row["name"] for row in await self.pool.fetch("SELECT name FROM effects")}

    async def until_done(self, expected: Iterable[str], within: float = SECONDS) -> None:
        wanted = set(expected)

        async def all_done() -> bool:
            return wanted <= await self.done()

        await until(all_done, f"{len(wanted)} jobs done", within)

    # -- queues ----------------------------------------------------------------------------------------------------

    async def depth(self, queue: str) -> int:
        """Ready messages of a queue."""
        return (await self._declared(queue)).message_count or 0

    async def consumers(self, queue: str) -> int:
        return (await self._declared(queue)).consumer_count or 0

    async def _declared(self, queue: str) -> aiormq.spec.Queue.DeclareOk:
        async with await aio_pika.connect(self.settings.amqp_url.get_secret_value()) as connection:
            channel = await connection.channel()
            return (await channel.declare_queue(queue, passive=True)).declaration_result

    async def until_depth(self, queue: str, depth: int, within: float = SECONDS) -> None:
        async def reached() -> bool:
            return await self.depth(queue) == depth

        await until(reached, f"{depth} ready in {queue}", within)

    async def take(self, queue: str) -> list[AbstractIncomingMessage]:
        """Remove what is ready in a queue."""
        async with await aio_pika.connect(self.settings.amqp_url.get_secret_value()) as connection:
            source = await (await connection.channel()).get_queue(queue, ensure=False)
            taken = []
            while (message := await source.get(no_ack=True, fail=False)) is not None:
                taken.append(message)
            return taken

    async def dead_letters(self) -> list[AbstractIncomingMessage]:
        return await self.take(QUEUE.dead_letters)

    # -- workers ---------------------------------------------------------------------------------------------------

    def worker(self, act: Act | None = None, concurrency: int = 10) -> Worker[SampleJob, None]:
        """A worker that does `act` with each job, else `do`."""
        worker: Worker[SampleJob, None] = Worker("test", (QUEUE,), (SampleJob,), concurrency=concurrency)

        @worker.handle
        async def handle(job: SampleJob, ctx: Context[None]) -> None:
            await (act or self.do)(job)

        return worker

    def batch_worker(self, act: BatchAct, batch: int = 20) -> Worker[SampleJob, None]:
        worker: Worker[SampleJob, None] = Worker("test", (QUEUE,), (SampleJob,), concurrency=2, batch=batch)

        @worker.handle_batch
        async def handle(jobs: Sequence[SampleJob], ctx: Context[None]) -> Sequence[SampleJob] | None:
            return await act(jobs)

        return worker

    @asynccontextmanager
    async def working(self, worker: Worker[SampleJob, None] | None = None) -> AsyncIterator[Runner[SampleJob, None]]:
        """Run a worker inside the test. Fails if any of its tasks ends by itself."""
        runner = Runner(worker or self.worker(), QUEUE, self.context, self.watch)
        link = Link(self.settings.amqp_url.get_secret_value(), "test consume")
        link.start()
        tasks = runner.start(link)
        try:
            yield runner
            assert not [task for task in tasks if task.done()]
        finally:
            await runner.stop(self.settings.stop_grace)
            await link.close()

    @asynccontextmanager
    async def process(
        self,
        concurrency: int = 10,
        *,
        module: str = "tests.support.runner_process",
        names: Sequence[str] = ("test",),
        port: int = 0,
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run the worker of `runner_process` as a process of its own; killed at the end unless it is gone."""
        variables = {"PYTHONPATH": str(ROOT), "JOBS": str(concurrency), "PORT": str(port)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *names,
            cwd=self.settings.state_dir,
            env={**os.environ, **environ(self.settings), **variables},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()


def environ(settings: Settings) -> dict[str, str]:
    """The variables that make a process's settings these, as far as a worker's machinery reads them."""
    return {
        "AMQP_URL": settings.amqp_url.get_secret_value(),
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "PALOMAR_STATE_DIR": str(settings.state_dir),
        "PALOMAR_SECRET_KEYS": settings.secret_keys.get_secret_value(),
        "PALOMAR_RETRY_DELAYS": orjson.dumps(settings.retry_delays).decode(),
        "PALOMAR_PUBLISH_TIMEOUT": str(settings.publish_timeout),
        "PALOMAR_STOP_GRACE": str(settings.stop_grace),
        "PALOMAR_BRAKE_WINDOW": str(settings.circuit_breaker_window),
        "PALOMAR_BRAKE_TRIAL": str(settings.circuit_breaker_trial),
    }


@asynccontextmanager
async def bench(settings: Settings, **others: object) -> AsyncIterator[Bench]:
    settings = patient(settings, **others)
    owner = await asyncpg.connect(settings.database_url.get_secret_value())
    await owner.execute("CREATE TABLE effects (name text PRIMARY KEY, count int NOT NULL DEFAULT 1)")
    await owner.execute("GRANT ALL ON effects TO palomar_worker")
    await owner.close()
    publisher = Publisher(
        settings.amqp_url.get_secret_value(), "test", timeout=settings.publish_timeout, delays=settings.retry_delays
    )
    await publisher.start()
    pool = database.make_pool(settings, process="test", size=6)
    watch = database.DatabaseWatch(pool)
    try:
        await asyncio.wait_for(publisher.wait_ready(), 30)
        await pool
        yield Bench(settings, pool, publisher, watch)
    finally:
        await publisher.close()
        await watch.close()
        pool.terminate()


def header(message: AbstractIncomingMessage, name: str) -> Any:
    return message.headers.get(name)


def jobs_of(message: AbstractIncomingMessage) -> list[dict[str, Any]]:
    """The jobs in an envelope."""
    jobs: list[dict[str, Any]] = orjson.loads(message.body)["items"]
    return jobs
