"""Previews a campaign for the palomar command: all pages added up, as tables."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from rich.console import Console
from rich.table import Table

from ops import connections, terminal
from ops.campaigns import refusals
from ops.errors import Problem
from shared.actions import campaign_audience, campaign_start
from shared.database import Pool
from shared.domain.campaigns.prices import Forecast
from shared.store import channels
from shared.store.campaigns import costs
from shared.store.campaigns.audience import Place
from shared.store.campaigns.records import Campaign

MOST_SHOWN = 20  # contacts whose missing values are listed


@dataclass(slots=True)
class Previewed:
    """What would become of all contacts."""

    recipients: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    incomplete: dict[UUID, str] = field(default_factory=dict)  # contact → placeholders that stand for nothing
    forecast: Forecast = field(default_factory=Forecast)


async def preview(pool: Pool, campaign: Campaign) -> Previewed:
    """Look at all contacts of a campaign, page by page. Writes nothing. Raises Problem."""
    found, today = Previewed(), datetime.now(UTC).date()
    place: Place | None = Place()
    while place is not None:
        async with refusals(), connections.transaction(pool) as connection:
            await campaign_start.check(connection, campaign)
            channel = await channels.get(connection, campaign.tenant_id, campaign.values.channel_id)
            if channel is None:
                raise Problem("The campaign's channel was deleted.", "Create it anew with another channel.")
            page = await campaign_audience.preview_page(connection, campaign, channel, place)
            found.forecast += await costs.forecast(connection, campaign.tenant_id, campaign.id, page.addresses, today)
        found.recipients += page.pending
        found.skipped.update(page.skipped)
        for one in page.incomplete[: MOST_SHOWN - len(found.incomplete)]:
            found.incomplete[one.contact_id] = ", ".join(one.missing)
        place = page.next
    return found


def show(console: Console, found: Previewed) -> None:
    """Print what was found."""
    console.print(f"Contacts that would get it: {found.recipients}.")
    _print(console, ("left out because", "contacts"), {name: str(count) for name, count in found.skipped.most_common()})
    _print(console, ("contact", "nothing is known for"), {str(one): names for one, names in found.incomplete.items()})
    for currency, amount in sorted(found.forecast.amounts.items()):
        console.print(f"It would cost {amount:.2f} {currency} by the prices that are loaded.")
    if found.forecast.without_rate:
        console.print(f"No price is loaded for {found.forecast.without_rate} of them: palomar rates load.")


def _print(console: Console, headings: tuple[str, str], rows: Mapping[str, str]) -> None:
    if not rows:
        return
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for name, value in rows.items():
        table.add_row(terminal.plain(name), terminal.plain(value))
    console.print(table)
