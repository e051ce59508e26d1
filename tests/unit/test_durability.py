"""Broker, else spool, else refused; and back again.

The broker here is a few lines that end as a test says: what a lost connection throws, and when, can't be had on
demand from a real one. With real ones: tests/ingress/test_ingress_spool.py.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from ingress.receive import durability
from ingress.receive.durability import DurableQueue, NotDurable
from ingress.receive.spool import Spool
from ingress.receive.spool_file import Row
from shared.queue.connection import BrokerAway, PublishRefused, PublishUnknown
from shared.queue.jobs import Job, WebhookReceived

HUNG = "hung"


class Broker:
    """Publishes by a script of outcomes, one for each call; when that is used up, by the last one given."""

    def __init__(self, *outcomes: BaseException | str | None) -> None:
        self.ready = True
        self.script = deque(outcomes)
        self.otherwise: BaseException | str | None = None
        self.asked: list[float] = []
        self.confirmed: list[str] = []

    async def publish(self, *messages: Job, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self.asked.append(time.monotonic())
        outcome = self.script.popleft() if self.script else self.otherwise
        if outcome == HUNG:
            await asyncio.Event().wait()
        if isinstance(outcome, BaseException):
            raise outcome
        self.confirmed += [message.raw_body.decode() for message in messages if isinstance(message, WebhookReceived)]


def webhook(body: str) -> WebhookReceived:
    return WebhookReceived.of(UUID(int=1), body.encode(), provider="twilio", received_at=datetime.now(UTC))


@asynccontextmanager
async def queueing(broker: Broker, folder: Path, limit: int = 10**8) -> AsyncIterator[tuple[DurableQueue, Spool]]:
    spool = Spool(folder, limit=limit)
    queue = DurableQueue(broker, spool, budget=0.2)
    await queue.start()
    try:
        yield queue, spool
    finally:
        await queue.close()
        await spool.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def confirmed(broker: Broker, count: int) -> None:
    await until(lambda: len(broker.confirmed) >= count)


@pytest.mark.parametrize(
    "outcome",
    [PublishUnknown("timed out"), BrokerAway("away"), PublishRefused("full"), asyncio.CancelledError()],
    ids=["timed out", "away", "refused", "stray cancellation"],
)
async def test_whatever_goes_wrong_with_the_broker_the_webhook_is_on_disk_and_arrives(
    tmp_path: Path, outcome: BaseException
) -> None:
    broker = Broker(outcome)
    async with queueing(broker, tmp_path) as (queue, spool):
        await queue.put(webhook("a"))
        await confirmed(broker, 1)
        assert broker.confirmed == ["a"]
        await until(lambda: spool.depth() == 0)


class ReceiptsRefused(Broker):
    """Confirms what goes to one queue and refuses what goes to another, as a queue of bounded length does."""

    full = True

    async def publish(self, *messages: Job, timeout: float | None = None) -> None:  # noqa: ASYNC109
        refused = self.full and any(one.queue == "persist.receipts" for one in messages)
        taken = [one for one in messages if not refused or one.queue != "persist.receipts"]
        await super().publish(*taken, timeout=timeout)
        if refused:
            raise PublishRefused("full")


async def test_a_queue_that_takes_nothing_has_nothing_of_anothers_published_again(tmp_path: Path) -> None:
    broker = ReceiptsRefused()
    broker.ready = False
    async with queueing(broker, tmp_path) as (queue, spool):
        for one in (webhook("a"), webhook("receipt").model_copy(update={"receipts": True}), webhook("b")):
            await queue.put(one)
        broker.ready = True
        await confirmed(broker, 2)
        asked = len(broker.asked)
        await until(lambda: len(broker.asked) > asked + 1)
        assert broker.confirmed == ["a", "b"]
        assert spool.depth() == 2, "the receipt, and what came behind it"
        broker.full = False
        await until(lambda: spool.depth() == 0)
        assert broker.confirmed == ["a", "b", "receipt"]


async def test_a_caller_that_is_really_cancelled_is_cancelled(tmp_path: Path) -> None:
    broker = Broker(HUNG)
    async with queueing(broker, tmp_path) as (queue, spool):
        caller = asyncio.create_task(queue.put(webhook("a")))
        await asyncio.sleep(0.05)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert spool.depth() == 0


async def test_after_three_timeouts_nobody_waits_and_one_webhook_a_second_asks(tmp_path: Path) -> None:
    broker = Broker()
    broker.otherwise = PublishUnknown("timed out")
    async with queueing(broker, tmp_path) as (queue, spool):
        started = time.monotonic()
        for number in range(20):
            await queue.put(webhook(str(number)))
        # The drainer may have asked first, and a slow disk makes these twenty last longer than a probe's second.
        assert 3 <= len(broker.asked) <= 4 + (time.monotonic() - started)
        await asyncio.sleep(2.5)
        assert 5 <= len(broker.asked) <= 4 + (time.monotonic() - started)
        broker.otherwise = None
        await confirmed(broker, 20)
        assert sorted(broker.confirmed, key=int) == [str(number) for number in range(20)]
        await until(lambda: spool.depth() == 0)
        asked = len(broker.asked)
        await queue.put(webhook("fresh"))
        assert len(broker.asked) == asked + 1  # trusted again
        assert broker.confirmed[-1] == "fresh"
        assert spool.depth() == 0


async def test_two_timeouts_and_a_confirm_start_the_count_anew(tmp_path: Path) -> None:
    unknown = PublishUnknown("timed out")
    broker = Broker()
    async with queueing(broker, tmp_path / "spool") as (queue, _):
        for _ in range(5):
            broker.script.extend([unknown, unknown])
            for number in range(2):
                with suppress(NotDurable):
                    await queue.put(webhook(f"late {number}"))
            asked = len(broker.asked)
            await queue.put(webhook("in time"))
            assert len(broker.asked) == asked + 1


async def test_when_the_disk_is_full_a_broker_that_was_given_up_is_asked_again(tmp_path: Path) -> None:
    broker = Broker()
    broker.otherwise = PublishUnknown("timed out")
    async with queueing(broker, tmp_path, limit=0) as (queue, _):
        for number in range(5):
            with pytest.raises(NotDurable):
                await queue.put(webhook(str(number)))
        assert queue.unready_reason is not None
        broker.otherwise = None
        await queue.put(webhook("fresh"))
        assert broker.confirmed == ["fresh"]
        assert queue.unready_reason is None
        assert queue.warning is not None  # ready, and yet something to look at


async def test_a_spooled_webhook_nobody_can_read_does_not_hold_up_the_others(tmp_path: Path) -> None:
    broker = Broker()
    broker.ready = False
    async with queueing(broker, tmp_path) as (queue, spool):
        await spool.put(Row(1.0, b"", b'{"from": "a future version"}'))
        await queue.put(webhook("a"))
        broker.ready = True
        await confirmed(broker, 1)
    (aside,) = os.listdir(tmp_path)
    assert aside.endswith(".unreadable")


async def test_draining_leaves_the_broker_time_for_fresh_webhooks(tmp_path: Path) -> None:
    broker = Broker()
    broker.ready = False
    async with queueing(broker, tmp_path) as (queue, _):
        await asyncio.gather(*(queue.put(webhook(str(number))) for number in range(1000)))
        broker.ready = True
        await confirmed(broker, 1000)
        pauses = [later - earlier for earlier, later in zip(broker.asked, broker.asked[1:], strict=False)]
        assert len(broker.asked) == 1000 / durability.DRAIN_ITEMS
        assert min(pauses) >= durability.DRAIN_PAUSE


async def test_all_endpoints_of_a_tenant_have_one_share_of_the_spool(tmp_path: Path) -> None:
    broker = Broker()
    broker.otherwise = BrokerAway("away")

    def of(endpoint: int, tenant: int) -> WebhookReceived:
        facts = {"tenant_id": UUID(int=tenant), "provider": "twilio", "received_at": datetime.now(UTC)}
        return WebhookReceived.of(UUID(int=endpoint), b"x" * 10_000, **facts)

    async with queueing(broker, tmp_path, limit=2_000_000) as (queue, spool):
        with suppress(NotDurable):
            for number in range(1000):
                await queue.put(of(number, tenant=1))
        assert spool.bytes() < 1_500_000
        await queue.put(of(1000, tenant=2))
