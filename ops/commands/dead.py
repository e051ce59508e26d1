"""palomar dead: list dead letters, show, replay or discard them."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import orjson
import typer
from rich.table import Table

from ops import connections, terminal
from ops.dead_letters import problems
from ops.errors import Problem
from shared.actions import dead_letters as shelves
from shared.queue import topology
from shared.queue.dead_item import DeadItem
from shared.queue.jobs import WebhookReceived
from shared.settings import settings

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="a work queue (persist) or its dead letters (persist.dead)", metavar="NAME")]
Ids = Annotated[
    list[str] | None,
    typer.Option("--id", help=f"its id, or the first {shelves.SHORT_ID} characters or more"),
]
Every = Annotated[bool, typer.Option("--all", help="everything that lies there now")]


@app.command("list")
@problems()
def list_() -> None:
    """Every dead-letter queue: how many dead letters it holds, since when, and why."""

    async def session() -> list[shelves.Summary]:
        return [await shelves.summary(settings(), queue) for queue in topology.QUEUES]

    table = Table()
    for heading, justify in (
        ("dead-letter queue", "left"),
        ("count", "right"),
        ("oldest", "left"),
        ("mostly because", "left"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    summaries = connections.run(session())
    for one in summaries:
        share = f" ({one.alike} of the first {min(one.count, shelves.LOOKED_AT)})" if one.count > 1 else ""
        reason = terminal.plain(one.reason + share) if one.count else terminal.plain("–", "dim")
        count = terminal.plain(str(one.count), "bold red" if one.count else "dim")
        table.add_row(one.queue.dead_letters, count, terminal.when(one.oldest), reason)
    console = terminal.console()
    console.print(table)
    if any(one.count for one in summaries):
        console.print(
            "Look closer: palomar dead show NAME. Try again once the cause is mended: palomar dead replay NAME"
        )


@app.command()
@problems()
def show(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, help="dead letters, oldest first")] = 20,
    body: Annotated[bool, typer.Option("--body", help="show the bodies too; they may hold customers' texts")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="show where in the code it failed")] = False,
) -> None:
    """The dead letters of a queue: why, since when, after how many attempts. Bodies only when asked for."""
    queue = shelves.work_queue(name)
    count, items = connections.run(shelves.look(settings(), queue, limit))
    console = terminal.console()
    for item in items:
        console.print(_facts(item, body=body, traceback=traceback))
    if not count:
        console.print(f"{queue.dead_letters} is empty.")
        return
    shown = f"{len(items)} of {count}" if len(items) < count else str(count)
    hint = "" if body else " Bodies may hold customers' texts; --body shows them."
    console.print(f"{shown} in {queue.dead_letters}.{hint}")


def _facts(item: DeadItem, *, body: bool, traceback: bool) -> Table:
    table = Table(show_header=False)
    attempts = "not counted" if item.attempts is None else str(item.attempts)
    facts = {
        "id": item.id,
        "reason": item.reason,
        "since": terminal.when(item.dead_lettered_at),
        "attempts": attempts,
        "type": f"{item.type} × {item.items}" if item.items != 1 else item.type,
        "trace": ", ".join(item.traces) or "–",
        "traceback": item.traceback.rstrip() if traceback else "",
        "body": _readable(item.body) if body else "",
    }
    for name, fact in facts.items():
        if fact:
            table.add_row(name, terminal.plain(fact))
    return table


def _readable(body: bytes) -> str:
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return body.decode(errors="backslashreplace")


@app.command()
@problems()
def replay(name: Name, ids: Ids = None, every: Every = False) -> None:
    """Put dead letters back into their work queue as if they were new.

    Each is removed from the dead-letter queue only once the broker has confirmed it in the work queue. Killed in
    between, a job is in both, and what it asks for is still done once.
    """
    queue = shelves.work_queue(name)
    wanted = _wanted(ids, every=every)

    async def session(tell: shelves.Tell) -> int:
        async with connections.publisher(settings(), "palomar dead replay") as publisher:
            return await shelves.settle(settings(), queue, wanted, shelves.put_back(publisher, queue), tell)

    done = _with_progress(f"{queue.dead_letters} → {queue.name}", lambda tell: connections.run(session(tell)))
    terminal.console().print(
        f"{done} put back into {queue.name}." if done else f"{queue.dead_letters} is empty; nothing to replay."
    )


@app.command()
@problems()
def discard(
    name: Name,
    ids: Ids = None,
    every: Every = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="don't ask")] = False,
) -> None:
    """Throw dead letters away for good, and abandon their rows: a message fails, a reply is owed no longer.

    A webhook that was never stored is lost; a stored one stays in the log of raw webhooks: see `palomar replay`.
    """
    queue = shelves.work_queue(name)
    wanted = _wanted(ids, every=every)
    if not yes:
        what = f"all of {queue.dead_letters}" if wanted is None else f"{len(wanted)} of {queue.dead_letters}"
        if not typer.confirm(f"Throw away {what} for good?"):
            raise Problem("Nothing was thrown away.", "Answer y, or add --yes, to do it.")

    async def session(tell: shelves.Tell) -> int:
        if queue.name in WebhookReceived.queues:
            return await shelves.settle(settings(), queue, wanted, shelves.throw_away, tell)
        async with connections.database(settings(), "palomar dead discard") as pool:
            return await shelves.settle(
                settings(), queue, wanted, shelves.give_up(partial(connections.transaction, pool)), tell
            )

    done = _with_progress(f"discarding {queue.dead_letters}", lambda tell: connections.run(session(tell)))
    terminal.console().print(f"{done} discarded." if done else f"{queue.dead_letters} is empty; nothing to discard.")


def _wanted(ids: list[str] | None, *, every: bool) -> list[str] | None:
    """The ids asked for, None for all."""
    if every == bool(ids):
        raise Problem("Say which ones.", "Give --id ID (once for each), or --all; palomar dead show NAME lists them.")
    return ids or None


def _with_progress(title: str, work: Callable[[shelves.Tell], int]) -> int:
    with terminal.progress() as bar:
        task = bar.add_task(title, total=None)
        return work(lambda done, total: bar.update(task, completed=done, total=total))
