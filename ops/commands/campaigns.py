"""palomar campaigns: send one message to many: create, preview, start, watch, pause, resume, and the results."""

import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import typer
from rich.table import Table

from ingress.api.exports import csv_line
from ingress.api.procedures.campaign_results import CampaignRecipient
from ops import campaign_preview, campaign_watch, campaigns, connections, erasure, terminal
from ops.campaign_preview import Previewed
from ops.campaigns import Asked
from ops.errors import Problem
from shared.actions import campaign_again, campaign_life, campaign_start
from shared.actions.campaign_life import Moved
from shared.actions.campaign_test_contact import contact_of
from shared.actions.campaign_test_send import send_test
from shared.database import Connection, Pool, new_id
from shared.domain.campaigns.life import STATUSES
from shared.settings import settings
from shared.store.campaigns import counts as counters
from shared.store.campaigns import recipients as rows
from shared.store.campaigns import records
from shared.store.campaigns.records import Campaign

Named = Annotated[str, typer.Argument(help="the campaign's id or name", metavar="CAMPAIGN")]
Whose = Annotated[
    str | None,
    typer.Option(envvar="PALOMAR_TENANT", help="whose campaign: a name or id; needed where there are several"),
]
Step = Callable[[Connection, UUID, UUID], Awaitable[Moved | None]]  # of a tenant's campaign

MOST_LISTED: Final = 200

app = typer.Typer(no_args_is_help=True)


@app.callback()
def campaigns_() -> None:
    """One message to many, no faster than the number allows, and to each of them at most once."""


@app.command()
def create(
    name: Annotated[str, typer.Option(help="by which you find it again")],
    tenant: Whose = None,
    channel: Annotated[str | None, typer.Option(help="an id, address or kind; needed where there are several")] = None,
    message: Annotated[str | None, typer.Option(help="a text; with placeholders: {{contact.name|there}}")] = None,
    template: Annotated[str | None, typer.Option(help="an approved template: its name or id")] = None,
    variable: Annotated[
        list[str] | None, typer.Option(help="of the template; may be repeated", metavar="NAME=TEXT")
    ] = None,
    group: Annotated[list[str] | None, typer.Option(help="whom it is for: a name or id; may be repeated")] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="for every contact instead")] = False,
    at: Annotated[
        str | None, typer.Option(help="when it starts, by the tenant's clock: 2027-01-07T09:00", metavar="TIME")
    ] = None,
    every: Annotated[
        str | None, typer.Option(help="when it runs again and again: '0 9 * * MON'", metavar="CRON")
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="of --at and --every: Europe/Madrid")] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option("--settings", help="JSON, as campaigns.create takes it: waves, autoPause, …", dir_okay=False),
    ] = None,
) -> None:
    """Create a campaign as a draft, and print its id. Nothing is sent before it is started."""
    starts = None if at is None else campaigns.moment(at)
    variables = dict(_pair(one) for one in variable or ())
    asked = Asked(
        name, channel, message, template, tuple(group or ()), everyone, variables, every, timezone, settings_file
    )

    async def session() -> Campaign:
        async with connections.database(settings(), "campaigns") as pool:
            return await campaigns.create(pool, tenant, asked, starts)

    made = connections.run(session())
    typer.echo(f"Created campaign {made.id}. Next: palomar campaigns preview {made.id}")


@app.command("list")
def list_(
    tenant: Whose = None,
    status: Annotated[str | None, typer.Option(help=f"only those that are: {', '.join(STATUSES)}")] = None,
) -> None:
    """List campaigns, newest first."""
    if status is not None and status not in STATUSES:
        raise Problem(f"No campaign is {status}.", f"Give one of: {', '.join(STATUSES)}.")

    async def session() -> list[Campaign]:
        async with connections.database(settings(), "campaigns") as pool:
            tenant_id = await erasure.tenant(pool, tenant)
            async with pool.acquire() as connection:
                return await records.page(connection, tenant_id, status=status, after=None, limit=MOST_LISTED)

    table = Table()
    for heading in ("campaign", "name", "status", "starts", "started", "recipients", "sent", "failed"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("recipients", "sent") else "left")
    for one in connections.run(session()):
        table.add_row(
            str(one.id),
            terminal.plain(one.values.name),
            one.status,
            terminal.plain(one.values.recurrence) if one.values.recurrence else terminal.when(one.scheduled_at),
            terminal.when(one.started_at),
            *map(str, (one.total_recipients, one.sent_count, one.failed_count)),
        )
    terminal.console().print(table)


@app.command()
def show(campaign: Named, tenant: Whose = None) -> None:
    """Show a campaign: what it says, where it stands, and its recipients by state."""

    async def session() -> tuple[Campaign, dict[str, int]]:
        async with connections.database(settings(), "campaigns") as pool:
            found = await campaigns.find(pool, tenant, campaign)
            async with pool.acquire() as connection:
                counts = await counters.counts(connection, found.tenant_id, found.id)
            return found, campaign_watch.of_status(counts)

    found, by_status = connections.run(session())
    console = terminal.console()
    console.print(terminal.plain(f"{found.values.name} ({found.id}): {campaign_watch.line(found, by_status)}"))
    if found.values.message is not None:
        console.print(terminal.plain(found.values.message))
    table = Table()
    for status, number in by_status.items():
        table.add_column(status.replace("_", " "), str(number), justify="right")
    table.add_row(*map(str, by_status.values()))
    console.print(table)


@app.command()
def preview(campaign: Named, tenant: Whose = None) -> None:
    """Count who would get it, who not and why, and what it would cost. Nothing is sent or written."""

    async def session() -> Previewed:
        async with connections.database(settings(), "campaigns") as pool:
            return await campaign_preview.preview(pool, await campaigns.find(pool, tenant, campaign))

    campaign_preview.show(terminal.console(), connections.run(session()))


@app.command("test")
def try_(
    campaign: Named,
    to: Annotated[str, typer.Argument(help="your own phone number or e-mail address")],
    tenant: Whose = None,
    variant: Annotated[int, typer.Option(help="1: the other one of two templates", min=0, max=1)] = 0,
) -> None:
    """Send it to one address, to look at it. The campaign does not count it."""

    async def session() -> UUID:
        async with connections.database(settings(), "campaigns") as pool:
            found = await campaigns.find(pool, tenant, campaign)
            handoff = timedelta(seconds=settings().handoff_lease)
            async with campaigns.refusals(), connections.transaction(pool) as connection:
                contact_id = await contact_of(connection, found, to)
                queued, job = await send_test(connection, found, contact_id, str(new_id()), handoff, variant=variant)
            await campaigns.publish([] if job is None else [job])
            return queued.id

    typer.echo(f"Message {connections.run(session())} is on its way to {terminal.printable(to)}.")


@app.command()
def start(campaign: Named, tenant: Whose = None) -> None:
    """Start a campaign now. A paused one goes on where it stopped."""
    _step(campaign, tenant, campaign_start.start)


@app.command()
def pause(campaign: Named, tenant: Whose = None) -> None:
    """Pause a campaign: within two seconds nothing more leaves."""
    _step(campaign, tenant, campaign_life.pause)


@app.command()
def resume(campaign: Named, tenant: Whose = None) -> None:
    """Let a paused campaign go on, with exactly those recipients that it has not written to."""
    _step(campaign, tenant, campaign_life.resume)


@app.command()
def cancel(
    campaign: Named, tenant: Whose = None, yes: Annotated[bool, typer.Option("--yes", "-y", help="don't ask")] = False
) -> None:
    """End a campaign for good. Whoever has no message of it yet gets none."""
    if not yes and not typer.confirm(f"Cancel {campaign} for good?"):
        raise Problem("Nothing was changed.", "Answer y, or add --yes, to do it.")
    _step(campaign, tenant, campaign_life.cancel)


@app.command()
def again(
    campaign: Named,
    tenant: Whose = None,
    name: Annotated[str | None, typer.Option(help="of the new campaign")] = None,
    include_unknown: Annotated[
        bool, typer.Option("--include-unknown", help="also those who may have had the message, and get it twice then")
    ] = False,
) -> None:
    """Make a draft for those whom an ended campaign has not reached: failed, canceled, or too late."""

    async def session() -> Campaign:
        async with connections.database(settings(), "campaigns") as pool:
            former = await campaigns.find(pool, tenant, campaign)
            async with campaigns.refusals(), connections.transaction(pool) as connection:
                return await campaign_again.again(connection, former, include_unknown=include_unknown, name=name)

    made = connections.run(session())
    typer.echo(f"Created campaign {made.id}. Next: palomar campaigns preview {made.id}")


@app.command()
def watch(campaign: Named, tenant: Whose = None) -> None:
    """Watch a campaign until it ends. Ctrl-C ends the watching alone. Exit code 1 where it did not complete."""

    async def session() -> Campaign:
        async with connections.database(settings(), "campaigns") as pool:
            return await campaign_watch.watch(pool, await campaigns.find(pool, tenant, campaign))

    ended = connections.run(session())
    if ended.status != "completed":
        raise typer.Exit(1)


@app.command()
def results(
    campaign: Named,
    file: Annotated[Path | None, typer.Argument(help="left out: standard output", dir_okay=False)] = None,
    tenant: Whose = None,
    status: Annotated[str | None, typer.Option(help=f"only who is: {', '.join(rows.STATUSES)}")] = None,
) -> None:
    """Write what became of each recipient as CSV. A campaign that runs gives what is so far."""
    if status is not None and status not in rows.STATUSES:
        raise Problem(f"No recipient is {status}.", f"Give one of: {', '.join(rows.STATUSES)}.")

    async def session() -> int:
        written = 0
        async with connections.database(settings(), "campaigns") as pool:
            found = await campaigns.find(pool, tenant, campaign)
            with ExitStack() as stack:
                out = sys.stdout.buffer if file is None else stack.enter_context(file.open("wb"))
                out.write(csv_line(one.alias or name for name, one in CampaignRecipient.model_fields.items()))
                async for row in rows.every(lambda: connections.transaction(pool), found.tenant_id, found.id, status):
                    shown = CampaignRecipient.of(row).model_dump(mode="json", by_alias=True)
                    out.write(csv_line(shown.values()))
                    written += 1
                out.flush()
        return written

    try:
        written = connections.run(session())
    except OSError as error:
        raise Problem(f"{file or 'It'} can't be written: {error}.", "Name another file.") from error
    if file is not None:
        typer.echo(f"Wrote {written} recipients to {file}.")


def _step(named: str, tenant: str | None, step: Step) -> None:
    """Take a step of a campaign's life, publish its job, and print where the campaign stands."""

    async def session() -> Campaign:
        async with connections.database(settings(), "campaigns") as pool:
            return await _take(pool, await campaigns.find(pool, tenant, named), step)

    moved = connections.run(session())
    typer.echo(f"Campaign {moved.id} is {moved.status}.")


async def _take(pool: Pool, campaign: Campaign, step: Step) -> Campaign:
    async with campaigns.refusals(), connections.transaction(pool) as connection:
        moved = await step(connection, campaign.tenant_id, campaign.id)
    if moved is None:
        raise Problem("The campaign was deleted meanwhile.", "See palomar campaigns list.")
    if not await campaigns.publish(moved.jobs):
        typer.echo("RabbitMQ does not answer: it begins within seconds once RabbitMQ does.", err=True)
    return moved.campaign


def _pair(written: str) -> tuple[str, str]:
    name, sign, text = written.partition("=")
    if not sign or not name.strip():
        raise Problem(f"{written!r} is no variable.", "Write it as NAME=TEXT, such as 1={{contact.name|there}}.")
    return name.strip(), text
