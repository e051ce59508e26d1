"""The demo tenant at Kommo."""

from typing import Final

from ops.demo.channel import SETTINGS, DemoChannel, Play, demo_id
from ops.sandbox.client import SandboxClient
from ops.sandbox.kommo_forms import BOT_ID, CHANNEL_SECRET, SCOPE_ID, URL_SECRET, chat_of
from ops.sandbox.observations import CustomerAnswer


async def _write(sandbox: SandboxClient, play: Play) -> CustomerAnswer:
    return await sandbox.kommo_says("customer", chat_id=play.sender, text=play.text, name="Ana", webhook_url=play.url)


DEMO_KOMMO: Final = DemoChannel(
    tenant_id=demo_id("tenant at Kommo"),
    channel_id=demo_id("channel at Kommo"),
    endpoint_id=demo_id("endpoint at Kommo"),
    address=SCOPE_ID,
    provider="kommo",
    tenant="Palomar demo at Kommo",
    secrets={"channel_secrets": [CHANNEL_SECRET], "url_secrets": [URL_SECRET]},
    credentials={"secret": CHANNEL_SECRET, "bot_id": BOT_ID},
    write=_write,
    written=chat_of,
    last_hop="provider accepted it",  # Kommo reports no delivery
    settings={**SETTINGS, "manager": {"own_bot": BOT_ID}},
    url_secret=URL_SECRET,
)
DEMOS: Final = {"kommo": DEMO_KOMMO}
