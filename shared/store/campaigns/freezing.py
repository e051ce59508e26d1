"""campaign_recipients: freezes a campaign's recipients, a page of contacts at a time, all within SQL."""

from collections.abc import Mapping
from typing import Final, get_args
from uuid import UUID

from shared.database import Connection
from shared.store.campaigns.audience import LIMIT, Audience, Place, arguments, pages
from shared.store.campaigns.records import RecipientType

# In the order of their ids, as join_contacts locks contacts. A contact that has its row already, by another group or an
# earlier try, stays what it is.
_FREEZE: Final[Mapping[RecipientType, str]] = {
    source: f"""{pages(source)}, made AS (
    INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, status, reason, address, message_data)
    SELECT $1, rule.campaign_id, contact_id, CASE WHEN reason IS NULL THEN 'pending' ELSE 'skipped' END, reason,
        address, CASE WHEN reason IS NULL THEN found ELSE '{{}}' END
    FROM judged, rule WHERE is_chosen ORDER BY contact_id
    ON CONFLICT (campaign_id, contact_id, tenant_id) DO NOTHING
)
SELECT (SELECT count(*) FROM page) AS contacts, (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last
"""
    for source in get_args(RecipientType)
}
_PLACE: Final = """
SELECT frozen_part, frozen_to, frozen_at IS NOT NULL AS is_frozen FROM campaigns WHERE tenant_id = $1 AND id = $2
"""
_MOVE: Final = "UPDATE campaigns SET frozen_part = $3, frozen_to = $4 WHERE tenant_id = $1 AND id = $2"
_END: Final = """
UPDATE campaigns SET frozen_part = $3, frozen_to = NULL, frozen_at = now(), total_recipients = (
    SELECT coalesce(sum(recipients), 0) FROM campaign_counts WHERE tenant_id = $1 AND campaign_id = $2)
WHERE tenant_id = $1 AND id = $2
"""


async def place(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Place | None:
    """Where the freezing goes on; None where every recipient has its row."""
    row = await connection.fetchrow(_PLACE, tenant_id, campaign_id)
    return None if row is None or row["is_frozen"] else Place(row["frozen_part"], row["frozen_to"])


async def freeze(connection: Connection, audience: Audience, begin: Place, limit: int = LIMIT) -> bool:
    """Freeze the page of contacts that begins there, and note how far it went. Returns whether that was the last page.

    In one transaction, whose caller has locked the campaign's row: the recipients and the note of them are one.
    """
    campaign = audience.tenant_id, audience.rules.campaign_id
    after = begin.after
    if begin.part < audience.parts:
        row = await connection.fetchrow(_FREEZE[audience.source], *arguments(audience, begin, limit))
        assert row is not None, "a SELECT without FROM has a row"
        after = row["last"] if row["contacts"] == limit else None
    part = begin.part if after is not None else begin.part + 1
    if part < audience.parts:
        await connection.execute(_MOVE, *campaign, part, after)
        return False
    await connection.execute(_END, *campaign, part)
    return True
