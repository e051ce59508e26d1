"""palomar unknown: list sends of unknown outcome, send them again, or give them up."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Annotated, TypeVar

import orjson
import typer
from rich.table import Table

from ops import connections, decisions, terminal
from ops.decisions import SHORT_ID, Decidable
from ops.errors import Problem
from shared import database
from shared.domain.statuses import RESTORED
from shared.queue.connection import PublishFailed
from shared.queue.jobs import SendRequested
from shared.queue.publisher import Publisher
from shared.settings import settings
from shared.store.messages import restored, unknown_sends
from shared.store.messages.restored import OwedReply
from shared.store.messages.unknown_sends import DecisionRefused, UnknownSend

app = typer.Typer(no_args_is_help=True)

T = TypeVar("T")
Ids = Annotated[
    list[str] | None, typer.Argument(help=f"ids, or their first {SHORT_ID} characters or more", metavar="ID...")
]
Restored = Annotated[bool, typer.Option("--restored", help="all that a restore or a fail-over put to you")]


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="for a program")] = False,
    body: Annotated[bool, typer.Option("--body", help="show the texts too")] = False,
    limit: Annotated[int, typer.Option(min=1, help="messages, those longest unknown first")] = 100,
) -> None:
    """Messages in `unknown`: the call was made, no answer came, and only you may have them sent again."""

    async def session() -> tuple[list[UnknownSend], list[OwedReply]]:
        async with connections.database(settings(), "unknown") as pool:
            return await unknown_sends.listed(pool, limit + 1), await restored.replies(pool, limit + 1)

    messages, replies = connections.run(session())
    if as_json:
        found = [_message(one, body=body) for one in messages[:limit]] + [_reply(one) for one in replies[:limit]]
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    console = terminal.console()
    if not messages and not replies:
        console.print("Nothing is unknown.")
        return
    if messages:
        console.print(_messages(messages[:limit], body=body))
    if replies:
        console.print("Replies that were owed when the database was lost, by their conversations:")
        console.print(_replies(replies[:limit]))
    if max(len(messages), len(replies)) > limit:
        console.print(f"There are more than {limit}; --limit shows more.")
    console.print(
        "Look them up at the provider. If it has none: palomar unknown resend ID. To give up: palomar unknown fail ID."
    )


def _table(*headings: str) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _messages(found: Sequence[UnknownSend], *, body: bool) -> Table:
    headings = ("id", "tenant", "channel", "lane", "claimed", "unknown since", "why", "decides")
    table = _table(*headings, *(["text"] * body))
    for one in found:
        row = [
            terminal.plain(str(one.id)),
            terminal.plain(one.tenant),
            terminal.plain(one.channel),
            one.lane,
            terminal.when(one.claimed_at),
            terminal.when(one.unknown_at),
            terminal.plain(one.reason or "–"),
            terminal.plain("you", "bold red") if one.looked_up_at is None else "still looked up",
        ]
        table.add_row(*row, *([terminal.plain(one.content)] * body))
    return table


def _replies(found: Sequence[OwedReply]) -> Table:
    table = _table("conversation", "tenant", "channel", "customer wrote", "put aside")
    for one in found:
        table.add_row(
            str(one.id),
            terminal.plain(one.tenant),
            terminal.plain(one.channel),
            terminal.when(one.customer_wrote_at),
            terminal.when(one.restored_at),
        )
    return table


def _message(one: UnknownSend, *, body: bool) -> dict[str, object]:
    facts: dict[str, object] = {
        "kind": "message",
        "id": str(one.id),
        "tenant_id": str(one.tenant_id),
        "tenant": one.tenant,
        "channel_id": str(one.channel_id),
        "channel": one.channel,
        "lane": one.lane,
        "claimed_at": one.claimed_at,
        "unknown_at": one.unknown_at,
        "looked_up_at": one.looked_up_at,
        "reason": one.reason,
    }
    return facts | {"content": one.content} if body else facts


def _reply(one: OwedReply) -> dict[str, object]:
    return {
        "kind": "reply",
        "id": str(one.id),
        "tenant_id": str(one.tenant_id),
        "tenant": one.tenant,
        "channel": one.channel,
        "customer_wrote_at": one.customer_wrote_at,
        "restored_at": one.restored_at,
        "reason": RESTORED,
    }


@app.command()
def resend(
    ids: Ids = None,
    every_restored: Restored = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="don't ask")] = False,
) -> None:
    """Have messages of unknown outcome sent again, also those given up as unknown; each as a new message.

    A reply that a restore put aside is made after all. Refused for what is known by now, by a receipt for instance.
    """
    chosen = connections.run(_chosen(ids, every_restored))
    if not yes:
        what = "1 message" if len(chosen) == 1 else f"{len(chosen)} messages"
        if not typer.confirm(f"Send {what} again? The first may have arrived: the customer may get it twice."):
            raise Problem("Nothing was sent again.", "Answer y, or add --yes, to do it.")
    handoff = timedelta(seconds=settings().handoff_lease)

    async def session() -> bool:
        async with (
            connections.publisher(settings(), "palomar unknown") as publisher,
            connections.database(settings(), "unknown") as pool,
        ):

            async def one(about: Decidable) -> str:
                if isinstance(about, OwedReply):
                    await _decided(pool, lambda tx: _decide_reply(tx, about, answer=True))
                    return "is answered"
                request = await _decided(pool, lambda tx: unknown_sends.resend(tx, about, handoff))
                return f"is sent again as {request.message_id}{await _published(publisher, request)}"

            return await _each(chosen, one)

    _end(connections.run(session()))


@app.command()
def fail(ids: Ids = None, every_restored: Restored = False) -> None:
    """Give messages of unknown outcome up: they are failed, with the code `unknown`. A late receipt still counts.

    A reply that a restore put aside is not made; whatever the customer writes next is answered as ever.
    """

    async def session() -> bool:
        chosen = await _chosen(ids, every_restored)
        async with connections.database(settings(), "unknown") as pool:

            async def one(about: Decidable) -> str:
                if isinstance(about, OwedReply):
                    await _decided(pool, lambda tx: _decide_reply(tx, about, answer=False))
                else:
                    await _decided(pool, lambda tx: unknown_sends.fail(tx, about))
                return "is given up"

            return await _each(chosen, one)

    _end(connections.run(session()))


async def _chosen(ids: list[str] | None, every_restored: bool) -> list[Decidable]:
    async with connections.database(settings(), "unknown") as pool:
        return await decisions.named(pool, ids or [], every_restored=every_restored)


async def _decide_reply(tx: database.Connection, reply: OwedReply, *, answer: bool) -> None:
    """Raises DecisionRefused where a person has decided, or the reply was made, meanwhile."""
    if not await restored.decide_reply(tx, reply, answer=answer):
        raise DecisionRefused("was decided or answered meanwhile")


async def _decided(pool: database.Pool, work: Callable[[database.Connection], Awaitable[T]]) -> T:
    async def transaction() -> T:
        async with pool.acquire() as connection, connection.transaction():
            return await work(connection)

    return await database.repeat(transaction)


async def _published(publisher: Publisher, request: SendRequested) -> str:
    """Publish the job for the window. The row is committed, so after a failed publish the clock publishes it."""
    try:
        await publisher.publish(request)
    except PublishFailed:
        return f", within {settings().handoff_lease:g} s or so: RabbitMQ did not confirm it, the clock publishes it"
    return ""


async def _each(chosen: Sequence[Decidable], work: Callable[[Decidable], Awaitable[str]]) -> bool:
    """Decide on each by itself and print the result; False where one was refused."""
    console, all_done = terminal.console(), True
    for about in chosen:
        try:
            outcome = await work(about)
        except DecisionRefused as refused:
            outcome, all_done = f"{refused}. Nothing was changed", False
        console.print(f"{about.id} {outcome}.", soft_wrap=True)
    return all_done


def _end(all_done: bool) -> None:
    if not all_done:
        raise typer.Exit(1)
