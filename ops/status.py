"""Takes the snapshot for `palomar status`: asks the broker, the database, the spool and the processes.

Each part is asked separately, so an outage of one does not hide the others. Queues are asked over AMQP: that is exact
at the moment, where the management API's figures are up to five seconds old, and it works with any broker.
"""

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from ingress.receive.spool_limits import SpoolLimits
from ops import connections
from ops.errors import Problem
from ops.local import processes
from ops.local.processes import Process
from ops.snapshot import Queue, Snapshot, Spool
from shared import database
from shared.queue import depths, topology
from shared.queue.connection import BrokerAway
from shared.queue.depths import Depth
from shared.settings import Settings
from shared.store import counts as row_counts
from shared.store import table_locks
from shared.store.counts import Rows

LOCK_WAIT = 2.0  # seconds for a table that a session has locked
SPOOL = "spool"  # below the state folder, as ingress names it


async def take(settings: Settings) -> Snapshot:
    """Ask everybody. Raises nothing for what is away: `away` and `advice` say it."""
    state = settings.state_dir
    try:
        found = await asyncio.to_thread(processes.find, state)
        expected = processes.expected()
    except ModuleNotFoundError:
        found, expected = None, {}
    running, counted, rows, spool = await asyncio.gather(
        processes.ask(found or ()),
        _broker(settings),
        _rows(settings),
        asyncio.to_thread(look_into_spool, state / SPOOL, settings.spool_limit),
    )
    known = rows if isinstance(rows, Rows) else None
    names = {one.name for one in running}
    missing = tuple(name for name in expected if name not in names and "all" not in names)
    ticks = [value for one in running for value in one.metrics.get("palomar_clock_last_tick_seconds", {}).values()]
    return Snapshot(
        queues=None if isinstance(counted, Problem) else _queues(counted, known, running),
        retrying=0 if isinstance(counted, Problem) else depths.retrying(settings, counted),
        rows=known,
        spool=spool,
        processes=tuple(running),
        looked=found is not None,
        missing=missing,
        clock_tick_age=time.time() - max(ticks) if any(ticks) else None,
        away=tuple((one.message, one.remedy) for one in (counted, rows) if isinstance(one, Problem)),
    )


# -- asking ------------------------------------------------------------------------------------------------------------


async def _broker(settings: Settings) -> dict[str, Depth] | Problem:
    """Every queue's messages that are ready, and its consumers."""
    try:
        return await depths.ask(settings, "palomar status")
    except BrokerAway as error:
        return connections.no_broker(error)
    except depths.NotDeclared:
        return Problem("RabbitMQ has none of our queues.", "Start Palomar once with ./palomar up: it makes them.")
    except depths.BrokeOff as error:
        return Problem(f"RabbitMQ broke off ({error}).", "Ask again.")


async def _rows(settings: Settings) -> Rows | Problem:
    try:
        async with connections.database(settings, "status", LOCK_WAIT) as pool:
            try:
                return await row_counts.rows(pool)
            except database.LockTimeout:
                return _locked(await table_locks.holders(pool))
    except Problem as problem:
        return problem


def _locked(holders: Sequence[table_locks.Holder]) -> Problem:
    """The sessions that lock whole tables for all tenants, and how to end them."""
    if not holders:  # it has just released them
        return Problem("PostgreSQL's tables were locked.", "Ask again.")
    sessions = "; ".join(
        f"session {one.pid} of role {one.role or 'unknown'} locks {', '.join(one.tables)}" for one in holders
    )
    ends = " ".join(f"SELECT pg_terminate_backend({one.pid});" for one in holders)
    return Problem(
        f"PostgreSQL's tables are locked, and all that needs them waits: {sessions}.",
        f"If that is no migration, end it as a superuser or as that role: {ends}",
    )


def look_into_spool(folder: Path, limit: int) -> Spool:
    """Count what waits in the spool's files, of living and dead processes alike; `limit` is PALOMAR_SPOOL_LIMIT."""
    webhooks = size = unreadable = 0
    for file in sorted(folder.glob("*.db")):
        try:
            size += sum(part.stat().st_size for part in folder.glob(f"{file.name}*"))
            spool = sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True, timeout=1)
            try:
                webhooks += spool.execute("SELECT count(*) FROM webhooks").fetchone()[0]
            finally:
                spool.close()
        except (sqlite3.Error, OSError):
            unreadable += file.exists()  # else its process has just emptied and removed it
    limits = SpoolLimits(folder, limit)
    try:
        reason = limits.unready_reason(limits.space(size, None))
    except OSError as error:
        reason = f"the disk of {folder} can't be asked: {error}"
    return Spool(webhooks, size if webhooks or unreadable else 0, unreadable, reason)


def _queues(counted: Mapping[str, Depth], rows: Rows | None, running: Sequence[Process]) -> tuple[Queue, ...]:
    """The work queues. The webhooks' queues hold what has no row yet; every other job has a row."""
    without_rows = (topology.PERSIST, topology.PERSIST_RECEIPTS)
    found = []
    for queue in topology.QUEUES:
        count = counted[queue.name]
        plain = queue in without_rows
        items = count.envelopes if plain else rows.waiting.get(queue.name, 0) if rows else None
        found.append(
            Queue(
                name=queue.name,
                worker=queue.name.partition(".")[0],
                envelopes=count.envelopes,
                consumers=count.consumers,
                dead=counted[queue.dead_letters].envelopes,
                items=items,
                at_least=plain and count.envelopes > 0,
                in_hand=round(sum(one.metrics.get("palomar_items_in_hand", {}).get(queue.name, 0) for one in running)),
            )
        )
    return tuple(found)


# -- what to do about it -----------------------------------------------------------------------------------------------
