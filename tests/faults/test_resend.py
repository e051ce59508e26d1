"""`send` is killed at every point it has, and the provider's list is late: each customer is written to, once."""

import asyncio
import signal
from collections import Counter
from typing import Any, Final

import pytest

from ops.sandbox.receipts import Delays
from shared.settings import Settings
from tests.support.stage import Stage, staged

POINTS: Final = ("claimed", "answered", "recorded", "looked", "resolved")
AT_ONCE: Final = 8  # conversations that have a message to send when a process is killed
# No receipt tells of anything: the list alone does.
QUEUED: Final = Delays(sent=600, delivered=600, read=600)
LATE: Final = 2.0  # seconds until a message is listed, well below what lies between its claim and the second look
# The leases of production, twenty times shorter.
QUICK: Final[dict[str, Any]] = {
    "send_timeout": 1.0,
    "send_lease_margin": 0.5,
    "unknown_check_after": 1.0,
    "unknown_absent_for": 3.0,
    "unknown_give_up_after": 120.0,
}
FAULTS: Final[tuple[dict[str, object], ...]] = (
    {"action": "listed_late", "seconds": LATE, "probability": 0.5, "seed": 1},
    {"action": "accept_then_drop", "probability": 0.1, "seed": 2},
    {"action": "drop_before", "probability": 0.1, "seed": 3},
    {"action": "slow", "delay_ms": 300, "probability": 0.3, "seed": 4},
    {"action": "slow", "delay_ms": 300, "probability": 0.3, "seed": 5, "accepted_first": True},
)
OPEN: Final = "messages WHERE status IN ('queued', 'ready', 'sending', 'unknown')"


async def test_every_customer_is_written_to_once_wherever_send_is_killed(settings: Settings) -> None:
    await killed_everywhere(settings, conversations=AT_ONCE * len(POINTS))


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_a_thousand_customers_are_written_to_once_wherever_send_is_killed(settings: Settings) -> None:
    print(await killed_everywhere(settings, conversations=1000))


async def killed_everywhere(settings: Settings, conversations: int) -> str:
    async with staged(settings, {"reply": {"engine": "none"}}, delays=QUEUED, **QUICK) as stage:
        await stage.sandbox.faults(*({"provider": "twilio", **fault} for fault in FAULTS))
        customers = [f"+34600{number:06d}" for number in range(conversations)]
        kills: Counter[str] = Counter()
        async with stage.working("window", "clock"):
            for number, begin in enumerate(range(0, conversations, AT_ONCE)):
                point = POINTS[number % len(POINTS)]
                process = await stage.start(point, "send", module="tests.support.dying")
                try:
                    for customer in customers[begin : begin + AT_ONCE]:
                        await stage.owe(await stage.converse(customer=customer), f"answer to {customer}")
                    async with asyncio.timeout(30):
                        assert await process.wait() == -signal.SIGKILL
                finally:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
                kills[point] += 1
            async with stage.working("send"):
                await stage.until(stage.count, OPEN, equals=0, within=120)
        return await verdict(stage, customers, kills)


async def verdict(stage: Stage, customers: list[str], kills: Counter[str]) -> str:
    """Raises where a customer was written to twice or never, or where our own word differs from the provider's."""
    taken = Counter(seen.to for seen in await stage.sandbox.messages() if seen.outcome == "accepted")
    doubled = {to: count for to, count in taken.items() if count > 1}
    unanswered = [customer for customer in customers if stage.ours.party(customer) not in taken]
    statuses = Counter(
        (row["status"], row["error_code"]) for row in await stage.rows("SELECT status, error_code FROM messages")
    )
    figures = f"{len(customers)} conversations, kills {dict(kills)}, rows {dict(statuses)}"
    assert not doubled, f"written to twice: {doubled}; {figures}"
    assert not unanswered, f"never written to: {unanswered}; {figures}"
    assert statuses["sent", None] == len(customers), figures
    assert statuses["failed", "resent"] > 0, f"nothing was sent anew, so nothing was tried: {figures}"
    return f"{figures}, doubled 0, unanswered 0"
