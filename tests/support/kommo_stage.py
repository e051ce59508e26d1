"""A channel of Kommo's on a stage, its ingress open to the sandbox, and its webhooks."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from ops.sandbox.kommo_forms import BOT_ID, CHANNEL_SECRET, SCOPE_ID, URL_SECRET
from ops.sandbox.observations import CustomerAnswer, SeenMessage
from shared import database
from shared.crypto import KeyRing
from shared.queue.jobs import WebhookReceived
from shared.settings import Settings
from shared.store import channels, endpoints
from tests.support.ingress import ingress
from tests.support.stage import Ours, Stage, staged

CHAT = "11111111-2222-4333-8444-555555555555"
GREETING: Mapping[str, object] = {"greeting": "Hi Ana", "menu": []}


async def add_kommo(stage: Stage, channel: Mapping[str, object] | None = None, *, own_bot: str = BOT_ID) -> Ours:
    """A channel of Kommo's, of a tenant of its own."""
    keys = KeyRing.parse(stage.settings.secret_keys.get_secret_value())
    tenant_id, channel_id, endpoint_id = database.new_id(), database.new_id(), database.new_id()
    secrets = json.dumps({"channel_secrets": [CHANNEL_SECRET], "url_secrets": [URL_SECRET]})
    given = dict(channel or {"reply": GREETING})
    manager = given.get("manager")
    given["manager"] = {"own_bot": own_bot, **(manager if isinstance(manager, dict) else {})}
    async with stage.pool.acquire() as connection, connection.transaction():
        await channels.add_tenant(connection, tenant_id, "Taller")
        sealed = keys.seal(secrets, tenant_id=tenant_id, owner=endpoint_id)
        await endpoints.add(connection, endpoints.EndpointRow(endpoint_id, tenant_id, "kommo", sealed))
        await channels.add(
            connection,
            channel_id=channel_id,
            tenant_id=tenant_id,
            endpoint_id=endpoint_id,
            provider="kommo",
            kind="whatsapp",
            name="",
            address=SCOPE_ID,
            credentials=stage.sealed({"secret": CHANNEL_SECRET, "bot_id": BOT_ID}, tenant_id, channel_id),
            settings=given,
        )
    return Ours(tenant_id, channel_id, endpoint_id, "whatsapp", SCOPE_ID, "kommo")


def posted(stage: Stage, ours: Ours, body: bytes, *, scope_id: str | None = None, **more: Any) -> WebhookReceived:
    """A webhook of Kommo's as ingress publishes it; of the Chats API where a scope id is given."""
    path = "" if scope_id is None else f"/chats/{scope_id}"
    fields = {
        "received_at": datetime.now(UTC),
        "content_type": "application/x-www-form-urlencoded" if scope_id is None else "application/json",
        **more,
    }
    url = f"{stage.settings.public_url}/webhooks/kommo/{ours.endpoint_id}{path}"
    return WebhookReceived.of(ours.endpoint_id, body, tenant_id=ours.tenant_id, provider="kommo", url=url, **fields)


@dataclass
class Open:
    """A stage with a channel of Kommo's, whose ingress is open to the sandbox."""

    stage: Stage
    ours: Ours
    url: str  # of the endpoint

    async def says(
        self, who: Literal["customer", "manager"], text: str, *, chat_id: str = CHAT, **more: object
    ) -> CustomerAnswer:
        """Let a customer or an agent write, once ingress knows the endpoint."""
        path = f"chats/{SCOPE_ID}" if more.get("through") == "chats" else URL_SECRET
        answers: list[CustomerAnswer] = []

        async def taken() -> bool:
            answer = await self.stage.sandbox.kommo_says(
                who, chat_id=chat_id, webhook_url=f"{self.url}/{path}", text=text, **more
            )
            answers.append(answer)
            return answer.status == 200

        await self.stage.until(taken, equals=True)
        return answers[-1]

    async def answers(self, chat_id: str = CHAT) -> list[SeenMessage]:
        """All that Kommo took for this chat."""
        return [m for m in await self.stage.sandbox.messages(to=chat_id) if m.outcome == "accepted"]

    async def conversation_status(self) -> str:
        status: str = await self.stage.value("SELECT status FROM conversations")
        return status

    async def conversation_id(self) -> UUID:
        found: UUID = await self.stage.value("SELECT id FROM conversations")
        return found


@asynccontextmanager
async def opened(settings: Settings, channel: Mapping[str, object] | None = None, **more: Any) -> AsyncIterator[Open]:
    async with staged(settings) as stage, ingress(stage.settings) as client, stage.working("all"):
        ours = await add_kommo(stage, channel, **more)
        async with client.get("/") as answer:
            url = answer.url.with_path(f"/webhooks/kommo/{ours.endpoint_id}")
        yield Open(stage, ours, str(url))
