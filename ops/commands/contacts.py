"""palomar contacts: erase a person from every table, and prove it by a search."""

from typing import Annotated

import typer
from rich.table import Table

from ops import erasing, errands, terminal
from ops.errors import Problem
from shared import addresses
from shared.settings import settings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def contacts() -> None:
    """The people that tenants talk to."""


@app.command()
def erase(
    who: Annotated[str, typer.Argument(help="the contact's id or an address: +14155238886, ES.1349…", metavar="WHO")],
    tenant: Annotated[
        str | None, typer.Option(help="whose contact: a name or id; needed where there are several")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="don't ask")] = False,
) -> None:
    """Remove or blank every trace of a person: messages, receipts, raw webhooks, campaigns, consents, deliveries.

    Their opt-outs go too, and who writes again is a new contact. Exit code 1 where the search still finds a trace.
    """

    async def errand() -> erasing.Erased:
        async with errands.database(settings(), "erase") as pool:
            person = await erasing.who(pool, await erasing.tenant(pool, tenant), who)
            known = ", ".join(sorted({addresses.mask(address) for _, address in person.addresses})) or "no address"
            if not yes and not typer.confirm(f"Erase contact {person.contact_id} ({known}) for ever?"):
                raise Problem("Nothing was erased.", "Answer y, or add --yes, to do it.")
            return await erasing.erase(pool, person)

    erased = errands.run(errand())
    console = terminal.console()
    table = Table()
    for heading in ("table", "removed or blanked", "found by the search afterwards"):
        table.add_column(heading, justify="left" if heading == "table" else "right")
    for name in sorted({*erased.removed, *erased.left}):
        done, left = erased.removed.get(name, 0), erased.left.get(name, 0)
        table.add_row(name, str(done or "–"), terminal.plain(str(left), "bold red") if left else "0")
    console.print(table)
    ways = len(erased.searched)
    if not erased.gone:
        raise Problem(
            "The search still finds them.",
            "It came while they were being erased, or it names somebody else's row; look at the tables above.",
        )
    console.print(
        f"Searched for {ways} ways to write their addresses in every column of every table: nothing is left.\n"
        "Not searched: dead queues (palomar dead list), the spool, backups, and what the provider keeps."
    )
