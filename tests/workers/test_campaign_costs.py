"""What a campaign costs: each charged message once, at the price of its day, and the sums equal to the recipients."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from shared import database
from shared.domain.campaigns.prices import Rate
from shared.settings import Settings
from shared.store import message_rates
from shared.store.campaigns import costs
from shared.store.campaigns.costs import CostLine
from tests.support.stage import Ours, Stage, staged
from workers.clock import costs as pricing

SINCE, TODAY = date(2026, 1, 1), date(2026, 11, 28)
RATES: Final = (
    Rate("meta", "whatsapp", "MX", "marketing", SINCE, Decimal("0.0305"), "USD"),
    Rate("meta", "whatsapp", "MX", "utility", SINCE, Decimal("0.0085"), "USD"),
    Rate("twilio", "sms", "MX", "sms", SINCE, Decimal("0.06"), "USD"),
    Rate("twilio", "sms", "*", "fee", SINCE, Decimal("0.001"), "USD"),
)
MEXICAN, SPANISH = "+5255123{:05}", "+34600{:06}"
DELIVERED: Final = """
UPDATE messages SET status = 'delivered', sent_at = now(), delivered_at = now(), metadata = metadata || $2
WHERE campaign_recipient_id = ANY($1)
"""
SENT: Final = "UPDATE messages SET status = 'sent', sent_at = now() WHERE campaign_recipient_id = ANY($1)"
WAIT: Final = pricing.PRICING_WAIT + timedelta(minutes=1)
REGULAR: Final = {"pricing": {"category": "marketing", "type": "regular", "billable": True}}
FREE: Final = {"pricing": {"category": "service", "type": "free_customer_service", "billable": False}}


async def campaign(stage: Stage, provider: str = "meta", kind: str = "whatsapp") -> tuple[Ours, UUID]:
    """A running campaign with a marketing template, on a channel of its own."""
    ours, campaign_id, template_id = await stage.add_channel(), database.new_id(), database.new_id()
    await stage.pool.execute("UPDATE channels SET provider = $2, kind = $3 WHERE id = $1", ours.id, provider, kind)
    await stage.pool.execute(
        "INSERT INTO message_templates (tenant_id, id, name, content, category) "
        "VALUES ($1, $2, 'offer', '', 'MARKETING')",
        *(ours.tenant_id, template_id),
    )
    await stage.pool.execute(
        "INSERT INTO campaigns (tenant_id, id, whatsapp_instance_id, message_template_id, name, message, status) "
        "VALUES ($1, $2, $3, $4, 'Sale', '', 'running')",
        *(ours.tenant_id, campaign_id, ours.id, template_id),
    )
    return ours, campaign_id


async def recipients(
    stage: Stage, ours: Ours, campaign_id: UUID, addresses: Sequence[str], metadata: Mapping[str, Any] | None = None,
    *, template: bool = True,
) -> list[UUID]:  # fmt: skip
    """Recipients with a message that is ready to leave."""
    ids = [database.new_id() for _ in addresses]
    conversation_id = await stage.converse(ours=ours, customer=f"+34611{ids[0].int % 10**6:06}")
    contacts = [database.new_id() for _ in addresses]
    of = ours.tenant_id, campaign_id, ours.id, conversation_id
    async with stage.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO contacts (tenant_id, id) SELECT $1, unnest($2::uuid[])", ours.tenant_id, contacts
        )
        await connection.execute(
            "INSERT INTO campaign_recipients (tenant_id, campaign_id, id, contact_id, address) "
            "SELECT $1, $2, * FROM unnest($3::uuid[], $4::uuid[], $5::text[])",
            *(ours.tenant_id, campaign_id, ids, contacts, list(addresses)),
        )
        await connection.execute(
            "INSERT INTO messages (id, tenant_id, conversation_id, channel_id, direction, role, status, out_seq, lane, "
            "campaign_recipient_id, metadata, template) "
            "SELECT gen_random_uuid(), $1, $2, $3, 'outbound', 'assistant', 'ready', "
            "(SELECT count(*) FROM messages WHERE conversation_id = $2) + place, 'bulk', r, $5, $6 "
            "FROM unnest($4::uuid[]) WITH ORDINALITY AS of (r, place)",
            *(of[0], of[3], of[2], ids, metadata or {}, {"name": "offer", "variables": {}} if template else None),
        )
    return ids


async def load(stage: Stage, *rates: Rate) -> None:
    async with stage.pool.acquire() as connection:
        await message_rates.write(connection, rates or RATES)


async def sums(stage: Stage, ours: Ours, campaign_id: UUID) -> list[CostLine]:
    """The campaign's sums; they are what its recipients' costs add up to."""
    async with stage.pool.acquire() as connection:
        found = await costs.costs(connection, ours.tenant_id, campaign_id)
    added: dict[str | None, tuple[int, Decimal]] = {}
    for row in await stage.rows(
        "SELECT cost, cost_currency FROM campaign_recipients WHERE campaign_id = $1 AND cost_category IS NOT NULL",
        campaign_id,
    ):
        count, amount = added.get(row["cost_currency"], (0, Decimal(0)))
        added[row["cost_currency"]] = count + 1, amount + (row["cost"] or 0)
    by_currency: dict[str | None, tuple[int, Decimal]] = {}
    for line in found:
        count, amount = by_currency.get(line.currency, (0, Decimal(0)))
        by_currency[line.currency] = count + line.messages, amount + (line.amount or 0)
    assert by_currency == added
    return found


async def test_a_delivered_message_costs_what_its_provider_says_it_was(settings: Settings) -> None:
    async with staged(settings) as stage:
        await load(stage)
        ours, campaign_id = await campaign(stage)
        first = await recipients(stage, ours, campaign_id, [MEXICAN.format(n) for n in range(3)])
        free = await recipients(stage, ours, campaign_id, [MEXICAN.format(7)], template=False)
        spanish = await recipients(stage, ours, campaign_id, [SPANISH.format(1), "maria@example.com"])
        await stage.pool.execute(SENT, first + free + spanish)
        assert await pricing.price(stage.context) == 0, "Meta charges what is delivered"
        await stage.pool.execute(DELIVERED, [*first, *spanish], REGULAR)
        await stage.pool.execute(DELIVERED, free, FREE)
        assert await pricing.price(stage.context) == 6
        assert await pricing.price(stage.context) == 0, "once"
        await stage.pool.execute("UPDATE messages SET status = 'read', read_at = now() WHERE direction = 'outbound'")
        assert await pricing.price(stage.context) == 0, "to read it costs nothing"
        assert await sums(stage, ours, campaign_id) == [
            CostLine("*", "marketing", "regular", None, 1, 1, None),
            CostLine("ES", "marketing", "regular", None, 1, 1, None),
            CostLine("MX", "marketing", "regular", "USD", 3, 3, Decimal("0.0915")),
            CostLine("MX", "service", "free_customer_service", "USD", 1, 1, Decimal(0)),
        ]


async def test_a_delivery_without_pricing_waits_for_it_then_counts_as_its_template(settings: Settings) -> None:
    async with staged(settings) as stage:
        await load(stage)
        ours, campaign_id = await campaign(stage)
        stating, silent = await recipients(stage, ours, campaign_id, [MEXICAN.format(n) for n in range(2)])
        await stage.pool.execute(DELIVERED, [stating, silent], {})
        assert await pricing.price(stage.context) == 0
        assert await sums(stage, ours, campaign_id) == []
        utility = {"pricing": {"category": "utility", "type": "regular", "billable": True}}
        await stage.pool.execute(
            "UPDATE messages SET status = 'read', read_at = now(), metadata = $2 WHERE campaign_recipient_id = $1",
            *(stating, utility),
        )
        await stage.pool.execute("UPDATE campaign_recipients SET cost_due_at = cost_due_at - $1::interval", WAIT)
        await stage.pool.execute("UPDATE campaign_recipients SET delivered_at = delivered_at - $1::interval", WAIT)
        assert await pricing.price(stage.context) == 2
        assert await sums(stage, ours, campaign_id) == [
            CostLine("MX", "marketing", "", "USD", 1, 1, Decimal("0.0305")),
            CostLine("MX", "utility", "regular", "USD", 1, 1, Decimal("0.0085")),
        ]


async def test_an_sms_costs_its_segments_and_the_fee_when_it_is_sent(settings: Settings) -> None:
    async with staged(settings) as stage:
        await load(stage)
        ours, campaign_id = await campaign(stage, "twilio", "sms")
        long = await recipients(
            stage, ours, campaign_id, [MEXICAN.format(n) for n in range(2)], {"sms": {"segments": 3}}, template=False
        )
        odd = await recipients(
            stage, ours, campaign_id, [MEXICAN.format(9)], {"sms": {"segments": "-1e9"}}, template=False
        )
        await stage.pool.execute(SENT, long + odd)
        assert await pricing.price(stage.context) == 3
        await stage.pool.execute(DELIVERED, long, {})
        await stage.pool.execute(
            "UPDATE messages SET status = 'failed', failed_at = now(), error_code = '30003' "
            "WHERE campaign_recipient_id = ANY($1)",
            odd,
        )
        assert await pricing.price(stage.context) == 0
        assert await sums(stage, ours, campaign_id) == [CostLine("MX", "sms", "", "USD", 3, 7, Decimal("0.423"))]

        # An operator sends the failed one again: another message, and another charge, beside the first.
        await stage.pool.execute(
            "INSERT INTO messages (id, tenant_id, conversation_id, channel_id, direction, role, status, out_seq, lane, "
            "campaign_recipient_id) SELECT gen_random_uuid(), tenant_id, conversation_id, channel_id, direction, role, "
            "'ready', 99, lane, campaign_recipient_id FROM messages WHERE campaign_recipient_id = $1",
            odd[0],
        )
        await stage.pool.execute("UPDATE messages SET status = 'sent', sent_at = now() WHERE out_seq = 99")
        assert await pricing.price(stage.context) == 1
        (row,) = await stage.rows("SELECT cost FROM campaign_recipients WHERE id = $1", odd[0])
        assert row["cost"] == Decimal("0.122")


async def test_several_clocks_and_a_failure_between_the_two_writes_count_each_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pricing, "AT_ONCE", 20)
    async with staged(settings) as stage:
        await load(stage)
        ours, campaign_id = await campaign(stage)
        some = await recipients(stage, ours, campaign_id, [MEXICAN.format(n) for n in range(300)])
        await stage.pool.execute(DELIVERED, some, REGULAR)

        with monkeypatch.context() as patch:
            patch.setattr(costs, "_ADD", f"DO $$ BEGIN RAISE 'killed here'; END $$ --{costs._ADD}")
            with pytest.raises(asyncpg.PostgresError):
                await pricing.price(stage.context)
        assert await sums(stage, ours, campaign_id) == []

        done = await asyncio.gather(*(pricing.price(stage.context) for _ in range(3)))
        assert sum(done) == 300
        assert [(line.messages, line.amount) for line in await sums(stage, ours, campaign_id)] == [
            (300, Decimal("9.15"))
        ]


async def test_an_erased_recipients_cost_stays_in_the_sums_and_a_tenant_sees_only_its_own(settings: Settings) -> None:
    async with staged(settings) as stage, database.ApiPool(settings, process="test") as pool:
        await load(stage)
        ours, campaign_id = await campaign(stage)
        theirs = await stage.add_channel(address="+14155238887")
        some = await recipients(stage, ours, campaign_id, [MEXICAN.format(n) for n in range(2)])
        await stage.pool.execute(DELIVERED, some, REGULAR)
        await pricing.price(stage.context)
        await stage.pool.execute("DELETE FROM campaign_recipients WHERE id = $1", some[0])
        async with pool.tenant_transaction(ours.tenant_id) as connection:
            (line,) = await costs.costs(connection, ours.tenant_id, campaign_id)
            assert (line.messages, line.amount) == (2, Decimal("0.061"))
        for statement in ("DELETE FROM message_rates", "UPDATE campaign_costs SET amount = 0"):
            async with pool.tenant_transaction(ours.tenant_id) as connection:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        async with pool.tenant_transaction(theirs.tenant_id) as connection:
            assert await costs.costs(connection, ours.tenant_id, campaign_id) == []


async def test_a_campaigns_forecast_is_what_it_costs_then(settings: Settings) -> None:
    async with staged(settings) as stage, database.ApiPool(settings, process="test") as pool:
        await load(stage)
        ours, campaign_id = await campaign(stage)
        addresses = [MEXICAN.format(n) for n in range(5)]
        some = await recipients(stage, ours, campaign_id, addresses)
        async with pool.tenant_transaction(ours.tenant_id) as connection:
            first = await costs.forecast(connection, ours.tenant_id, campaign_id, addresses[:3], TODAY)
            rest = await costs.forecast(
                connection, ours.tenant_id, campaign_id, [*addresses[3:], SPANISH.format(1), None], TODAY
            )
        expected = first + rest
        assert (expected.messages, expected.without_rate) == (7, 2)
        await stage.pool.execute(DELIVERED, some, REGULAR)
        await pricing.price(stage.context)
        assert [line.amount for line in await sums(stage, ours, campaign_id)] == [expected.amounts["USD"]]

        ours, campaign_id = await campaign(stage, "twilio", "sms")
        await stage.pool.execute("UPDATE campaigns SET message = $2 WHERE id = $1", campaign_id, "ñ" * 161)
        async with pool.tenant_transaction(ours.tenant_id) as connection:
            found = await costs.forecast(connection, ours.tenant_id, campaign_id, addresses, TODAY)
        assert found.amounts == {"USD": 5 * (2 * Decimal("0.06") + Decimal("0.001"))}


HOSTILE: Final = (
    "UPDATE messages SET metadata = '[1]'",
    """UPDATE messages SET metadata = '{"pricing": {"category": {"a": [1e400]}, "type": 7, "billable": "no"}}'""",
    """UPDATE messages SET metadata = '{"pricing": [], "sms": {"segments": "٩٩٩٩"}}'""",
    "UPDATE message_templates SET category = repeat('x', 100000)",
    "UPDATE campaign_recipients SET address = '+' || repeat('9', 100000)",
    "UPDATE campaign_recipients SET cost = 'NaN', cost_currency = repeat('x', 100000)",
    "UPDATE campaign_recipients SET cost_due_at = '0002-01-01 00:00+00', sent_at = '9999-01-01 00:00+00'",
    "UPDATE campaign_recipients SET address = NULL",
    "DELETE FROM messages",
)


@pytest.mark.parametrize("statement", HOSTILE)
async def test_what_a_tenant_writes_by_sql_delays_no_others_costs(settings: Settings, statement: str) -> None:
    async with staged(settings) as stage, database.ApiPool(settings, process="test") as pool:
        await load(stage)
        theirs, their_campaign = await campaign(stage, "twilio", "sms")
        ours, campaign_id = await campaign(stage)
        for of in ((theirs, their_campaign), (ours, campaign_id)):
            some = await recipients(stage, *of, [MEXICAN.format(n) for n in range(2)])
            await stage.pool.execute(DELIVERED, some, REGULAR)
        async with pool.tenant_transaction(theirs.tenant_id) as connection:
            assert not (await connection.execute(statement)).endswith(" 0")
        await pricing.price(stage.context)
        assert [line.amount for line in await sums(stage, ours, campaign_id)] == [Decimal("0.061")]


async def test_the_clock_prices_by_itself(settings: Settings) -> None:
    async with staged(settings) as stage:
        await load(stage)
        ours, campaign_id = await campaign(stage)
        some = await recipients(stage, ours, campaign_id, [MEXICAN.format(1)])
        await stage.pool.execute(DELIVERED, some, REGULAR)
        async with stage.working("clock"):
            await stage.until(stage.count, "campaign_recipients WHERE cost IS NOT NULL", equals=1)
