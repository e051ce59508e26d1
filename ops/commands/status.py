"""palomar status: queues, unfinished rows, spool and processes at a glance, and what to do where something is wrong."""

import time
from collections.abc import Iterable
from typing import Annotated

import orjson
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ops import connections, terminal
from ops import status as states
from ops.snapshot import Queue, Snapshot
from shared.settings import settings
from shared.store.webhook_deliveries.figures import Troubled

EVERY = 2.0  # seconds, with --watch


def status(
    as_json: Annotated[bool, typer.Option("--json", help="for a program; with --watch a line each time")] = False,
    watch: Annotated[bool, typer.Option("--watch", help=f"again every {EVERY:g} s, until Ctrl-C")] = False,
) -> None:
    """Show how things are. Exit code 1 where RabbitMQ or PostgreSQL does not answer."""
    if watch:
        _watch(as_json=as_json)
        return
    taken = connections.run(states.take(settings()))
    if as_json:
        typer.echo(orjson.dumps(taken.as_json(), option=orjson.OPT_INDENT_2))
    else:
        terminal.console().print(_shown(taken))
    if not taken.answers:
        raise typer.Exit(1)


def _watch(*, as_json: bool) -> None:
    """Until Ctrl-C."""
    if as_json:
        while True:
            typer.echo(orjson.dumps(connections.run(states.take(settings())).as_json()))
            time.sleep(EVERY)
    with Live(console=terminal.console(), auto_refresh=False) as live:
        while True:
            live.update(_shown(connections.run(states.take(settings()))), refresh=True)
            time.sleep(EVERY)


def _shown(taken: Snapshot) -> RenderableType:
    parts: list[RenderableType] = []
    if taken.queues is not None:
        parts.append(_queues(taken.queues))
    parts.append(_facts(taken))
    if taken.processes or taken.answers or not taken.looked:
        parts.append(_processes(taken))
    advice = taken.advice
    parts.append(Text("What to do:" if advice else "All is well.", style="bold red" if advice else "bold green"))
    parts += [terminal.plain(f"  {line}") for line in advice]
    return Group(*parts)


def _table(*headings: str) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("queue", "process", "state") else "right")
    return table


def _queues(queues: Iterable[Queue]) -> RenderableType:
    table = _table("queue", "envelopes", "jobs", "in hand", "consumers", "dead letters")
    for queue in queues:
        jobs = "?" if queue.items is None else f"≥ {queue.items}" if queue.at_least else str(queue.items)
        table.add_row(
            queue.name,
            str(queue.envelopes),
            jobs,
            str(queue.in_hand),
            Text(str(queue.consumers), style="" if queue.consumers else "bold red"),
            Text(str(queue.dead), style="bold red" if queue.dead else ""),
        )
    note = (
        "envelopes: messages ready in RabbitMQ. jobs: of persist's queues at least the envelopes, each of which holds "
        "up to 100; elsewhere the rows that wait for this step, published or not. in hand: of this machine's processes."
    )
    return Group(table, Text(note, style="dim"))


def _facts(taken: Snapshot) -> RenderableType:
    facts: dict[str, str] = {}
    if taken.queues is not None:
        facts["waiting to be tried again"] = f"{taken.retrying} envelopes"
    if (rows := taken.rows) is not None:
        facts |= {
            "replies owed": str(rows.replies_owed),
            "overdue": f"{rows.overdue} rows",
            "parked": f"{rows.set_aside} rows, whose jobs are dead letters",
            "put to you by a restore": f"{rows.restored} messages and replies",
            "held until the customer writes": str(rows.held),
            "sends of unknown outcome": f"{rows.unknown} (unknown)",
            "receipts before their message": f"{rows.parked_receipts} (parked)",
            "events not yet published": f"since {rows.relay_lag:.1f} s" if rows.relay_lag else "none",
            "deliveries to tenants' webhooks": _deliveries(rows.webhooks),
            "tenants' webhooks": f"{len(rows.webhooks.failing)} failing, {rows.webhooks.paused} paused, "
            f"{len(rows.webhooks.disabled)} disabled",
        }
    facts["last tick of a clock"] = (
        "not known here" if taken.clock_tick_age is None else terminal.ago(taken.clock_tick_age)
    )
    facts["spool"] = f"{taken.spool.webhooks} webhooks, {taken.spool.bytes} bytes"
    table = Table(show_header=False)
    for name, fact in facts.items():
        table.add_row(name, fact)
    return table


def _deliveries(webhooks: Troubled) -> str:
    late = f", the oldest that is due by {webhooks.oldest_due:.1f} s" if webhooks.oldest_due else ""
    return f"{webhooks.waiting} wait{late}"


def _processes(taken: Snapshot) -> RenderableType:
    table = _table("process", "pid", "port", "state")
    if not taken.looked:
        table.add_row("?", "–", "–", Text("not looked for: pip install 'palomar[local]'", style="dim"))
    for one in taken.processes:
        why = "; ".join(f"{what}: {why_not}" for what, why_not in one.missing.items())
        state = terminal.plain(why, "bold red") if why else Text("ready", style="green")
        table.add_row(one.name, str(one.pid), str(one.port or "–"), state)
    for name in taken.missing:
        table.add_row(name, "–", "–", Text("does not run on this machine", style="dim"))
    return table
