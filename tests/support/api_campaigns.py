"""Campaigns in each state of their life, with their recipients, for the API's tests."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.database import new_id
from tests.support.api import ApiStage, Tenant
from tests.support.api_conversations import add_channel

_CAMPAIGN = """
INSERT INTO campaigns (id, tenant_id, whatsapp_instance_id, name, message, recipient_type, status, scheduled_at,
    started_at, completed_at, due_at, frozen_at, paused_reason)
VALUES ($1, $2, $3, 'Q1 Promotion', 'Hello!', 'all', $4, CASE WHEN $4 = 'scheduled' THEN now() + $5::interval END,
    CASE WHEN $4 NOT IN ('draft', 'scheduled') THEN now() END,
    CASE WHEN $4 IN ('completed', 'canceled', 'failed') THEN now() END,
    CASE WHEN $4 = 'scheduled' THEN now() + $5::interval END, CASE WHEN $4 NOT IN ('draft', 'scheduled') THEN now() END,
    CASE WHEN $4 = 'paused' THEN 'person' END)
"""
_CONTACT = "INSERT INTO contacts (id, tenant_id, name) VALUES ($1, $2, $3)"
_RECIPIENT = """
INSERT INTO campaign_recipients (id, tenant_id, campaign_id, contact_id, status, reason, address)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def add_campaign(api: ApiStage, whose: Tenant, status: str = "draft") -> UUID:
    """A campaign in this state, for all contacts."""
    campaign_id, channel = new_id(), await add_channel(api, whose)
    await api.pool.execute(_CAMPAIGN, campaign_id, whose.id, channel, status, timedelta(days=1))
    return campaign_id


async def add_recipient(
    api: ApiStage, whose: Tenant, campaign_id: UUID, status: str = "pending", reason: str | None = None
) -> UUID:
    """A recipient in this state; returns its contact."""
    contact_id = new_id()
    await api.pool.execute(_CONTACT, contact_id, whose.id, f"Ana {contact_id}")
    given = (new_id(), whose.id, campaign_id, contact_id, status, reason, f"+34{contact_id.int % 10**9:09d}")
    await api.pool.execute(_RECIPIENT, *given)
    return contact_id


def in_state(status: str) -> Callable[[ApiStage, Tenant], Awaitable[str]]:
    """Makes the id of a campaign in this state, with a recipient that failed."""

    async def make(api: ApiStage, whose: Tenant) -> str:
        campaign_id = await add_campaign(api, whose, status)
        await add_recipient(api, whose, campaign_id, "failed", "30008")
        return str(campaign_id)

    return make


async def export(api: ApiStage, whose: Tenant, campaign_id: Any, form: str = "csv", **filters: str) -> str:
    """The file of a campaign's results."""
    answer = await api.get(f"/v1/campaigns/results.{form}", whose, params={"id": str(campaign_id), **filters})
    assert answer.status == 200, answer.body
    return str(answer.body)
