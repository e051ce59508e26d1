"""palomar contacts: show and change consents and their words, or erase a person from every table."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ops import connections, consents, erasure, terminal
from ops.errors import Problem
from ops.onboarding import channels
from shared.domain import addresses
from shared.settings import settings
from shared.store import consents as ledger
from shared.store.consents import LedgerEntry

Who = Annotated[str, typer.Argument(help="the contact's id or an address: +14155238886, ES.1349…", metavar="WHO")]
Whose = Annotated[str | None, typer.Option(help="whose contact: a name or id; needed where there are several")]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def contacts() -> None:
    """The people that tenants talk to."""


@app.command()
def erase(
    who: Who,
    tenant: Whose = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="don't ask")] = False,
) -> None:
    """Remove or blank every trace of a person: messages, files, raw webhooks, campaigns, consents, deliveries.

    Their opt-outs go too, and who writes again is a new contact. Exit code 1 where the search still finds a trace.
    """

    async def session() -> erasure.Erased:
        async with connections.database(settings(), "erase") as pool:
            person = await erasure.who(pool, await erasure.tenant(pool, tenant), who)
            known = ", ".join(sorted({addresses.mask(address) for _, address in person.addresses})) or "no address"
            if not yes and not typer.confirm(f"Erase contact {person.contact_id} ({known}) for ever?"):
                raise Problem("Nothing was erased.", "Answer y, or add --yes, to do it.")
            return await erasure.erase(pool, person)

    erased = connections.run(session())
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
            "A row came while they were being erased, or another person's row names them; look at the tables above.",
        )
    console.print(
        f"Searched for {ways} ways to write their addresses in every column of every table: nothing is left.\n"
        "The clock deletes the bytes of their files within seconds, unless another contact sent the same file.\n"
        "Not searched: dead-letter queues (palomar dead list), the spool, backups, and what the provider stores."
    )


@app.command()
def consent(
    who: Who,
    tenant: Whose = None,
    opted_in: Annotated[
        bool | None, typer.Option("--in/--out", help="what the contact asked for; left out: only show the ledger")
    ] = None,
    kind: Annotated[str | None, typer.Option(help=f"of channel, one of: {', '.join(consents.KINDS)}")] = None,
    marketing: Annotated[bool, typer.Option("--marketing", help="of marketing only, not of everything")] = False,
    reason: Annotated[str, typer.Option(help="how you know; no address and no name")] = "",
) -> None:
    """Show a contact's consents, or enter an opt-in or opt-out that the contact has asked you for.

    The newest entry of each kind of channel and scope holds. An entry takes effect at once, also for what is queued.
    """
    checked = None if opted_in is None else consents.kind_of(kind)

    async def session() -> list[LedgerEntry]:
        async with connections.database(settings(), "consent") as pool:
            person = await erasure.who(pool, await erasure.tenant(pool, tenant), who)
            if checked is not None:
                state = consents.state(opted_in is True)
                await consents.enter(pool, person, checked, state, marketing=marketing, reason=reason[:200])
            return await consents.entries(pool, person)

    every = connections.run(session())
    if not every:
        typer.echo("Nothing is known of what they want: they are written to, as the channel's window allows.")
        return
    table = Table()
    for heading in ("channel", "of", "state", "since", "by", "evidence", "holds"):
        table.add_column(heading, overflow="fold")
    for entry in every:
        evidence = ", ".join(f"{name} {value}" for name, value in entry.evidence.items())
        table.add_row(
            entry.channel_kind,
            entry.scope,
            entry.state,
            f"{entry.effective_at:%Y-%m-%d %H:%M:%S}",
            entry.source,
            terminal.plain(evidence),
            "✓" if entry.holds else "",
        )
    terminal.console().print(table)


@app.command()
def words(
    tenant: Whose = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--set",
            help='JSON: {"words": {"es": {"stop": ["baja"], "stop_marketing": ["no más ofertas"]}}}',
            dir_okay=False,
        ),
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="take the tenant back to the default words")] = False,
) -> None:
    """Show or set the words and short phrases by which a tenant's customers opt out and in.

    `stop` and `start` are of everything, `stop_marketing` and `start_marketing` of marketing only. A phrase counts
    where it is the whole message, in any case and with or without accents.

    A language's list takes the place of ours; a language that is left out keeps it. Twilio acts on its own words by
    itself, whatever stands here.
    """
    given = None
    if file is not None:
        try:
            given = channels.settings_of(file.read_text(), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise Problem(f"{file} can't be read: {error}.", "Name a JSON file with words.") from error
        consents.words_of(given, str(file))

    async def session() -> dict[str, object] | None:
        async with connections.database(settings(), "words") as pool:
            tenant_id = await erasure.tenant(pool, tenant)
            if given is not None or default:
                await consents.set_words(pool, tenant_id, given)
            return await ledger.settings(pool, tenant_id)

    stored = connections.run(session())
    for state, every in consents.words_of(stored, "it with --set FILE.json").items():
        typer.echo(terminal.printable(f"{state}: {', '.join(every) or 'none'}"))
