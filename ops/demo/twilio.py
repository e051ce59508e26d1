"""The demo tenants at Twilio: one has WhatsApp, one SMS."""

from typing import Final

from ops.demo.channel import DemoChannel, Play, demo_id
from ops.sandbox.client import SandboxClient
from ops.sandbox.observations import CustomerAnswer
from ops.sandbox.twilio_forms import ACCOUNT_SID, AUTH_TOKEN

ADDRESS: Final = "+14155238886"  # the number of Twilio's own WhatsApp sandbox


async def _write(sandbox: SandboxClient, play: Play) -> CustomerAnswer:
    to = play.channel.written(play.channel.address)
    return await sandbox.customer(sender=play.sender, to=to, text=play.text, profile_name="Ana", webhook_url=play.url)


def _whatsapp(number: str) -> str:
    return f"whatsapp:{number}"


DEMO: Final = DemoChannel(
    tenant_id=demo_id("tenant"),
    channel_id=demo_id("channel"),
    endpoint_id=demo_id("endpoint"),
    address=ADDRESS,
    provider="twilio",
    tenant="Palomar demo",
    secrets={"auth_tokens": [AUTH_TOKEN]},
    credentials={"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN},
    write=_write,
    written=_whatsapp,
)
DEMO_SMS: Final = DemoChannel(
    tenant_id=demo_id("tenant by SMS"),
    channel_id=demo_id("channel by SMS"),
    endpoint_id=demo_id("endpoint by SMS"),
    address=ADDRESS,
    provider="twilio",
    tenant="Palomar demo by SMS",
    secrets={"auth_tokens": [AUTH_TOKEN]},
    credentials={"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN},
    write=_write,
    kind="sms",
    name="SMS at the sandbox",
)
DEMOS: Final = {"twilio": DEMO, "sms": DEMO_SMS}
