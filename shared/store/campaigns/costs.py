"""campaign_costs and the cost of each recipient: finds what has been charged, writes its cost once, and adds it up.

`cost_due_at` of a recipient says that a message was charged and has no cost yet. Its cost, the end of `cost_due_at` and
the campaign's sums are one transaction, so that each is counted once wherever a process is killed.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns import prices
from shared.domain.campaigns.prices import Amount, Charge, Forecast
from shared.domain.model import ChannelKind
from shared.store import message_rates

# Only parts of `metadata`, each within a bound: a tenant's session may have written any JSON and any address there.
_DUE: Final = """
SELECT r.tenant_id, r.id, r.campaign_id, left(r.address, 100) AS address, r.charged_at, r.cost_due_at,
    c.provider, c.kind,
    left(m.metadata #>> '{pricing,category}', 50) AS stated_category,
    left(m.metadata #>> '{pricing,type}', 50) AS stated_type,
    m.metadata #> '{pricing,billable}' = 'false' AS is_not_billable,
    left(m.metadata #>> '{sms,segments}', 4) AS segments,
    m.media <> '[]' AS has_files,
    CASE WHEN coalesce(m.sent_as, m.template) IS NOT NULL THEN left(coalesce(t.category, ''), 50) END AS template
FROM (
    SELECT tenant_id, id, campaign_id, message_id, address, cost_due_at,
        coalesce(delivered_at, sent_at, cost_due_at) AS charged_at
    FROM campaign_recipients WHERE cost_due_at <= now() ORDER BY cost_due_at LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
) r
JOIN campaigns k ON k.tenant_id = r.tenant_id AND k.id = r.campaign_id
JOIN channels c ON c.tenant_id = k.tenant_id AND c.id = k.whatsapp_instance_id
LEFT JOIN message_templates t ON t.tenant_id = k.tenant_id AND t.id = k.message_template_id
LEFT JOIN messages m ON m.tenant_id = r.tenant_id AND m.id = r.message_id
"""
# A message that took another one's place is charged beside it.
_WRITE: Final = """
UPDATE campaign_recipients r SET cost_due_at = NULL, cost_category = new.category,
    cost = CASE WHEN new.cost IS NULL THEN r.cost ELSE coalesce(r.cost, 0) + new.cost END,
    cost_currency = coalesce(new.currency, r.cost_currency)
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::text[])
    AS new (tenant_id, id, category, cost, currency)
WHERE r.tenant_id = new.tenant_id AND r.id = new.id
"""
_ADD: Final = """
INSERT INTO campaign_costs AS s (tenant_id, campaign_id, market, category, type, currency, messages, units, amount)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
    $8::bigint[], $9::numeric[])
ON CONFLICT (tenant_id, campaign_id, market, category, type, currency)
    DO UPDATE SET messages = s.messages + excluded.messages, units = s.units + excluded.units,
        amount = s.amount + excluded.amount
"""
_POSTPONE: Final = """
UPDATE campaign_recipients r SET cost_due_at = now() + $3::interval
FROM unnest($1::uuid[], $2::uuid[]) AS late (tenant_id, id) WHERE r.tenant_id = late.tenant_id AND r.id = late.id
"""
_SUMS: Final = """
SELECT market, category, type, currency, messages, units, amount FROM campaign_costs
WHERE tenant_id = $1 AND campaign_id = $2 ORDER BY market, category, type, currency
"""
_EXPECTED: Final = """
SELECT c.provider, c.kind, coalesce(k.message, '') AS message, k.media <> '[]' AS has_files,
    CASE WHEN k.message_template_id IS NOT NULL THEN coalesce(t.category, '') END AS template
FROM campaigns k
JOIN channels c ON c.tenant_id = k.tenant_id AND c.id = k.whatsapp_instance_id
LEFT JOIN message_templates t ON t.tenant_id = k.tenant_id AND t.id = k.message_template_id
WHERE k.tenant_id = $1 AND k.id = $2
"""


@dataclass(frozen=True, slots=True)
class Due:
    """A recipient whose message has been charged, locked."""

    tenant_id: UUID
    recipient_id: UUID
    campaign_id: UUID
    provider: str
    kind: ChannelKind
    address: str | None
    charged_at: datetime
    due_at: datetime
    stated: prices.Stated | None  # None: the provider has not said how it charges the message
    template: str | None  # the category of its template; None: it is free-form
    has_files: bool
    segments: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What the message of a recipient cost. `amount` is None where no rate is loaded."""

    due: Due
    charge: Charge
    type: str
    amount: Amount | None


@dataclass(frozen=True, slots=True)
class CostLine:
    """The sum of a campaign's messages of one kind. Without a rate `currency` and `amount` are None."""

    market: str
    category: str
    type: str
    currency: str | None
    messages: int
    units: int
    amount: Decimal | None


async def due(connection: Connection, limit: int) -> list[Due]:
    """Lock recipients whose message has been charged, the longest due first; none that another transaction has."""
    rows = await connection.fetch(_DUE, limit)
    return [
        Due(
            tenant_id=row["tenant_id"],
            recipient_id=row["id"],
            campaign_id=row["campaign_id"],
            provider=row["provider"],
            kind=row["kind"],
            address=row["address"],
            charged_at=row["charged_at"],
            due_at=row["cost_due_at"],
            stated=prices.stated(row["stated_category"], row["stated_type"], False if row["is_not_billable"] else None),
            template=row["template"],
            has_files=bool(row["has_files"]),
            segments=_segments(row["segments"]),
        )
        for row in rows
    ]


def _segments(found: str | None) -> int:
    return int(found) if found is not None and found.isdecimal() and int(found) > 0 else 1


async def write(connection: Connection, costs: Sequence[Cost]) -> None:
    """Write the costs of recipients that `due` has locked in this transaction, and add them to their campaigns'."""
    await connection.execute(
        _WRITE,
        [one.due.tenant_id for one in costs],
        [one.due.recipient_id for one in costs],
        [one.charge.category for one in costs],
        [None if one.amount is None else one.amount.value for one in costs],
        [None if one.amount is None else one.amount.currency for one in costs],
    )
    sums: defaultdict[tuple[UUID, UUID, str, str, str, str], list[Cost]] = defaultdict(list)
    for one in costs:
        currency = "" if one.amount is None else one.amount.currency
        key = one.due.tenant_id, one.due.campaign_id, one.charge.market.country, one.charge.category, one.type, currency
        sums[key].append(one)
    ordered = sorted(sums)  # as every clock does, so that no two wait for each other
    await connection.execute(
        _ADD,
        *([key[place] for key in ordered] for place in range(6)),
        [len(sums[key]) for key in ordered],
        [sum(one.charge.units for one in sums[key]) for key in ordered],
        [sum((one.amount.value for one in sums[key] if one.amount is not None), Decimal(0)) for key in ordered],
    )


async def postpone(connection: Connection, those: Sequence[Due], wait: timedelta) -> None:
    """Make these recipients due again later."""
    await connection.execute(_POSTPONE, [one.tenant_id for one in those], [one.recipient_id for one in those], wait)


async def costs(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> list[CostLine]:
    """What the campaign has cost so far, by market, category, type and currency."""
    return [
        CostLine(
            market=row["market"],
            category=row["category"],
            type=row["type"],
            currency=row["currency"] or None,
            messages=row["messages"],
            units=row["units"],
            amount=row["amount"] if row["currency"] else None,
        )
        for row in await connection.fetch(_SUMS, tenant_id, campaign_id)
    ]


async def forecast(
    connection: Connection, tenant_id: UUID, campaign_id: UUID, addresses: Sequence[str | None], day: date
) -> Forecast:
    """What the campaign's messages to these addresses would cost on that day. The campaign must be there.

    Of one that may send free-form text, all count as the template. An SMS has as many segments as its text before the
    placeholders are filled.
    """
    row = await connection.fetchrow(_EXPECTED, tenant_id, campaign_id)
    assert row is not None, "the caller has found the campaign"
    book = await message_rates.book(connection)
    kind, has_files = row["kind"], row["has_files"]
    category = prices.expected_category(kind, template=row["template"], has_files=has_files)
    units = prices.expected_units(kind, row["message"], has_files=has_files)
    markets = Counter(book.market(address) for address in addresses)
    messages = {Charge(row["provider"], kind, category, market, units): count for market, count in markets.items()}
    return prices.forecast(book, messages, day)
