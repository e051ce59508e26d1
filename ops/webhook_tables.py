"""Tables of webhooks and their deliveries, for the palomar command."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

import orjson
import typer
from rich.console import Group, RenderableType
from rich.table import Table

from ops import terminal
from shared.domain.public_events import PublicEvent
from shared.store.webhook_deliveries.log import Delivery, Whole
from shared.store.webhooks import Webhook

T = TypeVar("T")


def state(webhook: Webhook) -> str:
    """How the webhook does, in a few words."""
    health = webhook.health
    if health.disabled_at is not None:
        return f"disabled: {health.disabled_reason or 'no reason'}"
    if not webhook.values.is_active:
        return "inactive"
    if health.open_until is not None and health.open_until > datetime.now(UTC):
        return f"down, {health.failures} failures"
    return f"{health.failures} failures" if health.failures else "ok"


def facts(webhook: Webhook) -> Table:
    """All that is known of a webhook, but its secret."""
    values, health = webhook.values, webhook.health
    shown = {
        "id": str(webhook.id),
        "tenant": str(webhook.tenant_id),
        "name": values.name,
        "url": values.url,
        "events": ", ".join(values.events),
        "channels": ", ".join(map(str, values.channel_ids)) or "any",
        "direction": values.direction or "any",
        "tags": ", ".join(values.tags) or "any",
        "in order": "yes" if values.in_order else "no",
        "public key": webhook.public_key or "none yet",
        "former keys sign until": terminal.when(webhook.previous_until),
        "state": state(webhook),
        "failing since": terminal.when(health.first_failed_at),
        "disabled": terminal.when(health.disabled_at),
    }
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, fact in shown.items():
        table.add_row(name, terminal.plain(fact))
    return table


def listed(webhooks: Iterable[Webhook]) -> Table:
    """A line for each webhook."""
    table = _table("webhook", "name", "url", "events", "state")
    for one in webhooks:
        cells = (one.values.name, one.values.url, ", ".join(one.values.events), state(one))
        table.add_row(str(one.id), *map(terminal.plain, cells))
    return table


def logged(deliveries: Iterable[Delivery]) -> Table:
    """A line for each delivery."""
    table = _table("delivery", "event", "happened", "state", "attempts", "last answer", "next attempt")
    for one in deliveries:
        answer = " ".join(filter(None, (str(one.status_code or ""), one.error))) or "–"
        table.add_row(
            str(one.id),
            terminal.plain(one.event),
            terminal.when(one.created_at),
            f"{one.state} (test)" if one.is_test else one.state,
            str(one.attempt_count),
            terminal.plain(answer),
            terminal.when(one.next_attempt_at),
        )
    return table


def whole(found: Whole) -> RenderableType:
    """A delivery with each attempt and its body."""
    one = found.delivery
    table = _table("attempt", "kind", "at", "ms", "status", "error", "answer")
    for attempt in found.attempts:
        names = ("number", "kind", "at", "ms", "status", "error", "response")
        cells = ["–" if attempt.get(name) is None else str(attempt[name]) for name in names]
        if attempt.get("ended_at") is None:
            cells[5] = "no end: under way, or our process ended"
        if attempt.get("sent_again_at") is not None:
            cells[2] += f", again {attempt['sent_again_at']}"
        table.add_row(*map(terminal.plain, cells))
    body = orjson.dumps(found.payload, option=orjson.OPT_INDENT_2).decode()
    head = f"{one.id}: {one.event}, {one.state}, next attempt: {terminal.when(one.next_attempt_at)}"
    return Group(terminal.plain(head), table, terminal.plain(body))


def events(every: Iterable[PublicEvent]) -> Table:
    """A line for each event."""
    table = _table("event", "when")
    for one in every:
        table.add_row(one.name, one.meaning)
    return table


def show(found: T, form: Callable[[T], RenderableType | bytes]) -> None:
    """Print what was found in this form: a table for a person, or JSON."""
    shown = form(found)
    if isinstance(shown, bytes):
        typer.echo(shown)
    else:
        terminal.console().print(shown)


def _table(*headings: str) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
