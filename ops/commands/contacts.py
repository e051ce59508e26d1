"""palomar contacts: import a file of them, show and change consents and their words, erase a person everywhere."""

import os
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from ops import connections, consents, contact_files, erasure, terminal
from ops.errors import Problem
from ops.onboarding import channels
from shared.actions.contact_imports import Asked
from shared.database import Pool
from shared.domain import addresses
from shared.domain.contact_files.defects import LONGEST_NAME
from shared.domain.contact_files.merge import EXISTING
from shared.domain.contact_files.people import COUNTRIES
from shared.settings import settings
from shared.store import consents as ledger
from shared.store.consents import LedgerEntry

Who = Annotated[str, typer.Argument(help="the contact's id or an address: +14155238886, ES.1349…", metavar="WHO")]
Whose = Annotated[
    str | None,
    typer.Option(envvar="PALOMAR_TENANT", help="whose contact: a name or id; needed where there are several"),
]

FIRST_DEFECTS = 20  # that are printed

app = typer.Typer(no_args_is_help=True)


@app.callback()
def contacts() -> None:
    """The people that tenants talk to."""


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="CSV or NDJSON, also with gzip: contacts.csv, contacts.ndjson.gz", dir_okay=False)
    ],
    tenant: Whose = None,
    default_country: Annotated[
        str | None, typer.Option(help="of phone numbers without a country code: MX", metavar="COUNTRY")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="that all of them get into, made if there is none; may be repeated")
    ] = None,
    existing: Annotated[
        str, typer.Option(help=f"what becomes of contacts that are there, one of: {', '.join(EXISTING)}")
    ] = "update",
    errors: Annotated[
        Path | None, typer.Option(help="write what is wrong with lines here, as CSV", dir_okay=False)
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="import a file that has been imported")] = False,
) -> None:
    """Import a file of contacts, of up to 1,000,000 rows. Safe to kill and to repeat: run it again, and it goes on.

    The first line names the columns: phoneNumber, email, name, isActive, groups. Lines that are wrong are left out and
    listed; the others go in. Exit code 1 where there are any. The API does the same: contacts.import.
    """
    if existing not in EXISTING:
        raise Problem(f"--existing {existing} is not known.", f"Give one of: {', '.join(EXISTING)}.")
    if default_country is not None and default_country not in COUNTRIES:
        raise Problem(f"{default_country} is no country.", "Give the two letters of ISO 3166, such as MX.")
    if any(not name.strip() or len(name) > LONGEST_NAME for name in group or ()):
        raise Problem("That is no name of a group.", f"Give --group a name of 1 to {LONGEST_NAME} characters.")
    found = contact_files.File.of(file)
    asked = Asked(found.format, default_country, existing, tuple(name.strip() for name in group or ()))

    async def session() -> tuple[contact_files.Imported, list[bytes]]:
        async with connections.database(settings(), "contacts") as pool:
            tenant_id: UUID = await erasure.tenant(pool, tenant)
            imported = await contact_files.run(pool, tenant_id, found, asked, again=again)
            return imported, await _written(pool, imported, errors)

    imported, first = connections.run(session())
    _show(imported)
    if first:
        typer.echo("".join(line.decode() for line in first), nl=False)
        remedy = "Write all to a file with --errors FILE" if errors is None else f"All are in {errors}"
        raise Problem(
            f"{imported.stored.counts.defects} things are wrong with lines of {file.name}.",
            f"{remedy}; correct these lines, and import them.",
        )


async def _written(pool: Pool, imported: contact_files.Imported, errors: Path | None) -> list[bytes]:
    """Write the report of an import; returns its first lines."""
    if not imported.stored.counts.defects:
        return []
    first = [contact_files.REPORT_HEADER]
    try:
        with (errors or Path(os.devnull)).open("wb") as file:
            file.write(contact_files.REPORT_HEADER)
            async for defect in contact_files.report(pool, imported.stored):
                line = contact_files.report_line(defect)
                file.write(line)
                if len(first) <= FIRST_DEFECTS:
                    first.append(line)
    except OSError as error:
        raise Problem(f"{errors} can't be written: {error}.", "Name another file, and run it again.") from error
    return first


def _show(imported: contact_files.Imported) -> None:
    counts = imported.stored.counts
    if imported.was_done:
        typer.echo("This file was imported before; nothing was done. Its figures were these (--again imports it anew):")
    table = Table()
    columns = ("rows", "created", "updated", "unchanged", "refused", "put into groups", "new groups")
    for heading in columns:
        table.add_column(heading, justify="right")
    of_rows = (counts.rows, counts.created, counts.updated, counts.unchanged, counts.refused)
    table.add_row(*map(str, (*of_rows, counts.memberships, counts.groups_created)))
    terminal.console().print(table)
    if imported.ignored:
        typer.echo(terminal.printable(f"Not imported are the columns: {', '.join(imported.ignored)}"))


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
