"""Channels of Meta's on a stage: one app's endpoint that serves numbers of several tenants, and its webhooks."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ops.sandbox.meta_forms import ACCESS_TOKEN, ACCOUNT, APP_SECRET, VERIFY_TOKEN
from shared import database
from shared.crypto import KeyRing
from shared.queue.jobs import WebhookReceived
from shared.store import channels, endpoints
from tests.support.meta_payloads import Json, body
from tests.support.stage import Ours, Stage


async def add_app(stage: Stage, tenant_id: UUID | None = None) -> UUID:
    """An endpoint of Meta's; with no tenant it serves several."""
    keys = KeyRing.parse(stage.settings.secret_keys.get_secret_value())
    endpoint_id = database.new_id()
    secrets = json.dumps({"app_secrets": [APP_SECRET], "verify_token": VERIFY_TOKEN})
    async with stage.pool.acquire() as connection:
        sealed = keys.seal(secrets, tenant_id=tenant_id, owner=endpoint_id)
        await endpoints.add(connection, endpoints.EndpointRow(endpoint_id, tenant_id, "meta", sealed))
    return endpoint_id


async def add_number(
    stage: Stage, endpoint_id: UUID, phone_number_id: str, *, tenant_id: UUID | None = None,
    channel: Mapping[str, object] | None = None, account: str = ACCOUNT, access_token: str = ACCESS_TOKEN,
) -> Ours:  # fmt: skip
    """A channel of this phone number id, of a tenant of its own where none is given."""
    channel_id, owner = database.new_id(), tenant_id or database.new_id()
    credentials = {"access_token": access_token, "phone_number_id": phone_number_id, "webhook_token": VERIFY_TOKEN}
    async with stage.pool.acquire() as connection, connection.transaction():
        await channels.add_tenant(connection, owner, "Panadería")
        await channels.add(
            connection,
            channel_id=channel_id,
            tenant_id=owner,
            endpoint_id=endpoint_id,
            provider="meta",
            kind="whatsapp",
            name="",
            address=phone_number_id,
            credentials=stage.sealed(credentials, owner, channel_id),
            settings=dict(channel or {}),
            business_id=account,
        )
    return Ours(owner, channel_id, endpoint_id, "whatsapp", phone_number_id, "meta")


def posted(
    stage: Stage, endpoint_id: UUID, *entries: Json, tenant_id: UUID | None = None, **more: Any
) -> WebhookReceived:
    """A webhook of Meta's as ingress publishes it."""
    fields = {"received_at": datetime.now(UTC), "content_type": "application/json", **more}
    url = f"{stage.settings.public_url}/webhooks/meta/{endpoint_id}"
    return WebhookReceived.of(endpoint_id, body(*entries), tenant_id=tenant_id, provider="meta", url=url, **fields)
