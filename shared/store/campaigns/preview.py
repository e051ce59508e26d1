"""Previews a campaign's recipients, a page of contacts at a time: what freezing would make of them. Writes nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args
from uuid import UUID

import asyncpg

from shared.database import Connection
from shared.domain.addresses import calling_code
from shared.store.campaigns.audience import LIMIT, Audience, Place, arguments, pages
from shared.store.campaigns.records import RecipientType

MOST_INCOMPLETE: Final = 100  # recipients of a page whose missing values are listed


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A recipient who would be skipped, and the placeholders for which nothing is known of them."""

    contact_id: UUID
    missing: Sequence[str]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a page of contacts would become."""

    pending: int  # would be written to
    skipped: Mapping[str, int]  # reason → recipients
    incomplete: Sequence[Incomplete]
    calling_codes: Mapping[str, int]  # of those who would be written to: `+34` → recipients; `` where there is none
    addresses: Sequence[str]  # theirs, for the forecast of what it costs
    next: Place | None  # where the next page begins; None: this was the last


# All contacts of the page, for the last one says where the next page begins.
_PREVIEW: Final[Mapping[RecipientType, str]] = {
    source: f"""{pages(source)}
SELECT contact_id, is_chosen, reason, address, missing FROM judged ORDER BY contact_id
"""
    for source in get_args(RecipientType)
}


async def preview(connection: Connection, audience: Audience, begin: Place, limit: int = LIMIT) -> Preview:
    """What would become of the page of contacts that begins there. A contact in several groups counts in the first."""
    rules = audience.rules
    if audience.source == "groups":
        rules = replace(rules, earlier=audience.ids[: begin.part])
    counted = replace(audience, rules=rules)
    rows: Sequence[asyncpg.Record] = []
    if begin.part < audience.parts:
        rows = await connection.fetch(_PREVIEW[audience.source], *arguments(counted, begin, limit))
    chosen = [row for row in rows if row["is_chosen"]]
    addresses = [row["address"] for row in chosen if row["reason"] is None]
    incomplete = [row for row in chosen if row["reason"] == "missing_variables"]
    return Preview(
        pending=len(addresses),
        skipped=Counter(row["reason"] for row in chosen if row["reason"] is not None),
        incomplete=[Incomplete(row["contact_id"], row["missing"]) for row in incomplete[:MOST_INCOMPLETE]],
        calling_codes=Counter(calling_code(address) or "" for address in addresses),
        addresses=addresses,
        next=_next(audience, begin, rows[-1]["contact_id"] if len(rows) == limit else None),
    )


def _next(audience: Audience, begin: Place, last: UUID | None) -> Place | None:
    if last is not None:
        return Place(begin.part, last)
    return Place(begin.part + 1) if begin.part + 1 < audience.parts else None
