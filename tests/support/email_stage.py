"""A mailbox on a stage, with its ingress open to the sandbox's mail service."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ops.sandbox.email_forms import ADDRESS, PASSWORD, URL_SECRET, USER
from ops.sandbox.observations import CustomerAnswer
from shared import database
from shared.crypto import KeyRing
from shared.settings import Settings
from shared.store import channels, endpoints
from tests.support.ingress import PUBLIC_URL, ingress
from tests.support.stage import Ours, Stage, staged

ANA = "ana@customer.example"


@dataclass
class Mailbox:
    """A stage with a mailbox whose ingress is open."""

    stage: Stage
    ours: Ours
    url: str

    async def writes(self, text: str, *, sender: str = f"Ana Pérez <{ANA}>", **mail: Any) -> CustomerAnswer:
        """Let a customer write, once ingress knows the endpoint."""
        answer: CustomerAnswer | None = None

        async def taken() -> bool:
            nonlocal answer
            answer = await self.stage.sandbox.email_customer(sender=sender, webhook_url=self.url, text=text, **mail)
            return answer.status == 200

        await self.stage.until(taken, equals=True)
        assert answer is not None
        return answer

    async def mails(self, to: str = ANA) -> list[tuple[str, dict[str, str]]]:
        """(text, headers) of what was taken for this customer."""
        seen = await self.stage.sandbox.messages(to=to)
        return [(one.body, json.loads(one.content_variables or "{}")) for one in seen if one.outcome == "accepted"]


@asynccontextmanager
async def mailbox(settings: Settings, channel: Mapping[str, object], *workers: str) -> AsyncIterator[Mailbox]:
    """A mailbox at the sandbox, with these workers (all unless said)."""
    async with (
        staged(settings, smtp_private_hosts="127.0.0.1") as stage,
        ingress(stage.settings) as client,
        stage.working(*(workers or ("all",)), settings=stage.settings.model_copy(update={"public_url": PUBLIC_URL})),
    ):
        keys = KeyRing.parse(stage.settings.secret_keys.get_secret_value())
        tenant_id, channel_id, endpoint_id = database.new_id(), database.new_id(), database.new_id()
        credentials = {
            "host": "127.0.0.1", "port": str(await stage.sandbox.smtp_port()), "tls": "none", "user": USER,
            "password": PASSWORD, "from_name": "Tienda",
        }  # fmt: skip
        secrets = keys.seal(json.dumps({"url_secrets": [URL_SECRET]}), tenant_id=tenant_id, owner=endpoint_id)
        async with stage.pool.acquire() as connection, connection.transaction():
            await channels.add_tenant(connection, tenant_id, "Tienda")
            await endpoints.add(connection, endpoints.EndpointRow(endpoint_id, tenant_id, "email", secrets))
            await channels.add(
                connection,
                channel_id=channel_id,
                tenant_id=tenant_id,
                endpoint_id=endpoint_id,
                provider="email",
                kind="email",
                name="",
                address=ADDRESS,
                credentials=stage.sealed(credentials, tenant_id, channel_id),
                settings=dict(channel),
            )
        async with client.get("/") as answer:
            url = answer.url.with_path(f"/webhooks/email/{endpoint_id}/{URL_SECRET}")
        yield Mailbox(stage, Ours(tenant_id, channel_id, endpoint_id, "email", ADDRESS), str(url))
