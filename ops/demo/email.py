"""The demo tenant whose customers write mails."""

from collections.abc import Mapping
from typing import Final

from ops.demo.channel import DemoChannel, Play, demo_id
from ops.sandbox.client import SandboxClient
from ops.sandbox.email_forms import ADDRESS, PASSWORD, URL_SECRET, USER
from ops.sandbox.observations import CustomerAnswer
from shared.settings import Settings

MAIL_CUSTOMER: Final = "ana@customer.example"


async def _write(sandbox: SandboxClient, play: Play) -> CustomerAnswer:
    return await sandbox.email_customer(
        sender=f"Ana <{play.sender}>",
        to=play.channel.address,
        subject="Consulta",
        text=play.text,
        webhook_url=play.url,
    )


def _port(settings: Settings) -> Mapping[str, object]:
    return {"port": settings.sandbox_smtp_port}


DEMO_EMAIL: Final = DemoChannel(
    tenant_id=demo_id("tenant by e-mail"),
    channel_id=demo_id("channel by e-mail"),
    endpoint_id=demo_id("endpoint by e-mail"),
    address=ADDRESS,
    provider="email",
    tenant="Palomar demo by e-mail",
    secrets={"url_secrets": [URL_SECRET]},
    credentials={"host": "127.0.0.1", "tls": "none", "user": USER, "password": PASSWORD, "from_name": "Palomar"},
    write=_write,
    credentials_here=_port,
    last_hop="provider accepted it",  # a mail server reports no delivery
    kind="email",
    name="E-mail at the sandbox",
    customer=MAIL_CUSTOMER,
    url_secret=URL_SECRET,
)
DEMOS: Final = {"email": DEMO_EMAIL}
