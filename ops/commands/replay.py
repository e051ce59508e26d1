"""palomar replay: put raw webhooks from the log into the persist queue again."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from ops import connections, replays, terminal
from ops.errors import Problem
from shared.settings import settings

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


def replay(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help=f"inbound ids, or their first {replays.SHORT_ID} characters or more", metavar="[ID]..."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="what was stored from then on: 2026-03-14T09:30 (this machine's time), or 90m, 2h, 3d ago"),
    ] = None,
    until: Annotated[str | None, typer.Option(help="and before then; now where left out")] = None,
    endpoint: Annotated[UUID | None, typer.Option(help="only what came to this endpoint")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="only what could not be read whole")] = False,
) -> None:
    """Read raw webhooks anew, after a parser was mended or a channel added.

    Safe to repeat: a message that is known stays one message, and an old one opens no window.
    """
    spanned = since is not None or until is not None or endpoint is not None or failed
    if bool(ids) == spanned:
        raise Problem(
            "Say which webhooks, in one way.", "Give their ids, or a span: --since 2h, --until, --endpoint, --failed."
        )
    asked = ids or _span(since, until, endpoint, failed=failed)
    with terminal.progress() as bar:
        task = bar.add_task("inbound_log → persist", total=None)
        done, unknown = connections.run(
            replays.replay(settings(), asked, lambda done, of: bar.update(task, completed=done, total=of))
        )
    console = terminal.console()
    console.print(f"{done} replayed." if done or unknown else "Nothing came in then; nothing was replayed.")
    if unknown:
        console.print(f"Not in the log, which keeps {settings().inbound_log_days} days:")
        for one in unknown:
            console.print(f"  {terminal.printable(one)}")
        raise typer.Exit(1)


def _span(since: str | None, until: str | None, endpoint: UUID | None, *, failed: bool) -> replays.Span:
    now = datetime.now(UTC)
    start = replays.moment("--since", since, now) if since is not None else _FIRST
    end = replays.moment("--until", until, now) if until is not None else now
    if start >= end:
        raise Problem("--since is not before --until.", "Exchange them, or leave --until out: it is now by itself.")
    return replays.Span(start, end, endpoint, failed)
