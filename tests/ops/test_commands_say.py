"""`palomar say`: a customer of each provider's is answered, and every hop of it has a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ingress.receive_process import receive
from ops.demo import meta, tenants, twilio
from ops.sandbox.app import make_app, serving
from ops.sandbox.client import SandboxClient
from ops.say import exchange
from shared.settings import Settings
from tests.support.commands import palomar
from tests.support.ingress import answering, client_of, keys_of
from tests.support.ports import free_port
from workers.__main__ import Process


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Settings]:
    """What `palomar up` starts, inside the test."""
    async with serving(make_app()) as sandbox, SandboxClient(sandbox) as client_of_sandbox:
        port = free_port()
        settings = settings.model_copy(
            update={
                "port": port,
                "health_port": (health_port := free_port()),
                "public_url": f"http://127.0.0.1:{port}",
                "sandbox_url": sandbox,
                "twilio_api_url": sandbox,
                "meta_api_url": sandbox,
                "kommo_api_url": sandbox,
                "sandbox_smtp_port": await client_of_sandbox.smtp_port(),
                "smtp_private_hosts": "127.0.0.1",
            }
        )
        await tenants.ensure(settings)
        stop = asyncio.Event()
        door = asyncio.create_task(receive(settings, keys_of(settings), stop))
        # The workers' health is served on any free port.
        workers = asyncio.create_task(Process(settings.model_copy(update={"port": None}), ["all"]).run(stop))
        try:
            async with client_of(port, health_port) as client:
                await answering(client, door)
            yield settings
        finally:
            stop.set()
            await asyncio.gather(door, workers)


async def test_a_customer_of_each_provider_is_answered(settings: Settings) -> None:
    async with running(settings) as settings:
        for channel in tenants.DEMOS.values():
            happened = await exchange(settings, "hola", channel=channel, within=30)
            assert "Palomar" in happened.answered, channel.provider
            assert [name for name, _ in happened.hops][:3] == ["ingress had it", "persist stored it", "reply answered"]
            assert "provider accepted it" in dict(happened.hops)
        await tenants.ensure(settings)  # again, and nothing is made twice
        again = await exchange(settings, "precios", channel=meta.DEMO_META, within=30)
        assert "12" in again.answered
        # Who stops SMS is not answered there, and by WhatsApp they are.
        assert "opted out" in (await exchange(settings, "STOP", channel=twilio.DEMO_SMS)).answered
        assert "12" in (await exchange(settings, "precios", channel=twilio.DEMO, within=30)).answered


@pytest.mark.parametrize(
    ("arguments", "complaint", "remedy"),
    [
        (("--provider", "fax"), "--provider: 'fax' is none.", "meta"),
        (("--from", "nobody"), "--from: 'nobody' is no phone number.", "+34600000001"),
        ((), "There is no sandbox", "./palomar up"),
    ],
)
def test_a_wrong_call_says_what_to_do(
    environment: dict[str, str], arguments: tuple[str, ...], complaint: str, remedy: str
) -> None:
    result = palomar(environment, "say", "hola", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert complaint in result.stderr
    assert remedy in result.stderr
