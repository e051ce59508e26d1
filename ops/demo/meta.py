"""The demo tenant at Meta."""

from typing import Final

from ops.demo.channel import DemoChannel, Play, demo_id
from ops.sandbox.client import SandboxClient
from ops.sandbox.meta_forms import ACCESS_TOKEN, APP_SECRET, PHONE_NUMBER_ID, VERIFY_TOKEN
from ops.sandbox.observations import CustomerAnswer


async def _write(sandbox: SandboxClient, play: Play) -> CustomerAnswer:
    return await sandbox.meta_customer(
        sender=play.sender,
        phone_number_id=play.channel.address,
        text=play.text,
        profile_name="Ana",
        webhook_url=play.url,
    )


def _without_plus(number: str) -> str:
    return number.removeprefix("+")


DEMO_META: Final = DemoChannel(
    tenant_id=demo_id("tenant at Meta"),
    channel_id=demo_id("channel at Meta"),
    endpoint_id=demo_id("endpoint at Meta"),
    address=PHONE_NUMBER_ID,
    provider="meta",
    tenant="Palomar demo at Meta",
    secrets={"app_secrets": [APP_SECRET], "verify_token": VERIFY_TOKEN},
    credentials={"access_token": ACCESS_TOKEN},
    write=_write,
    written=_without_plus,
)
DEMOS: Final = {"meta": DEMO_META}
