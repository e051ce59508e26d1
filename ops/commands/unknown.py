"""palomar unknown: sends nobody knows about: list them, have them sent again, or give them up."""

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, TypeVar
from uuid import UUID

import orjson
import typer
from rich.table import Table

from ops import errands, terminal
from ops.errors import Problem
from shared import db
from shared.broker import Publisher, PublishFailed
from shared.messages import SendRequested
from shared.settings import settings
from shared.store import undecided
from shared.store.undecided import Named, Refused, Undecided

app = typer.Typer(no_args_is_help=True)

T = TypeVar("T")
SHORT_ID = 8  # characters of an id that name a message, if only one begins so
_DIGITS = re.compile(rf"[0-9a-f]{{{SHORT_ID},32}}")

Ids = Annotated[
    list[str], typer.Argument(help=f"messages' ids, or their first {SHORT_ID} characters or more", metavar="ID...")
]


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="for a program")] = False,
    body: Annotated[bool, typer.Option("--body", help="show the texts too")] = False,
    limit: Annotated[int, typer.Option(min=1, help="messages, those longest unknown first")] = 100,
) -> None:
    """Messages in `unknown`: they left, no answer came back, and nobody may send them again but you."""

    async def errand() -> list[Undecided]:
        async with errands.database(settings(), "unknown") as pool:
            return await undecided.listed(pool, limit + 1)

    found = errands.run(errand())
    more, found = len(found) > limit, found[:limit]
    if as_json:
        typer.echo(orjson.dumps([_as_json(one, body=body) for one in found], option=orjson.OPT_INDENT_2))
        return
    console = terminal.console()
    if not found:
        console.print("Nothing is unknown.")
        return
    console.print(_table(found, body=body))
    if more:
        console.print(f"There are more than {limit}; --limit shows more.")
    console.print(
        "Look them up at the provider. If it has none: palomar unknown resend ID. To give up: palomar unknown fail ID."
    )


def _table(found: list[Undecided], *, body: bool) -> Table:
    table = Table()
    for heading in ("id", "tenant", "channel", "lane", "claimed", "unknown since", "decides", *(["text"] * body)):
        table.add_column(heading, overflow="fold")
    for one in found:
        row = [
            terminal.plain(str(one.id)),
            terminal.plain(one.tenant),
            terminal.plain(one.channel),
            one.lane,
            terminal.when(one.claimed_at),
            terminal.when(one.unknown_at),
            terminal.plain("you", "bold red") if one.looked_up_at is None else "still looked up",
        ]
        table.add_row(*row, *([terminal.plain(one.content)] * body))
    return table


def _as_json(one: Undecided, *, body: bool) -> dict[str, object]:
    facts: dict[str, object] = {
        "id": str(one.id),
        "tenant_id": str(one.tenant_id),
        "tenant": one.tenant,
        "channel_id": str(one.channel_id),
        "channel": one.channel,
        "lane": one.lane,
        "claimed_at": one.claimed_at,
        "unknown_at": one.unknown_at,
        "looked_up_at": one.looked_up_at,
    }
    return facts | {"content": one.content} if body else facts


@app.command()
def resend(
    ids: Ids,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="don't ask")] = False,
) -> None:
    """Have messages of unknown outcome sent again, also those given up as unknown; each as a new message.

    Refused for one whose outcome is known by now, by a receipt for instance.
    """
    named = errands.run(_named(ids))
    if not yes:
        what = "1 message" if len(named) == 1 else f"{len(named)} messages"
        if not typer.confirm(f"Send {what} again? The first may have arrived: the customer may get it twice."):
            raise Problem("Nothing was sent again.", "Answer y, or add --yes, to do it.")
    handoff = timedelta(seconds=settings().handoff_lease)

    async def errand() -> bool:
        async with (
            errands.publisher(settings(), "palomar unknown") as publisher,
            errands.database(settings(), "unknown") as pool,
        ):

            async def one(message: Named) -> str:
                request = await _decided(pool, lambda tx: undecided.resend(tx, message, handoff))
                return f"is sent again as {request.message_id}{await _handed_on(publisher, request)}"

            return await _each(named, one)

    _end(errands.run(errand()))


@app.command()
def fail(ids: Ids) -> None:
    """Give messages of unknown outcome up: they are failed, with the code `unknown`. A late receipt still counts."""

    async def errand() -> bool:
        named = await _named(ids)
        async with errands.database(settings(), "unknown") as pool:

            async def one(message: Named) -> str:
                await _decided(pool, lambda tx: undecided.fail(tx, message))
                return "is given up"

            return await _each(named, one)

    _end(errands.run(errand()))


async def _named(ids: list[str]) -> list[Named]:
    """The messages meant, each once. Raises Problem for an id that is none or means several or nothing."""
    named: dict[UUID, Named] = {}
    async with errands.database(settings(), "unknown") as pool:
        for told in ids:
            digits = told.strip().lower().replace("-", "")
            if not _DIGITS.fullmatch(digits):
                raise Problem(
                    f"{told!r} is no id of a message.",
                    f"palomar unknown list shows them; the first {SHORT_ID} characters are enough.",
                )
            found = await undecided.beginning(pool, digits)
            if len(found) > 1:
                raise Problem(f"Several messages begin with {told.strip()}.", "Give more of the id.")
            if not found:
                raise Problem(f"No message of ours begins with {told.strip()}.", "palomar unknown list shows them.")
            named[found[0].id] = found[0]
    return list(named.values())


async def _decided(pool: db.Pool, work: Callable[[db.Connection], Awaitable[T]]) -> T:
    async def transaction() -> T:
        async with pool.acquire() as connection, connection.transaction():
            return await work(connection)

    return await db.repeat(transaction)


async def _handed_on(publisher: Publisher, request: SendRequested) -> str:
    """Tell the window. The row is committed, so a publish that fails is not the end: the clock hands it on."""
    try:
        await publisher.publish(request)
    except PublishFailed:
        return f", within {settings().handoff_lease:g} s or so: RabbitMQ did not confirm it, the clock hands it on"
    return ""


async def _each(named: list[Named], work: Callable[[Named], Awaitable[str]]) -> bool:
    """Decide on each by itself and tell what came of it; False where one was refused."""
    console, all_done = terminal.console(), True
    for message in named:
        try:
            outcome = await work(message)
        except Refused as refused:
            outcome, all_done = f"{refused}. Nothing was changed", False
        console.print(f"{message.id} {outcome}.", soft_wrap=True)
    return all_done


def _end(all_done: bool) -> None:
    if not all_done:
        raise typer.Exit(1)
