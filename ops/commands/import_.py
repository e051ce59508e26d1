"""palomar import: move in from another system: its contacts, conversations, messages, campaigns."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from ops import connections, terminal
from ops.errors import Problem
from ops.imports import run
from ops.imports.run import Asked
from ops.imports.systems import SYSTEMS
from ops.imports.tally import Compared
from shared.settings import settings


def import_(
    system: Annotated[str, typer.Argument(help=f"one of: {', '.join(SYSTEMS)}", metavar="SYSTEM")],
    source: Annotated[str, typer.Option("--from", help="the system's database: postgresql://…", metavar="URL")],
    tenant: Annotated[
        str | None, typer.Option(help="whose it becomes, by name or id, where the system has no tenants")
    ] = None,
    new_tenant: Annotated[bool, typer.Option("--new-tenant", help="make that tenant, if there is none")] = False,
    channel: Annotated[
        list[str] | None, typer.Option(help="the channel that conversations belong to, by id; may be repeated")
    ] = None,
    batch: Annotated[int, typer.Option(help="rows that go in with one transaction", min=1, max=10_000)] = 1_000,
) -> None:
    """Copy another system's data into Palomar. Safe to repeat, and to kill: run it again, and it goes on.

    The source is only read. Its unsent messages are not sent here. Ends with the counts of both sides, and with
    exit code 1 where they differ.
    """
    if system not in SYSTEMS:
        known = "\n".join(f"  {name}: {one.summary}" for name, one in SYSTEMS.items())
        raise Problem(f"There is no system {system!r}.", f"Name one of:\n{known}")
    asked = Asked(SYSTEMS[system], source, tenant, new_tenant, channel or [], batch)
    try:
        compared = connections.run(run.run(settings(), asked))
        _show(compared)
    finally:  # what it made stays, whatever it ends with
        for note in asked.notes:
            terminal.console().print(terminal.printable(note))
    if any(not one.agrees for one in compared):
        raise Problem(
            "The counts differ.", "Run it again: rows may have come while it ran. What is here already stays as it is."
        )


def _show(compared: Sequence[Compared]) -> None:
    console = terminal.console()
    table = Table()
    for heading in ("table", "source", "ours", "new", "already there", "skipped", ""):
        table.add_column(heading, justify="left" if heading in ("table", "") else "right", overflow="fold")
    for one in compared:
        tally = one.tally
        counts = (one.source, one.ours, tally.new, tally.there, tally.skipped.total())
        verdict = terminal.plain("✓", "green") if one.agrees else terminal.plain("✗ differs", "bold red")
        table.add_row(terminal.plain(one.table), *map(str, counts), verdict)
    console.print(table)
    for one in compared:
        for what, reasons in (("skipped", one.tally.skipped), ("mended", one.tally.mended)):
            for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
                console.print(terminal.printable(f"{one.table}: {count} {what}: {reason}"))
