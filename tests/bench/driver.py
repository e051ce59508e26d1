"""Runs the rows one after the other on a stack of their own, and says on what they were measured."""

import asyncio
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import orjson
import psycopg
import uvloop

from ops.local.stack import Stack
from shared.process import log
from tests.bench import (
    queues,
    row_api,
    row_campaign,
    row_growth,
    row_import,
    row_ingress,
    row_isolation,
    row_lists,
    row_live,
    row_path,
    row_peers,
    row_persist,
    row_webhooks,
)  # fmt: skip
from tests.bench.arena import CHECKOUT, Arena
from tests.bench.figures import Advance, Result

STATE = CHECKOUT / ".palomar" / "bench"
ROWS: Mapping[str, Callable[[Arena, int, Advance], Awaitable[Result]]] = {
    row_ingress.ROW: row_ingress.measure,
    row_persist.ROW: row_persist.measure,
    row_path.ROW: row_path.measure,
    row_isolation.ROW: row_isolation.measure,
    row_api.ROW: row_api.measure,
    row_import.ROW: row_import.measure,
    row_live.ROW: row_live.measure,
    row_webhooks.ROW: row_webhooks.measure,
    row_growth.ROW: row_growth.measure,
    row_lists.ROW: row_lists.measure,
    row_campaign.ROW: row_campaign.measure,
    row_peers.ROW: row_peers.measure,
}
# Take many minutes, two of them gigabytes.
BY_NAME_ONLY = (row_import.ROW, row_growth.ROW, row_lists.ROW, row_campaign.ROW, row_peers.ROW)
ROUNDS = 5  # of a row, unless the caller or this says otherwise
FEWER_ROUNDS = {row_peers.ROW: 3}  # a round takes a minute
LIBRARIES = ("aio-pika", "aiormq", "aiohttp", "asyncpg", "pydantic", "uvloop", "twilio")
Begin = Callable[[str, int], Advance]  # a row begins, of so many rounds; what it returns is called after each


@dataclass(frozen=True, slots=True)
class Report:
    """All rows of one run, and what they ran on."""

    started_at: datetime
    rounds: Mapping[str, int]  # by row
    machine: Mapping[str, object]
    versions: Mapping[str, str]
    results: Sequence[Result]

    @property
    def missed(self) -> list[str]:
        """The goals that were not reached, in words."""
        return [missed for result in self.results for missed in result.missed()]

    def write(self, file: Path) -> None:
        """Everything, every round included, as JSON."""
        facts = {
            "started_at": self.started_at,
            "rounds": self.rounds,
            "machine": self.machine,
            "versions": self.versions,
            "rows": [result.view() for result in self.results],
            "missed": self.missed,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))


def run(rows: Sequence[str], rounds: int | None, begin: Begin) -> Report:
    """Measure these rows, from the main thread; `rounds` None: as many as each needs.

    Raises Problem where something is not as it must be.
    """
    log.configure("bench", "error")
    started_at, machine = datetime.now(UTC), _machine()
    results = []
    with Stack(STATE) as stack:
        arena = Arena(stack)
        versions = _versions(stack)
        of_each = {row: rounds or FEWER_ROUNDS.get(row, ROUNDS) for row in rows}
        for row, count in of_each.items():
            results.append(_measure(arena, row, count, begin(row, count)))
    stack.rabbitmq.forget()
    return Report(started_at, of_each, machine, versions, results)


def _measure(arena: Arena, row: str, rounds: int, advance: Advance) -> Result:
    async def measure() -> Result:
        return await ROWS[row](arena, rounds, advance)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure())
    finally:
        arena.stop()


def _machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _versions(stack: Stack) -> dict[str, str]:
    with psycopg.connect(stack.postgres.admin_url) as connection:
        (postgres,) = connection.execute("SHOW server_version").fetchone() or ("?",)
    python = sys.version.split()[0]
    return {
        "Python": python,
        "RabbitMQ": asyncio.run(queues.broker_version(stack.amqp_url)),
        "PostgreSQL": postgres,
        **{name: version(name) for name in LIBRARIES},
    }
