"""message_rates: the operator's price list. No tenant's."""

from collections.abc import Sequence
from typing import Final

from shared.database import Connection
from shared.domain.campaigns.prices import Rate, RateBook

_EVERY: Final = """
SELECT provider, kind, market, category, valid_from, price, currency FROM message_rates
ORDER BY provider, kind, market, category, valid_from
"""
_DELETE: Final = """
DELETE FROM message_rates WHERE (provider, kind, market, category, valid_from) IN (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::date[]))
"""
_WRITE: Final = """
INSERT INTO message_rates (provider, kind, market, category, valid_from, price, currency)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::date[], $6::numeric[], $7::text[])
ON CONFLICT (provider, kind, market, category, valid_from)
    DO UPDATE SET price = excluded.price, currency = excluded.currency
"""


async def lock(connection: Connection) -> None:
    """Keep other loads away until the transaction ends. Whoever reads the prices goes on."""
    await connection.execute("LOCK TABLE message_rates IN SHARE ROW EXCLUSIVE MODE")


async def every(connection: Connection) -> list[Rate]:
    """All prices, by provider, kind, market, category and day."""
    return [Rate(**row) for row in await connection.fetch(_EVERY)]


async def book(connection: Connection) -> RateBook:
    """The prices, to ask for one."""
    return RateBook(await every(connection))


async def write(connection: Connection, rates: Sequence[Rate]) -> None:
    """Insert prices; one for the same of the same day is replaced. Each may be given once."""
    await connection.execute(_WRITE, *_keys(rates), [one.price for one in rates], [one.currency for one in rates])


async def delete(connection: Connection, rates: Sequence[Rate]) -> None:
    """Delete these prices."""
    await connection.execute(_DELETE, *_keys(rates))


def _keys(rates: Sequence[Rate]) -> tuple[list[object], ...]:
    return (
        [one.provider for one in rates],
        [one.kind for one in rates],
        [one.market for one in rates],
        [one.category for one in rates],
        [one.valid_from for one in rates],
    )
