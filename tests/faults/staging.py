"""What the fault tests stand on: every process of Palomar as a process of its own, which can be killed and started.

    async with playing(stack, settings, tmp_path) as system:
        await system.start("receive", "persist.1", "persist.2")
        await system.kill("persist.1")

A name is a Procfile's, with a number where several run. The broker and the database are the test session's own; a
test may take them down, and they run again when it ends. Whatever was started here ends with the test.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import aio_pika
import aiohttp
import asyncpg

from ops.local import subprocesses
from ops.local.stack import Stack
from ops.sandbox.client import SandboxClient
from shared import database
from shared.queue import topology
from shared.queue.publisher import Publisher
from shared.settings import Settings
from tests.faults.providers import TWILIO, Provider
from tests.support import dying
from tests.support.ports import free_port
from tests.support.stage import ROOT, Stage, environ, quick

T = TypeVar("T")

_MODULES: Final[Mapping[str, list[str]]] = {
    "receive": ["ingress", "receive"], "api": ["ingress", "api", "--share-port"], "sandbox": ["ops.sandbox"],
}  # fmt: skip
PILE_UP: Final = 0.7  # seconds that a process is frozen for, so that a kill finds it at work
UP_WITHIN: Final = 60.0  # seconds from a process's start to its being ready, on a machine that does much else

# Leases of seconds. A send's total is long enough for a provider on a busy machine: an `unknown` shall come of a fault.
LEASES: Final[Mapping[str, object]] = {
    "handoff_lease": 2.0,
    "reply_lease": 3.0,
    "send_timeout": 4.0,
    "send_lease_margin": 2.0,
    "unknown_check_after": 1.0,
    "unknown_absent_for": 3.0,
    "unknown_give_up_after": 8.0,
    "clock_tick": 0.3,
    "relay_poll": 0.3,
    "retry_delays": (0.5, 1.0, 2.0),
    "log_level": "info",
}


class System:
    """The processes, and what is known of them from outside."""

    def __init__(
        self, stack: Stack, settings: Settings, folder: Path, ports: Mapping[str, int], provider: Provider
    ) -> None:
        self.stack = stack
        self.provider = provider
        self.settings = settings
        self._folder = folder
        self._notes = folder / "in-flight"  # of processes that killed themselves
        self._ports = dict(ports)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.stage: Stage  # set by `playing`, once the sandbox answers
        # Messages in `sending` when their process was killed or the database went: their outcome may be unknown.
        self.in_flight: set[UUID] = set()
        self.relayed: dict[tuple[int, int], None] = {}  # (xid, seq) of every event, in the order of arrival

    # -- processes -------------------------------------------------------------------------------------------------

    async def start(self, *names: str) -> None:
        """Start these and return once they are ready."""
        self.launch(*names)
        await self.ready(*names)

    def launch(self, *names: str, dies_at: str | None = None) -> None:
        """Start these without waiting. With `dies_at`, workers that kill themselves there: tests/support/dying.py."""
        for name in names:
            assert not self.runs(name), f"{name} runs already"
            kind = name.partition(".")[0]
            module = _MODULES.get(kind, ["workers", kind])
            if dies_at is not None:
                module = ["tests.support.dying", dies_at, kind]
            port = self._ports.setdefault(name, free_port())
            self._processes[name] = subprocesses.spawn(
                [sys.executable, "-m", *module],
                root=self.stack.root,
                env={
                    **os.environ,
                    **environ(self.settings),
                    "PORT": str(port),
                    "PALOMAR_HEALTH_PORT": str(self._health_port(name)),
                    "PALOMAR_API_PORT": str(self._ports.setdefault(f"{name} api", free_port())),
                    "PYTHONPATH": str(ROOT),
                    dying.NOTES: str(self._notes),
                },
                log=self.log(name),
                cwd=self._folder,  # not where `palomar up` keeps its env file
                on_orphaned=signal.SIGKILL,
            )

    def _health_port(self, name: str) -> int:
        """Where a process tells of its health: one that takes webhooks at a port of its own, others at their only
        one."""
        takes_webhooks = name in ("receive", "all")
        return self._ports.setdefault(f"{name} health", free_port()) if takes_webhooks else self._ports[name]

    def runs(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    async def died(self, name: str) -> bool:
        """Whether this process has killed itself. Then it can be started again, and its calls in flight are noted."""
        process = self._processes[name]
        if process.poll() is None:
            return False
        assert process.returncode == -signal.SIGKILL, (
            f"{name} ended by itself with {process.returncode}:\n{subprocesses.last_lines(self.log(name), 30)}"
        )
        del self._processes[name]
        if self._notes.exists():
            self.in_flight |= {UUID(line) for line in self._notes.read_text().split()}
        return True

    def names(self, *kinds: str) -> list[str]:
        """All processes of these kinds that were started."""
        return [name for name in self._processes if name.partition(".")[0] in kinds]

    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self._processes.items()}

    def log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    async def ready(self, *names: str) -> None:
        """Return once these say that they are ready. Raises AssertionError where one does not, or has ended."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as client:
            for name in names:
                await self.until(partial(self._missing, client, name), equals={}, within=UP_WITHIN, what=name)

    async def _missing(self, client: aiohttp.ClientSession, name: str) -> object:
        assert self.runs(name), f"{name} ended by itself:\n{subprocesses.last_lines(self.log(name), 30)}"
        try:
            async with client.get(f"http://127.0.0.1:{self._health_port(name)}/readyz") as answer:
                return (await answer.json()).get("missing", {})
        except (aiohttp.ClientError, TimeoutError) as error:
            return repr(error)

    async def metric(self, name: str, metric: str) -> float:
        """A process's metric, with its labels as the text format writes them; 0 where it is not there yet."""
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{self._health_port(name)}/metrics") as answer,
        ):
            for line in (await answer.text()).splitlines():
                if line.startswith(metric + " "):
                    return float(line.rpartition(" ")[2])
        return 0.0

    async def receipts_pending(self) -> int:
        """Status callbacks that the sandbox still has to deliver."""
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"{self.settings.sandbox_url}/healthz") as answer,
        ):
            return int((await answer.json())["receipts_pending"])

    async def kill_at_work(self, *names: str, after: float) -> None:
        """Let work pile up before them, then SIGKILL so many seconds after they take to it again."""
        for name in names:
            self._processes[name].send_signal(signal.SIGSTOP)
        await asyncio.sleep(PILE_UP)
        for name in names:
            self._processes[name].send_signal(signal.SIGCONT)
        await asyncio.sleep(after)
        await self.kill(*names)

    async def kill(self, *names: str) -> None:
        """SIGKILL. Of senders it is known afterwards what they had in flight: they are frozen first and looked at."""
        senders = [name for name in names if name.startswith("send")]
        for name in senders:
            self._processes[name].send_signal(signal.SIGSTOP)
        if senders:
            await self._note_in_flight()
        for name in names:
            self._processes[name].kill()
        killed = {name: self._processes.pop(name) for name in names}
        for process in killed.values():
            process.wait()
        if senders:
            # A claim that was on its way to PostgreSQL is still carried out, some time after the kill.
            await self._hung_up([killed[name].pid for name in senders])
            await self._note_in_flight()

    async def _hung_up(self, pids: Iterable[int]) -> None:
        """Return once PostgreSQL has carried out the last that these processes asked of it."""
        names = [f"palomar send {pid}" for pid in pids]
        await self.until(
            lambda: self.count("pg_stat_activity WHERE application_name = ANY($1::text[])", names),
            equals=0,
            within=10.0,
            what="connections of killed senders",
        )

    async def _note_in_flight(self) -> None:
        """Keep what is in `sending`, of all senders: which of them holds a claim is not in the row, so it is a bound
        from above."""
        self.in_flight |= {row["id"] for row in await self.rows("SELECT id FROM messages WHERE status = 'sending'")}

    async def terminate(self, *names: str, within: float = 30.0) -> None:
        """SIGTERM; each must end in order."""
        for name in names:
            self._processes[name].terminate()
        for name in names:
            code = await asyncio.to_thread(self._processes.pop(name).wait, within)
            assert code == 0, f"{name} ended with {code} on SIGTERM:\n{subprocesses.last_lines(self.log(name), 30)}"

    def all_alive(self) -> None:
        """Raises AssertionError where a process ended by itself."""
        for name, process in self._processes.items():
            code = process.poll()
            assert code is None, f"{name} ended by itself with {code}:\n{subprocesses.last_lines(self.log(name), 30)}"

    def end(self) -> None:
        """Kill whatever of it runs."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    # -- broker and database ---------------------------------------------------------------------------------------

    def kill_broker(self) -> None:
        """As a power cut would."""
        self.stack.rabbitmq.kill()

    async def start_broker(self) -> None:
        self.stack.rabbitmq.launch()  # from this thread: see ops.local.subprocesses.spawn
        await asyncio.to_thread(self.stack.rabbitmq.await_ready)

    async def stop_database(self) -> None:
        """A crash: what was not committed is gone."""
        await asyncio.to_thread(self.stack.postgres.stop, "immediate")

    async def start_database(self) -> None:
        """Recover. What is then in `sending`, or became unknown meanwhile, was in flight when the database went."""
        self.stack.postgres.start()
        rows = await self.rows(
            """SELECT id FROM messages WHERE status = 'sending'
                OR (status = 'unknown' AND unknown_at > pg_postmaster_start_time())"""
        )
        self.in_flight |= {row["id"] for row in rows}

    # -- asking ----------------------------------------------------------------------------------------------------

    async def rows(self, query: str, *arguments: object, patience: float = 30.0) -> list[asyncpg.Record]:
        """Ask the database; again, for so many seconds, where it is away."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return list(await self.stage.pool.fetch(query, *arguments))
            except Exception as error:
                if not database.is_outage(error) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def value(self, query: str, *arguments: object) -> object:
        """The one value of a query's one row."""
        (row,) = await self.rows(query, *arguments)
        return row[0]

    async def count(self, of: str, *arguments: object) -> int:
        """How many rows: `count("messages WHERE role = 'user'")`."""
        return int(str(await self.value(f"SELECT count(*) FROM {of}", *arguments)))

    async def until(
        self, ask: Callable[[], Awaitable[T]], *, equals: object, within: float, what: str = "the answer"
    ) -> T:
        """Ask again and again until the answer is this. Raises AssertionError with the last answer."""
        return await self.until_holds(ask, lambda answer: answer == equals, within=within, what=f"{what} ({equals!r})")

    async def until_holds(
        self, ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool], *, within: float, what: str
    ) -> T:
        deadline = time.monotonic() + within
        while True:
            answer = await ask()
            if holds(answer):
                return answer
            assert time.monotonic() < deadline, f"waited {within:g} s for {what}; last it was {answer!r}"
            await asyncio.sleep(0.1)

    async def take_all(self, queue: str) -> list[bytes]:
        """Take every message out of a queue; their bodies in order."""
        bodies: list[bytes] = []
        async with await aio_pika.connect(self.settings.amqp_url.get_secret_value()) as connection:
            source = await (await connection.channel()).get_queue(queue, ensure=False)
            while (message := await source.get(no_ack=True, fail=False)) is not None:
                bodies.append(message.body)
        return bodies

    async def dead_letters(self) -> dict[str, list[bytes]]:
        """Queue name → the bodies in its dead-letter queue, which is empty afterwards; without the empty ones."""
        bodies = {queue.name: await self.take_all(queue.dead_letters) for queue in topology.QUEUES}
        return {name: found for name, found in bodies.items() if found}

    def troubles(self, most: int = 6) -> str:
        """The last errors and warnings in each process's log, for the reader of a failure."""
        summary = [f"logs: {self._folder / 'logs'}"]
        for path in sorted((self._folder / "logs").glob("*.log")):
            bad = [line for line in path.read_text(errors="replace").splitlines() if not _is_quiet(line)]
            state = "runs" if self.runs(path.stem) else "does not run"
            summary.append(f"{path.stem} ({state}): {len(bad)} lines of warning or worse")
            summary += [f"    {line[:300]}" for line in bad[-most:]]
        return "\n".join(summary)


def _is_quiet(line: str) -> bool:
    with contextlib.suppress(ValueError):
        return json.loads(line).get("level") in ("info", "debug")
    return False


@asynccontextmanager
async def playing(
    stack: Stack,
    settings: Settings,
    folder: Path,
    *,
    provider: Provider = TWILIO,
    channel: Mapping[str, object] | None = None,
    **others: object,
) -> AsyncIterator[System]:
    """A system with one channel, of which only the sandbox runs yet. Settings are LEASES, `others` on top."""
    ports = {"receive": free_port(), "sandbox": free_port()}
    sandbox_url = f"http://127.0.0.1:{ports['sandbox']}"
    settings = quick(
        settings,
        **{
            **LEASES,
            **provider.leases,
            "twilio_api_url": sandbox_url,
            "meta_api_url": sandbox_url,
            "kommo_api_url": sandbox_url,
            "sandbox_url": sandbox_url,
            "sandbox_smtp_port": 0,  # any free one: a system that runs here has the usual one
            "public_url": f"http://127.0.0.1:{ports['receive']}",
            **others,
        },
    )
    system = System(stack, settings, folder, ports, provider)
    publisher = Publisher(settings.amqp_url.get_secret_value(), "test", timeout=5.0, delays=settings.retry_delays)
    pool = database.make_pool(settings, process="test", size=6)
    try:
        await publisher.start()
        await asyncio.wait_for(publisher.wait_ready(), 30)
        await pool
        await system.start("sandbox")
        async with SandboxClient(sandbox_url) as sandbox:
            system.stage = Stage(settings, pool, publisher, sandbox)
            system.stage.ours = await provider.add_channel(system.stage, channel)
            try:
                yield system
            except BaseException:
                print(system.troubles())  # pytest shows it with the failure
                raise
    finally:
        system.end()
        stack.revive()
        pool.terminate()
        await publisher.close()
