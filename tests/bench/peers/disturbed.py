"""A side under load while the process that calls the provider is killed, and then the broker is away for a while."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from ops.sandbox.client import SandboxClient
from ops.sandbox.courier import Courier, RetryPolicy
from ops.sandbox.twilio import AUTH_TOKEN, sign
from tests.bench.arena import Arena, Process
from tests.bench.peers.sides import Side, Start
from tests.bench.webhooks import CONTENT_TYPE, form, phone

RATE: Final = 50.0  # webhooks a second
KILL_AT: Final = 2.0  # seconds after the first one
RESTARTS_AFTER: Final = 1.0  # seconds: a supervisor's pause
AWAY_AT: Final = 8.0  # seconds after the first one
STARTS_AFTER: Final = 2.5  # seconds that the broker is down; to stop and to start it takes some 12 more
LONGEST: Final = 45.0  # seconds for the last answer
# As `#rc=5&rp=all` in a webhook's URL asks Twilio for: up to five retries, whatever the failure.
RETRIES: Final = RetryPolicy(5, frozenset({"all"}))
COURIERS: Final = 256  # half of the webhooks that may be under way at once


@dataclass(frozen=True, slots=True)
class Disturbed:
    """What became of the webhooks of one side."""

    sent: int
    refused: int  # never acknowledged, with all their retries
    unanswered: int  # acknowledged, and not answered within LONGEST
    known: int  # messages that the side's own database has as not sent, or of unknown outcome
    doubled: int  # customers who were answered more than once
    away: float  # seconds without the broker
    answered_after: float  # seconds from its return until all that came meanwhile were answered, those apart

    @property
    def lost(self) -> int:
        """Acknowledged, not answered, and nobody will know."""
        return max(self.unanswered - self.known, 0)


@dataclass(frozen=True, slots=True)
class _Webhook:
    """When it was sent first (Unix seconds), and whether it was acknowledged in the end."""

    at: float
    acknowledged: bool


async def disturbed(arena: Arena, sandbox: Process, client: SandboxClient, start: Start) -> Disturbed:
    """Start the side, disturb it under load, and end it."""
    side = await start(arena, sandbox)
    await client.clear()
    place = (await client.send_summary()).next
    courier = Courier(COURIERS)
    enough = asyncio.Event()
    load = asyncio.create_task(_load(side.webhook_url, courier, enough))
    began = time.monotonic()
    try:
        await asyncio.sleep(KILL_AT)
        side = await _kill_sender(arena, side)
        await asyncio.sleep(began + AWAY_AT - time.monotonic())
        left = time.time()
        await _restart_broker(arena)
        back = time.time()
    finally:
        enough.set()
        webhooks = await load
        await courier.close()
    answers = await _answers(client, place, webhooks)
    known = await side.unfinished()
    arena.check(*side.processes)
    arena.end(*side.processes)
    owed = [customer for customer, webhook in webhooks.items() if webhook.acknowledged]
    last = max(answers[customer][0] for customer in owed if webhooks[customer].at >= left and customer in answers)
    return Disturbed(
        len(webhooks),
        len(webhooks) - len(owed),
        sum(customer not in answers for customer in owed),
        known,
        sum(len(times) > 1 for times in answers.values()),
        back - left,
        max(last - back, 0.0),
    )


async def _load(url: str, courier: Courier, enough: asyncio.Event) -> Mapping[int, _Webhook]:
    """Webhooks by the clock until there are enough, each from a customer of its own, by whose number they return."""
    webhooks: dict[int, _Webhook] = {}

    async def send(customer: int) -> None:
        fields = form(customer, customer)
        headers = {"Content-Type": CONTENT_TYPE, "X-Twilio-Signature": sign(url, fields, AUTH_TOKEN)}
        at = time.time()
        delivery = await courier.deliver(url, urlencode(fields).encode(), headers, RETRIES)
        webhooks[customer] = _Webhook(at, delivery.status is not None and delivery.status < 300)

    began = time.monotonic()
    async with asyncio.TaskGroup() as sends:
        customer = 0
        while not enough.is_set():
            sends.create_task(send(customer))
            customer += 1
            await asyncio.sleep(began + customer / RATE - time.monotonic())
    return webhooks


async def _kill_sender(arena: Arena, side: Side) -> Side:
    side.sender.child.kill()
    await asyncio.sleep(RESTARTS_AFTER)
    side.sender.child.wait()
    return side.with_sender(arena.again(side.sender))


async def _restart_broker(arena: Arena) -> None:
    """Returns once it serves again."""
    broker = arena.stack.rabbitmq
    await asyncio.to_thread(broker.stop)
    await asyncio.sleep(STARTS_AFTER)
    broker.launch()
    await asyncio.to_thread(broker.await_ready)


async def _answers(
    client: SandboxClient, place: int, webhooks: Mapping[int, _Webhook]
) -> Mapping[int, Sequence[float]]:
    """When each customer was answered, once all whose webhook was acknowledged are or LONGEST is over."""
    customers = {f"whatsapp:{phone(customer)}": customer for customer in webhooks}
    owed = {customer for customer, webhook in webhooks.items() if webhook.acknowledged}
    deadline = time.monotonic() + LONGEST
    while True:
        answers: dict[int, list[float]] = defaultdict(list)
        for send in await client.sends(since=place):
            if send.accepted and send.to in customers:
                answers[customers[send.to]].append(send.at)
        if owed <= answers.keys() or time.monotonic() > deadline:
            return answers
        await asyncio.sleep(0.5)
