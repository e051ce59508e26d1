"""palomar webhooks: the systems of tenants that get events: add, test, look at the log, send again, rotate, enable."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, get_args
from uuid import UUID

import orjson
import typer

from ops import connections, erasure, terminal, webhook_json, webhook_tables, webhooks
from ops.errors import Problem
from ops.onboarding.channels import keyring
from ops.webhooks import Asked
from shared.actions import webhook_replays
from shared.actions import webhooks as actions
from shared.actions.webhooks import NewWebhook
from shared.domain.webhooks import bodies
from shared.settings import settings
from shared.store import webhooks as store
from shared.store.webhook_deliveries import log as deliveries
from shared.store.webhook_deliveries.log import Delivery, Whole
from shared.store.webhook_deliveries.replays import Counted
from shared.store.webhooks import Webhook

Named = Annotated[str, typer.Argument(help="the webhook's id or name", metavar="WEBHOOK")]
Whose = Annotated[
    str | None,
    typer.Option(envvar="PALOMAR_TENANT", help="whose webhook: a name or id; needed where there are several"),
]
AsJson = Annotated[bool, typer.Option("--json", help="for a program, as the API shows it")]
STATES: Final = get_args(deliveries.State)
MOST_LISTED: Final = 200

app = typer.Typer(no_args_is_help=True)


@app.callback()
def webhooks_() -> None:
    """Every event to the tenants' own systems: signed, retried for days, logged, and sent again where it is wanted."""


@app.command("list")
def list_(tenant: Whose = None, as_json: AsJson = False) -> None:
    """List a tenant's webhooks, and how their URLs do."""

    async def session() -> list[Webhook]:
        async with connections.database(settings(), "webhooks") as pool:
            tenant_id = await erasure.tenant(pool, tenant)
            async with pool.acquire() as connection:
                return await store.page(connection, tenant_id, is_active=None, after=None, limit=MOST_LISTED)

    found = connections.run(session())
    webhook_tables.show(found, webhook_json.listed if as_json else webhook_tables.listed)


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="https://…")],
    event: Annotated[list[str], typer.Option(help="message_received, message_*, * …; may be repeated")],
    name: Annotated[str, typer.Option(help="by which you find it again")] = "Webhook",
    tenant: Whose = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="only events about it: an id, address or kind; may be repeated")
    ] = None,
    direction: Annotated[str | None, typer.Option(help="inbound or outbound: only events about such messages")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="only about contacts with it; may be repeated")] = None,
    in_order: Annotated[bool, typer.Option("--in-order", help="each conversation's events in turn")] = False,
    as_json: AsJson = False,
) -> None:
    """Add a webhook, and print its secret, which is shown this once."""
    asked = Asked(name, url, event, tuple(channel or ()), direction, tuple(tag or ()), in_order)

    async def session() -> NewWebhook:
        async with connections.database(settings(), "webhooks") as pool:
            return await webhooks.known_to_sandbox(await webhooks.add(pool, tenant, asked))

    made = connections.run(session())
    if as_json:
        typer.echo(webhook_json.added(made))
        return
    typer.echo(f"Added webhook {made.stored.id}. Next: palomar webhooks test {made.stored.id}")
    _print_keys(made)


@app.command()
def show(webhook: Named, tenant: Whose = None, as_json: AsJson = False) -> None:
    """Show a webhook and how its URL does."""

    async def session() -> Webhook:
        async with connections.database(settings(), "webhooks") as pool:
            return await webhooks.find(pool, tenant, webhook)

    found = connections.run(session())
    webhook_tables.show(found, webhook_json.facts if as_json else webhook_tables.facts)


@app.command("test")
def try_(
    webhook: Named,
    tenant: Whose = None,
    event: Annotated[str, typer.Option(help="whose sample is sent")] = "message_received",
) -> None:
    """Send the sample of an event, once. It changes nothing about how the webhook does."""
    sample = bodies.sample(webhooks.event(event))

    async def session() -> tuple[Webhook, UUID]:
        async with connections.database(settings(), "webhooks") as pool:
            found = await webhooks.find(pool, tenant, webhook)
            async with connections.transaction(pool) as connection:
                log_id = await webhook_replays.send_sample(connection, found, event, sample)
            await _wake(found)
            return found, log_id

    found, log_id = connections.run(session())
    typer.echo(f"The sample is on its way. See the answer: palomar webhooks log {found.id} {log_id}")


@app.command()
def logs(
    webhook: Named,
    tenant: Whose = None,
    state: Annotated[str | None, typer.Option(help=f"only these: {', '.join(STATES)}")] = None,
    event: Annotated[str | None, typer.Option(help="only deliveries of this event")] = None,
    since: Annotated[str | None, typer.Option(help="2026-11-28T16:00, or 2h: two hours ago", metavar="TIME")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_LISTED)] = 50,
    as_json: AsJson = False,
) -> None:
    """List the deliveries to a webhook, newest first."""
    wanted: deliveries.State | None = next((one for one in STATES if one == state), None)
    if state is not None and wanted is None:
        raise Problem(f"No delivery is {state}.", f"Give one of: {', '.join(STATES)}.")
    if event is not None:
        webhooks.event(event)
    begin = None if since is None else webhooks.moment(since)

    async def session() -> list[Delivery]:
        async with connections.database(settings(), "webhooks") as pool:
            found = await webhooks.find(pool, tenant, webhook)
            async with pool.acquire() as connection:
                page, _ = await deliveries.page(
                    connection, found.tenant_id, found.id, state=wanted, event=event, since=begin, until=None,
                    after=None, limit=limit,
                )  # fmt: skip
                return page

    found = connections.run(session())
    webhook_tables.show(found, webhook_json.logged if as_json else webhook_tables.logged)


@app.command()
def log(
    webhook: Named,
    delivery: Annotated[UUID, typer.Argument(help="its webhook-id")],
    tenant: Whose = None,
    as_json: AsJson = False,
) -> None:
    """Show one delivery: its body, and each attempt with the answer."""

    async def session() -> Whole | None:
        async with connections.database(settings(), "webhooks") as pool:
            found = await webhooks.find(pool, tenant, webhook)
            async with pool.acquire() as connection:
                return await deliveries.get(connection, found.tenant_id, found.id, delivery)

    found = connections.run(session())
    if found is None:
        raise Problem(f"This webhook has no delivery {delivery}.", "See palomar webhooks logs.")
    webhook_tables.show(found, webhook_json.whole if as_json else webhook_tables.whole)


@app.command()
def replay(
    webhook: Named,
    delivery: Annotated[UUID | None, typer.Argument(help="one delivery; or give --since")] = None,
    tenant: Whose = None,
    since: Annotated[str | None, typer.Option(help="2026-11-28T16:00, or 2h: two hours ago", metavar="TIME")] = None,
    until: Annotated[str | None, typer.Option(help="with --since; left out: now", metavar="TIME")] = None,
) -> None:
    """Send one delivery again, or all of a range of time: one attempt each, under its own webhook-id."""
    if (delivery is None) == (since is None):
        raise Problem("Name one delivery or a range of time.", "Give a delivery's id, or --since.")
    if delivery is not None:
        _replay_one(webhook, tenant, delivery)
    elif since is not None:
        end = datetime.now(UTC) if until is None else webhooks.moment(until)
        _range(webhook, tenant, webhooks.moment(since), end, only_failed=False)


@app.command()
def recover(
    webhook: Named,
    since: Annotated[str, typer.Option(help="2026-11-28T16:00, or 2h: two hours ago", metavar="TIME")],
    tenant: Whose = None,
) -> None:
    """Send again all that failed since a time, or was missed while the webhook was disabled."""
    _range(webhook, tenant, webhooks.moment(since), datetime.now(UTC), only_failed=True)


@app.command()
def rotate(
    webhook: Named,
    tenant: Whose = None,
    overlap: Annotated[int | None, typer.Option(min=0, help="seconds that the former keys sign too; a day")] = None,
) -> None:
    """Give a webhook a new secret and key pair, and print them, which are shown this once."""
    seconds = settings().webhook_secret_overlap if overlap is None else overlap

    async def session() -> NewWebhook:
        keys = keyring(settings())
        async with connections.database(settings(), "webhooks") as pool:
            found = await webhooks.find(pool, tenant, webhook)
            async with connections.transaction(pool) as connection:
                before = await webhooks.locked(connection, found)
                made = await actions.rotate(connection, keys, before, timedelta(seconds=seconds))
            return await webhooks.known_to_sandbox(made)

    made = connections.run(session())
    _print_keys(made)
    typer.echo(f"The former ones sign too until {terminal.when(made.stored.previous_until)}.")


@app.command()
def enable(webhook: Named, tenant: Whose = None) -> None:
    """Switch a webhook on, also where Palomar has disabled it: what waits is delivered at once."""
    _switch(webhook, tenant, is_active=True)


@app.command()
def disable(webhook: Named, tenant: Whose = None) -> None:
    """Switch a webhook off. What happens meanwhile is not delivered to it."""
    _switch(webhook, tenant, is_active=False)


@app.command()
def events(name: Annotated[str | None, typer.Argument(help="one event: its sample as JSON")] = None) -> None:
    """List the events that a webhook may get, or show what the body of one looks like."""
    if name is not None:
        typer.echo(orjson.dumps(bodies.sample(webhooks.event(name)), option=orjson.OPT_INDENT_2))
        return
    webhook_tables.show(webhooks.EVENTS.values(), webhook_tables.events)


def _print_keys(made: NewWebhook) -> None:
    typer.echo(f"secret (v1)       {made.secret}")
    typer.echo(f"public key (v1a)  {made.stored.public_key}")


async def _wake(webhook: Webhook) -> None:
    if not await webhooks.wake(webhook):
        typer.echo("RabbitMQ does not answer: it is sent within seconds once RabbitMQ does.", err=True)


def _replay_one(named: str, tenant: str | None, delivery: UUID) -> None:
    async def session() -> None:
        async with connections.database(settings(), "webhooks") as pool:
            found = await webhooks.find(pool, tenant, named)
            async with connections.transaction(pool) as connection:
                if not await webhook_replays.replay(connection, found, delivery):
                    raise Problem(
                        f"This webhook has no delivery {delivery}, or it was erased with its person.",
                        "See palomar webhooks logs.",
                    )
            await _wake(found)

    connections.run(session())
    typer.echo(f"Delivery {delivery} is sent again. See the answer: palomar webhooks log {named} {delivery}")


def _range(named: str, tenant: str | None, since: datetime, until: datetime, *, only_failed: bool) -> None:
    if since >= until:
        raise Problem("The range of time is empty.", "Give an earlier --since.")

    async def session() -> Counted:
        async with connections.database(settings(), "webhooks") as pool:
            found = await webhooks.find(pool, tenant, named)
            async with webhooks.refusals(), connections.transaction(pool) as connection:
                return await webhook_replays.replay_range(connection, found, since, until, only_failed=only_failed)

    counted = connections.run(session())
    more = "More than " if counted.is_more else ""
    typer.echo(f"{more}{counted.found} deliveries are sent again, oldest first.")


def _switch(named: str, tenant: str | None, *, is_active: bool) -> None:
    async def session() -> Webhook:
        async with connections.database(settings(), "webhooks") as pool:
            found = await webhooks.find(pool, tenant, named)
            async with connections.transaction(pool) as connection:
                before = await webhooks.locked(connection, found)
                values = replace(before.values, is_active=is_active)
                after = await actions.update(connection, before, values, switches=True)
            if is_active:
                await _wake(after)
            return after

    after = connections.run(session())
    typer.echo(f"Webhook {after.id} is {'on' if is_active else 'off'}: {webhook_tables.state(after)}.")
