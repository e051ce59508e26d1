"""Writes what campaigns' messages cost, beside the clock's other work: some seconds after each was charged.

Receipts only mark a recipient as charged. The country of its number, the price list and the sums take longer than a
receipt may.
"""

import asyncio
from datetime import UTC, timedelta
from typing import Any, Final

from shared import database, providers
from shared.domain.campaigns.prices import Charge, RateBook, expected_category
from shared.queue.worker import Context
from shared.store import message_rates
from shared.store.campaigns import costs
from shared.store.campaigns.costs import Cost, Due

EVERY: Final = 2.0  # seconds
AFTER_A_FAILURE: Final = 30.0
AT_ONCE: Final = 500  # recipients a transaction
BREATH: Final = 0.02  # seconds between two transactions
# How long after the delivery the provider may still say how it charges. Meta does in the receipt `delivered` or `read`.
# A person may read much later, or never; then the template's category counts.
PRICING_WAIT: Final = timedelta(minutes=10)


async def price_forever(ctx: Context[Any]) -> None:
    """Price what is due every two seconds, until cancelled. After an outage or an error the next round tries again."""
    while True:
        pause = EVERY
        try:
            await price(ctx)
        except Exception as error:
            pause = AFTER_A_FAILURE
            if not database.is_outage(error):
                ctx.log.exception("pricing failed; it goes on in half a minute")
        await asyncio.sleep(pause)


async def price(ctx: Context[Any]) -> int:
    """Price all that is due, a batch a transaction; returns how many recipients have their cost now."""
    total = 0
    book: RateBook | None = None
    while True:

        async def once() -> tuple[int, int]:
            nonlocal book
            async with ctx.transaction() as tx:
                found = await costs.due(tx, AT_ONCE)
                if not found:
                    return 0, 0
                if book is None:
                    book = await message_rates.book(tx)
                late = [one for one in found if _may_still_say(one)]
                known = [one for one in found if not _may_still_say(one)]
                if late:
                    await costs.postpone(tx, late, PRICING_WAIT)
                if known:
                    await costs.write(tx, [_cost(book, one) for one in known])
                return len(found), len(known)

        found, priced = await database.repeat(once)
        total += priced
        if found < AT_ONCE:
            return total
        await asyncio.sleep(BREATH)


def _may_still_say(due: Due) -> bool:
    """Whether the provider is likely to say yet how it charges the message. After one wait it is not."""
    states = providers.provider(due.provider).states_pricing and due.kind == "whatsapp"
    return states and due.stated is None and due.due_at - due.charged_at < PRICING_WAIT


def _cost(book: RateBook, due: Due) -> Cost:
    expected = expected_category(due.kind, template=due.template, has_files=due.has_files)
    charge = Charge(
        provider=due.provider,
        kind=due.kind,
        category=expected if due.stated is None else due.stated.category,
        market=book.market(due.address),
        units=due.segments if expected == "sms" else 1,
        is_free=due.stated is not None and due.stated.is_free,
    )
    type_ = "" if due.stated is None else due.stated.type
    return Cost(due, charge, type_, book.amount(charge, due.charged_at.astimezone(UTC).date()))
