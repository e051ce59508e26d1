"""What the workers' tests stand on: a channel, the sandbox behind it, a way in for webhooks, and workers to run.

    async with staged(settings, channel={"reply": {"greeting": "Hi"}}) as stage, stage.working("persist", "reply"):
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.count, "messages WHERE status = 'queued'", equals=1)

Workers run inside the test (`working`) or as processes that can be killed (`running`). Leases are short: `quick`.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web
from pydantic import SecretStr

from ops.sandbox.app import make_app, serving
from ops.sandbox.client import SandboxClient
from ops.sandbox.observations import SeenMessage
from ops.sandbox.receipts import Delays
from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN, inbound_form
from shared import database
from shared.crypto import KeyRing
from shared.domain.channels import Channel, read_settings
from shared.queue.jobs import Job, SendReady, SendRequested, WebhookReceived
from shared.queue.publisher import Publisher
from shared.queue.worker import Context
from shared.settings import Settings
from shared.store import channels, conversations, endpoints
from shared.store.messages import outbound
from tests.support.processes import ROOT, environ, quick
from tests.support.stage_queries import StageQueries
from workers.__main__ import Process

__all__ = ["ADDRESS", "CUSTOMER", "FORM", "ROOT", "Ours", "Stage", "environ", "quick", "staged"]

ADDRESS = "+14155238886"
CUSTOMER = "+34600000001"
FORM = "application/x-www-form-urlencoded; charset=UTF-8"
QUICK_RECEIPTS = Delays(sent=0.02, delivered=0.04, read=0.06)


@dataclass(frozen=True)
class Ours:
    """A channel of the stage: its tenant, its webhook URL, and its address at the provider."""

    tenant_id: UUID
    id: UUID
    endpoint_id: UUID
    kind: str
    address: str
    provider: str = "twilio"

    def party(self, address: str) -> str:
        """An address as Twilio writes it on this kind of channel."""
        return f"whatsapp:{address}" if self.kind == "whatsapp" else address


@dataclass
class Stage(StageQueries):
    """A channel and all around it; see `staged`."""

    settings: Settings
    pool: database.Pool
    publisher: Publisher
    sandbox: SandboxClient
    ours: Ours = field(init=False)
    _clock: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(seconds=60))

    @property
    def context(self) -> Context[None]:
        """To call a handler without a queue."""
        return Context(self.settings, self.pool, self.publisher, None)

    # -- a channel -------------------------------------------------------------------------------------------------

    async def add_channel(
        self,
        channel: Mapping[str, object] | None = None,
        *,
        kind: str = "whatsapp",
        address: str = ADDRESS,
        beside: Ours | None = None,
        account: tuple[str, str] = (ACCOUNT_SID, AUTH_TOKEN),
    ) -> Ours:
        """A channel with these settings, of a tenant of its own, or of the tenant and endpoint of another channel."""
        keys = KeyRing.parse(self.settings.secret_keys.get_secret_value())
        tenant_id, channel_id = beside.tenant_id if beside else database.new_id(), database.new_id()
        endpoint_id = beside.endpoint_id if beside else database.new_id()
        read_settings(channel or {})
        async with self.pool.acquire() as connection, connection.transaction():
            if beside is None:
                await channels.add_tenant(connection, tenant_id, "Tienda")
                secrets = keys.seal(json.dumps({"auth_tokens": [account[1]]}), tenant_id=tenant_id, owner=endpoint_id)
                await endpoints.add(connection, endpoints.EndpointRow(endpoint_id, tenant_id, "twilio", secrets))
            await channels.add(
                connection,
                channel_id=channel_id,
                tenant_id=tenant_id,
                endpoint_id=endpoint_id,
                provider="twilio",
                kind=kind,
                name="",
                address=address,
                credentials=self.sealed({"account_sid": account[0], "auth_token": account[1]}, tenant_id, channel_id),
                settings=dict(channel or {}),
            )
        return Ours(tenant_id, channel_id, endpoint_id, kind, address)

    def sealed(self, credentials: Mapping[str, str], tenant_id: UUID, channel_id: UUID) -> str:
        """Credentials as a channel's row holds them."""
        keys = KeyRing.parse(self.settings.secret_keys.get_secret_value())
        return keys.seal(json.dumps(credentials), tenant_id=tenant_id, owner=channel_id)

    async def configure(self, channel: Mapping[str, object]) -> None:
        """Replace the settings of the stage's channel."""
        read_settings(channel)
        assert await channels.set_settings(self.pool, self.ours.tenant_id, self.ours.id, dict(channel))

    async def channel(self) -> Channel:
        found = await channels.get(self.pool, self.ours.tenant_id, self.ours.id)
        assert found is not None
        return found

    # -- what comes in ---------------------------------------------------------------------------------------------

    def webhook(
        self, body: bytes | Mapping[str, str], *, query: str = "", received_at: datetime | None = None,
        to: Ours | None = None, receipts: bool = False, **fields: Any,
    ) -> WebhookReceived:  # fmt: skip
        """A webhook as ingress publishes it. Without `received_at` each is a millisecond younger than the last."""
        ours = to or self.ours
        self._clock += timedelta(milliseconds=1)
        path = f"/webhooks/twilio/{ours.endpoint_id}{'/status' if receipts else ''}"
        given = {"tenant_id": ours.tenant_id, "provider": "twilio", "content_type": FORM, "receipts": receipts} | fields
        return WebhookReceived.of(
            ours.endpoint_id,
            body if isinstance(body, bytes) else urlencode(body).encode(),
            received_at=received_at or self._clock,
            url=self.settings.public_url + path + query,
            **given,
        )

    def said(
        self, text: str, *, sender: str = CUSTOMER, sid: str | None = None, received_at: datetime | None = None,
        to: Ours | None = None, extra: Mapping[str, str | None] | None = None, **fields: Any,
    ) -> WebhookReceived:  # fmt: skip
        """A customer's message. `sender` is a number or a business-scoped id; `extra` changes fields of the form."""
        ours = to or self.ours
        form = inbound_form(
            sender=ours.party(sender), to=ours.party(ours.address), text=text, message_sid=sid, extra=extra
        )
        return self.webhook(form, to=to, received_at=received_at, **fields)

    def receipt(
        self, external_id: str, status: str, *, message_id: UUID | None = None, error_code: str | None = None,
        received_at: datetime | None = None, **more: str,
    ) -> WebhookReceived:  # fmt: skip
        """A status callback; `message_id` is ours, as it travels in the callback's URL."""
        form = {
            "MessageSid": external_id,
            "MessageStatus": status,
            "AccountSid": ACCOUNT_SID,
            "From": self.ours.party(self.ours.address),
            "To": self.ours.party(CUSTOMER),
            **({"ErrorCode": error_code} if error_code else {}),
            **more,
        }
        query = f"?m={message_id}" if message_id else ""
        return self.webhook(form, query=query, receipts=True, received_at=received_at)

    async def deliver(self, *webhooks: Job) -> None:
        """Publish, confirmed; also any other message of a queue."""
        await self.publisher.publish(*webhooks)

    # -- what goes out ---------------------------------------------------------------------------------------------

    async def converse(
        self, *, last_message_ago: timedelta | None = timedelta(0), customer: str = CUSTOMER, ours: Ours | None = None
    ) -> UUID:
        """A conversation whose customer last wrote so long ago (None: never); its id."""
        ours = ours or self.ours
        chat = ours.provider == "kommo"
        async with self.pool.acquire() as connection, connection.transaction():
            contact_id = database.new_id()
            await connection.execute(
                "INSERT INTO contacts (id, tenant_id, name) VALUES ($1, $2, 'Ana')", contact_id, ours.tenant_id
            )
            wanted = conversations.WantedConversation(
                tenant_id=ours.tenant_id, channel_id=ours.id, provider=ours.provider, addresses=(customer,),
                recipient=customer, phone=None if chat else customer, contact_id=contact_id, contact_name="Ana",
                kommo_chat_id=customer if chat else None,
            )  # fmt: skip
            (found,) = await conversations.find_or_make(connection, [wanted])
            if last_message_ago is not None:
                await connection.execute(
                    "UPDATE conversations SET last_user_message_at = now() - $2::interval WHERE id = $1",
                    found.id, last_message_ago,
                )  # fmt: skip
        return found.id

    async def requested(
        self, conversation_id: UUID, text: str = "", *, ours: Ours | None = None, **more: Any
    ) -> SendRequested:
        """Queue a message of ours, with any field of `NewMessage`, and publish no job."""
        ours = ours or self.ours
        fields: dict[str, Any] = {"channel_id": ours.id, "dedupe_key": f"test:{database.new_id()}"} | more
        message = outbound.NewMessage(
            tenant_id=ours.tenant_id, conversation_id=conversation_id, provider=ours.provider, content=text, **fields
        )
        handoff = timedelta(seconds=self.settings.handoff_lease)
        async with self.pool.acquire() as connection, connection.transaction():
            await conversations.lock(connection, {(message.tenant_id, conversation_id)})
            request = await outbound.add_outbound(connection, message, handoff)
        assert request is not None
        return request

    async def owe(self, conversation_id: UUID, text: str = "", **more: Any) -> UUID:
        """Queue a message of ours, with any field of `NewMessage`, and publish its job; its id."""
        request = await self.requested(conversation_id, text, **more)
        await self.deliver(request)
        return request.message_id

    def admitted(self, conversation_id: UUID, message_id: UUID) -> SendReady:
        """The nudge that tells `send` of a ready message."""
        return SendReady(
            tenant_id=self.ours.tenant_id, conversation_id=conversation_id, message_id=message_id, provider="twilio"
        )

    async def accepted(self, customer: str = CUSTOMER) -> list[SeenMessage]:
        """What the provider took for this customer, in order of arrival, whether or not its answer came back."""
        seen = await self.sandbox.messages(to=self.ours.party(customer))
        return [message for message in seen if message.outcome == "accepted"]

    async def bodies(self, customer: str = CUSTOMER) -> list[str]:
        return [message.body for message in await self.accepted(customer)]

    # -- workers ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def working(self, *names: str, settings: Settings | None = None) -> AsyncIterator[None]:
        """These workers inside the test, in one process's arrangement; they stop in order at the end."""
        stop = asyncio.Event()
        task = asyncio.create_task(Process(settings or self.settings, names).run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    @asynccontextmanager
    async def running(
        self, *names: str, module: str = "workers", settings: Settings | None = None
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """These workers as a process, `python -m workers NAME…`; killed at the end unless it is gone by then."""
        process = await self.start(*names, module=module, settings=settings)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def start(
        self, *names: str, module: str = "workers", settings: Settings | None = None
    ) -> asyncio.subprocess.Process:
        """As `running`, but the caller ends it."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *names,
            cwd=self.settings.state_dir,  # not where `palomar up` keeps its env file
            env={**os.environ, **environ(settings or self.settings), "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip


@asynccontextmanager
async def staged(
    settings: Settings,
    channel: Mapping[str, object] | None = None,
    *,
    kind: str = "whatsapp",
    receipts: bool = False,
    delays: Delays = QUICK_RECEIPTS,
    **others: object,
) -> AsyncIterator[Stage]:
    """A stage with one channel. Settings are `quick`, with `others` on top.

    With `receipts` the sandbox's webhooks reach persist's queues as through ingress; without, none is received.
    """
    async with serving(make_app(delays=delays)) as sandbox_url, SandboxClient(sandbox_url) as sandbox:
        door = _Door()
        async with serving(door.app()) as public_url:
            settings = quick(
                settings,
                twilio_api_url=sandbox_url,
                meta_api_url=sandbox_url,
                kommo_api_url=sandbox_url,
                sandbox_url=sandbox_url,
                trusted_origins=(sandbox_url, sandbox_url.replace("127.0.0.1", "localhost")),
                llm_base_url=f"{sandbox_url}/v1",
                llm_api_key=SecretStr("sk-sandbox"),
                public_url=public_url,
                **others,
            )
            publisher = Publisher(
                settings.amqp_url.get_secret_value(), "test", timeout=5.0, delays=settings.retry_delays
            )
            await publisher.start()
            try:
                await asyncio.wait_for(publisher.wait_ready(), 20)
                async with database.make_pool(settings, process="test", size=6) as pool:
                    stage = Stage(settings, pool, publisher, sandbox)
                    stage.ours = await stage.add_channel(channel, kind=kind)
                    if receipts:
                        door.stage = stage
                    yield stage
            finally:
                await publisher.close()


class _Door:
    """Takes the sandbox's webhooks as ingress would, without looking at the signature."""

    stage: Stage | None = None

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/webhooks/twilio/{endpoint}", self._take)
        app.router.add_post("/webhooks/twilio/{endpoint}/status", self._take)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.stage is None:
            return web.Response(status=204)
        webhook = self.stage.webhook(
            body,
            query=f"?{request.query_string}" if request.query_string else "",
            receipts=request.path.endswith("/status"),
            received_at=datetime.now(UTC),
        )
        await self.stage.deliver(webhook)
        return web.Response(status=204)
