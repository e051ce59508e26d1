"""Contacts, groups, templates and campaigns by SQL; a campaign's recipients frozen as the worker does, and read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from shared.database import Pool
from shared.domain.campaigns.settings import TenantCampaignSettings
from shared.domain.channels import Channel
from shared.store import channels
from shared.store.campaigns import records
from shared.store.campaigns.records import Campaign
from tests.schema.people import Connection, Tenant
from workers.campaign.freezing import freeze_page

STANDARD: Final = TenantCampaignSettings()


@dataclass(frozen=True)
class Frozen:
    """A recipient as it was frozen."""

    status: str
    reason: str | None
    address: str | None
    values: dict[str, str]


def phone(number: int) -> tuple[str, str]:
    """A number in Spain, as an address of `add_contact`."""
    return "phone", f"+34{600000000 + number}"


def add_contact(worker: Connection, tenant: Tenant, *addresses: tuple[str, str], **columns: object) -> UUID:
    """A contact with these addresses (kind, canonical), the first one the oldest."""
    contact_id = _insert(worker, "contacts", tenant_id=tenant.id, **{"name": "Ana", **columns})
    for place, (kind, canonical) in enumerate(addresses):
        worker.execute(
            "INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id, created_at) "
            "VALUES (%s, %s, %s, %s, %s, now() + make_interval(secs => %s))",
            (tenant.id, kind, canonical, canonical, contact_id, place),
        )
    return contact_id


def add_group(worker: Connection, tenant: Tenant, contacts: Sequence[UUID]) -> UUID:
    group_id = _insert(worker, "groups", tenant_id=tenant.id, name="g")
    worker.execute(
        "INSERT INTO group_contacts (tenant_id, group_id, contact_id) SELECT %s, %s, unnest(%s::uuid[])",
        (tenant.id, group_id, list(contacts)),
    )
    return group_id


def add_template(worker: Connection, tenant: Tenant, **columns: object) -> UUID:
    """An approved template of the tenant's channel."""
    of_channel = {"channel_id": tenant.channel_id, "name": "offer", "language": "en", "external_id": "HX1"}
    return _insert(worker, "message_templates", tenant_id=tenant.id, **{**of_channel, "content": "Hello", **columns})


def add_campaign(worker: Connection, tenant: Tenant, **columns: Any) -> UUID:
    """A draft that says hello."""
    plain = {"whatsapp_instance_id": tenant.channel_id, "name": "c", "message": "Hello"}
    return _insert(worker, "campaigns", tenant_id=tenant.id, **{**plain, **columns})


def add_consent(
    worker: Connection, tenant: Tenant, contact_id: UUID, state: str, scope: str = "all", *, hours_ago: int = 1
) -> None:
    """An entry of the ledger for the tenant's channel."""
    worker.execute(
        "INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source, scope, effective_at) "
        "SELECT %s, %s, kind, %s, 'api', %s, now() - make_interval(hours => %s) FROM channels WHERE id = %s",
        (tenant.id, contact_id, state, scope, hours_ago, tenant.channel_id),
    )


def _insert(worker: Connection, table: str, **columns: object) -> UUID:
    identifier = uuid4()
    values = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in columns.items()}
    places = ", ".join(["%s"] * (len(values) + 1))
    statement = f"INSERT INTO {table} ({', '.join(('id', *values))}) VALUES ({places})"
    worker.execute(statement.encode(), [identifier, *values.values()])
    return identifier


async def campaign_and_channel(pool: Pool, tenant: Tenant, campaign_id: UUID) -> tuple[Campaign, Channel]:
    async with pool.acquire() as connection:
        campaign = await records.get(connection, tenant.id, campaign_id)
        channel = await channels.get(connection, tenant.id, tenant.channel_id)
    assert campaign is not None
    assert channel is not None
    return campaign, channel


async def freeze(pool: Pool, tenant: Tenant, campaign_id: UUID, *, pages: int | None = None) -> bool:
    """Freeze a page in each transaction, at most so many; returns whether all recipients are frozen."""
    campaign, channel = await campaign_and_channel(pool, tenant, campaign_id)
    done = False
    while not done and pages != 0:
        async with pool.acquire() as connection, connection.transaction():
            await records.get(connection, tenant.id, campaign_id, lock=True)
            done = await freeze_page(connection, campaign, channel, STANDARD)
        pages = None if pages is None else pages - 1
    return done


def recipients(worker: Connection, campaign_id: UUID) -> dict[UUID, Frozen]:
    """Contact → the recipient that it became."""
    rows = worker.execute(
        "SELECT contact_id, status, reason, address, message_data FROM campaign_recipients WHERE campaign_id = %s",
        (campaign_id,),
    ).fetchall()
    return {row[0]: Frozen(*row[1:]) for row in rows}


async def reasons(pool: Pool, worker: Connection, tenant: Tenant, campaign_id: UUID) -> dict[UUID, str | None]:
    """Freeze all: contact → why it was skipped; None for one who is written to."""
    assert await freeze(pool, tenant, campaign_id)
    return {contact: one.reason for contact, one in recipients(worker, campaign_id).items()}
