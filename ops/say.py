"""Plays a customer of a demo tenant at the sandbox, and follows the message through every hop."""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime

import aiohttp
import asyncpg
from rich.console import Console
from rich.table import Table

from ops.demo.channel import DemoChannel, Play
from ops.demo.tenants import DEMOS, USUAL
from ops.errors import Problem
from ops.sandbox.client import SandboxClient, SandboxError
from shared import database
from shared.domain.consents import DEFAULT_WORDS
from shared.settings import Settings
from shared.store.messages import inbound

_DEMO = DEMOS[USUAL]
_NO_ANSWER = "(nothing: they have opted out, until they write START)"
_START = "Start Palomar with ./palomar up, in another shell."


@dataclass(frozen=True, slots=True)
class Exchange:
    """One message of a customer and what came back."""

    said: str
    answered: str
    seconds: float  # from the webhook's leaving to the answer's arriving at the provider
    hops: list[tuple[str, datetime]]


async def exchange(
    settings: Settings,
    text: str,
    *,
    channel: DemoChannel = _DEMO,
    customer: str | None = None,
    within: float = 20.0,
) -> Exchange:
    """Say something and wait for the answer at the provider's API. Raises Problem that says where it got stuck."""
    if not settings.sandbox_url:
        raise Problem("There is no sandbox to play the customer in.", _START)
    try:
        async with SandboxClient(settings.sandbox_url) as sandbox:
            written = channel.written(customer or channel.customer)
            before = max((seen.seq for seen in await sandbox.messages(to=written)), default=0)
            started = time.monotonic()
            url = channel.webhook_url(settings.public_url)
            posted = await channel.write(sandbox, Play(channel, written, text, url))
            if posted.status is None or posted.status >= 300:
                raise Problem(
                    f"Ingress did not take the webhook: {posted.error or f'it answered {posted.status}'}.",
                    "Look at .palomar/logs/receive.log.",
                )
            change = DEFAULT_WORDS.change_in(text, channel.kind)
            if change is not None and change.state == "opted_out":
                hops = await _hops(settings, channel, posted.message_sid or "")
                return Exchange(text, _NO_ANSWER, time.monotonic() - started, hops)
            try:
                seen = await sandbox.wait(to=written, since=before, within=within)
            except TimeoutError:
                raise Problem(
                    f"The webhook was taken, but no answer reached the provider within {within:g} s.",
                    "See where it is with ./palomar status, and what failed with ./palomar dead list.",
                ) from None
            seconds = time.monotonic() - started
    except (aiohttp.ClientError, SandboxError) as error:
        raise Problem(f"The sandbox at {settings.sandbox_url} does not answer: {error}", _START) from error
    return Exchange(text, seen[0].body, seconds, await _hops(settings, channel, posted.message_sid or ""))


async def _hops(settings: Settings, channel: DemoChannel, external_id: str) -> list[tuple[str, datetime]]:
    """When each hop had it, once the last of them has written it down."""
    try:
        pool = database.make_pool(settings, process="say", size=1)
        async with pool:
            hops: list[tuple[str, datetime]] = []
            for _ in range(50):
                hops = await inbound.hops(pool, channel.tenant_id, channel.channel_id, external_id)
                if hops and hops[-1][0] == channel.last_hop:
                    break
                await asyncio.sleep(0.02)
            return hops
    except (OSError, asyncpg.PostgresError) as error:
        raise Problem(f"PostgreSQL does not answer: {error}", _START) from error


def show(happened: Exchange) -> None:
    """Print both messages and the time of each hop."""
    console = Console(highlight=False)
    console.print(f"\n[bold]customer[/]  {_escaped(happened.said)}")
    first, *more = happened.answered.splitlines() or [""]
    console.print(f"[bold]palomar[/]   {_escaped(first)}")
    for line in more:
        console.print(f"          {_escaped(line)}")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    start = happened.hops[0][1] if happened.hops else None
    for name, at in happened.hops:
        table.add_row("", name, f"{(at - (start or at)).total_seconds() * 1000:8.1f} ms")
    console.print(table)
    console.print(f"answered in {happened.seconds * 1000:.0f} ms, over RabbitMQ, PostgreSQL and the provider's API\n")


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


async def converse(settings: Settings, text: str, *, channel: DemoChannel = _DEMO, customer: str | None = None) -> None:
    """Say something and print what happened. Raises Problem."""
    show(await exchange(settings, text, channel=channel, customer=customer))
