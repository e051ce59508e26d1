"""Campaigns on a stage: contacts by the thousand, a template, a draft, and what has become of each recipient."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

from shared import database
from shared.actions import campaigns
from shared.actions.campaign_life import Moved
from shared.store import message_templates
from shared.store.campaigns import records
from shared.store.campaigns.records import Campaign, CampaignValues
from shared.store.message_templates import TemplateValues
from tests.support.stage import Ours, Stage

Step = Callable[[database.Connection, UUID, UUID], Awaitable[Moved | None]]
CONTENT_SID: Final = "HX0123456789abcdef0123456789abcdef"
# Nothing stops it by itself, and nothing makes it wait.
PLAIN: Final[Mapping[str, object]] = {
    "waves": {"shares": [], "wait": 0},
    "auto_pause": {"failures": 1, "opt_outs": 1, "blocks": 1, "held": 1},
}

_CONTACTS = """
WITH made AS (
    INSERT INTO contacts (id, tenant_id, phone_number, name)
    SELECT gen_random_uuid(), $1, '+34' || 600000000 + n, 'Ana ' || n FROM generate_series($2::bigint, $3) AS n
    RETURNING id, phone_number
)
INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
SELECT $1, 'phone', phone_number, phone_number, id FROM made
"""
_GROUP = "INSERT INTO groups (id, tenant_id, name) VALUES ($1, $2, $3)"
_MEMBERS = """
INSERT INTO group_contacts (tenant_id, group_id, contact_id)
SELECT c.tenant_id, $1, c.id FROM generate_series($3::bigint, $4) AS n
JOIN contacts c ON c.tenant_id = $2 AND c.phone_number = '+34' || 600000000 + n
"""
TALLY: Final = "SELECT status, count(*) AS recipients FROM campaign_recipients WHERE campaign_id = $1 GROUP BY 1"
# In one statement, so that both are of one moment.
MISCOUNTED: Final = """
WITH rows AS (
    SELECT status, variant, count(*) AS recipients FROM campaign_recipients WHERE campaign_id = $1 GROUP BY 1, 2
), counts AS (
    SELECT status, variant, sum(recipients)::bigint AS recipients FROM campaign_counts
    WHERE campaign_id = $1 GROUP BY 1, 2 HAVING sum(recipients) <> 0
)
SELECT status, variant, rows.recipients AS there, counts.recipients AS counted
FROM rows FULL JOIN counts USING (status, variant) WHERE rows.recipients IS DISTINCT FROM counts.recipients
"""


def phone(number: int) -> str:
    """Of a contact that `add_contacts` made."""
    return f"+34{600_000_000 + number}"


async def add_contacts(pool: database.Pool, tenant_id: UUID, count: int, *, first: int = 0) -> None:
    """Contacts with a phone number and the name `Ana NUMBER`, from the number `first` on."""
    await pool.execute(_CONTACTS, tenant_id, first, first + count - 1)


async def add_group(pool: database.Pool, tenant_id: UUID, count: int, *, first: int = 0) -> UUID:
    """A group of contacts that `add_contacts` made, from the number `first` on."""
    group_id = database.new_id()
    await pool.execute(_GROUP, group_id, tenant_id, f"{first} to {first + count - 1}")
    await pool.execute(_MEMBERS, group_id, tenant_id, first, first + count - 1)
    return group_id


async def add_template(
    pool: database.Pool, ours: Ours, content: str = "Hola {{1}}", *, name: str = "offer", category: str = "UTILITY"
) -> UUID:
    """An approved template of this channel, whose variables are those of its content."""
    values = TemplateValues(
        channel_id=ours.id, name=name, language="es", external_id=CONTENT_SID if ours.provider == "twilio" else "4711",
        category=category, content=content, variables=(), status="approved", is_active=True,
    )  # fmt: skip
    async with pool.acquire() as connection, connection.transaction():
        return (await message_templates.insert(connection, ours.tenant_id, values)).id


async def draft(pool: database.Pool, ours: Ours, **values: Any) -> Campaign:
    """A draft for all contacts, with any field of CampaignValues; its settings are PLAIN where none are given."""
    given = {
        "channel_id": ours.id, "message_template_id": None, "name": "Test", "message": None, "recipient_type": "all",
        "recipient_ids": (), "settings": PLAIN,
    } | values  # fmt: skip
    async with pool.acquire() as connection, connection.transaction():
        return await campaigns.create(connection, ours.tenant_id, CampaignValues(**given))


async def read(pool: database.Pool, campaign: Campaign) -> Campaign:
    """As it is now."""
    async with pool.acquire() as connection:
        found = await records.get(connection, campaign.tenant_id, campaign.id)
    assert found is not None
    return found


async def tally(pool: database.Pool, campaign: Campaign) -> Counter[str]:
    """How many recipients are in each state, by their rows."""
    return Counter({row["status"]: row["recipients"] for row in await pool.fetch(TALLY, campaign.id)})


async def miscounted(pool: database.Pool, campaign: Campaign) -> list[dict[str, object]]:
    """Where the counters differ from the rows at this moment: nowhere."""
    return [dict(row) for row in await pool.fetch(MISCOUNTED, campaign.id)]


async def step(stage: Stage, campaign: Campaign, take: Step) -> Campaign:
    """Take a step of `campaign_life` as the API does, its jobs published; the campaign after it."""
    async with stage.pool.acquire() as connection, connection.transaction():
        moved = await take(connection, campaign.tenant_id, campaign.id)
    assert moved is not None
    await stage.deliver(*moved.jobs)
    return moved.campaign
