"""Broker, else spool, else 503: what makes a 2xx durable, and what brings the spool back to the broker.

A webhook is published confirmed within a budget; where the broker does not confirm in time it is fsynced to the spool
instead. After three timeouts in a row nothing waits for the broker any more: webhooks go straight to the spool, and
one of them is published each second to see whether the broker confirms again. A webhook whose publish timed out may
be in both; persist keeps it once.
"""

import asyncio
import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Protocol

from prometheus_client import Counter, Gauge
from pydantic import ValidationError

from ingress.receive.spool import Spool
from ingress.receive.spool_file import Row
from ingress.receive.spool_files import Batch, SpoolRefused
from shared.process.log import get_logger
from shared.queue.connection import PublishFailed, PublishUnknown
from shared.queue.envelope import dump
from shared.queue.jobs import Job, WebhookReceived

log = get_logger(__name__)

KEPT = Counter("palomar_webhooks_kept", "Webhooks answered 2xx, by where they were made durable", ["where"])
DRAINED = Counter("palomar_spool_drained", "Spooled webhooks that the broker has confirmed since")
SPOOL_WEBHOOKS = Gauge("palomar_spool_webhooks", "Webhooks waiting in this process's spool files")
SPOOL_STUCK = Gauge(
    "palomar_spool_stuck_webhooks", "Spooled webhooks that the broker has confirmed and that can't be deleted yet"
)
SPOOL_TROUBLE = Gauge("palomar_spool_trouble", "1 while the spool would refuse a webhook")
SPOOL_BYTES = Gauge("palomar_spool_bytes", "Bytes of spool on disk, of all processes that share the folder")
SPOOL_AGE = Gauge("palomar_spool_oldest_age_seconds", "Time since the oldest spooled webhook came in; 0 without any")

TIMEOUTS = 3  # in a row; then nothing waits for the broker
PROBE_EVERY = 1.0  # seconds
TEND_EVERY = 10.0  # seconds between looks for dead processes' files
DRAIN_ITEMS = WebhookReceived.batch
DRAIN_BYTES = 256 * 1024
DRAIN_PAUSE = 0.01  # seconds between two batches; at least as long as the last one took: fresh webhooks come first

_BY_BROKER, _BY_SPOOL = KEPT.labels("broker"), KEPT.labels("spool")


class Broker(Protocol):
    """What is needed of shared.queue.publisher.Publisher."""

    @property
    def ready(self) -> bool: ...

    async def publish(self, *messages: Job, timeout: float | None = None) -> None: ...  # noqa: ASYNC109


class NotKept(Exception):
    """Neither broker nor spool took the webhook."""


class Keeper:
    """Makes webhooks durable. `start` it inside the loop, `close` it before the spool and the broker."""

    def __init__(self, broker: Broker, spool: Spool, *, budget: float) -> None:
        """`budget`: seconds a webhook waits for the broker's confirm."""
        self._broker = broker
        self._spool = spool
        self._budget = budget
        self._timeouts = 0
        self._next_probe = 0.0  # by the monotonic clock, while nothing waits for the broker
        # Keys of the head's webhooks that are confirmed behind one that is not. By key: whatever becomes of the file, a
        # webhook of the same key has the same content, and persist keeps it once.
        self._ahead: set[str] = set()
        self._wake = asyncio.Event()
        self._draining = asyncio.Lock()
        self._drainer: asyncio.Task[None] | None = None
        self._tender: asyncio.Task[None] | None = None
        SPOOL_WEBHOOKS.set_function(spool.depth)
        SPOOL_STUCK.set_function(lambda: spool.state.stuck)
        SPOOL_TROUBLE.set_function(lambda: spool.state.trouble is not None)
        SPOOL_BYTES.set_function(spool.bytes)
        SPOOL_AGE.set_function(spool.oldest_age)

    async def start(self) -> None:
        await self._spool.tend()
        self._drainer = asyncio.create_task(self._drain(), name="spool drainer")
        self._tender = asyncio.create_task(self._tend(), name="spool tender")

    async def close(self) -> None:
        """Stop draining. What is in the spool waits there for the next process."""
        tasks = [task for task in (self._drainer, self._tender) if task is not None]
        async with self._draining:  # a batch that is confirmed is also forgotten, or it would be published again
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def trouble(self) -> str | None:
        """Why a webhook would be refused now; None when it would not."""
        if self._broker.ready and not self._given_up:
            return None
        return self._spool.state.trouble

    @property
    def warning(self) -> str | None:
        """What is wrong with the spool, though the broker may still take every webhook."""
        state = self._spool.state
        if not state.stuck:
            return state.trouble
        stuck = f"{state.stuck} webhooks that the broker has can't be deleted from the spool"
        return f"{stuck}: {state.trouble}" if state.trouble else stuck

    async def keep(self, webhook: WebhookReceived) -> None:
        """Return once the webhook is durable. Raises NotKept, with the reason."""
        probing = self._may_probe()
        asked = self._broker.ready and (not self._given_up or probing)
        if asked and await self._published(webhook, budget=self._budget):
            _BY_BROKER.inc()
            return
        try:
            # A tenant may have as many endpoints as it makes numbers, so not each of them has a share.
            owner = webhook.tenant_id or webhook.endpoint_id
            await self._spool.put(Row(webhook.received_at.timestamp(), owner.bytes, dump(webhook)))
        except SpoolRefused as refused:
            # Better late than never: the broker may be only slow.
            if not asked and self._broker.ready and await self._published(webhook, budget=self._budget):
                _BY_BROKER.inc()
                return
            raise NotKept(str(refused)) from refused
        _BY_SPOOL.inc()
        self._wake.set()

    @property
    def _given_up(self) -> bool:
        return self._timeouts >= TIMEOUTS

    def _may_probe(self) -> bool:
        """Whether a fresh webhook is this second's probe: only while there is no spooled one to take for it."""
        if not self._given_up or self._spool.depth() or time.monotonic() < self._next_probe:
            return False
        self._next_probe = time.monotonic() + PROBE_EVERY
        return True

    async def _published(self, *webhooks: WebhookReceived, budget: float | None) -> bool:
        """Whether the broker confirmed all of them within so many seconds."""
        try:
            await self._broker.publish(*webhooks, timeout=budget)
        except PublishUnknown as error:
            self._timeouts += 1
            if self._timeouts == TIMEOUTS:
                self._next_probe = time.monotonic() + PROBE_EVERY
                log.warning("broker does not confirm, webhooks go to the spool", error=str(error))
            return False
        except PublishFailed:  # away, or it refused: known at once, so the next webhook may ask again
            return False
        except asyncio.CancelledError:
            # A lost connection raises stray ones. Escaping here it would look like the client's disconnect, and the
            # webhook would be dropped unanswered.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False
        if self._given_up:
            log.info("broker confirms again")
        self._timeouts = 0
        return True

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_EVERY)
            await self._spool.tend()
            self._wake.set()

    async def _drain(self) -> None:
        while True:
            while not self._spool.depth():
                self._wake.clear()
                await self._wake.wait()
            started = time.monotonic()
            try:
                async with self._draining:
                    drained = self._broker.ready and await self._drain_batch()
            except Exception:  # the spool must go on being drained, whatever it is
                log.exception("draining the spool failed")
                drained = False
            took = time.monotonic() - started
            await asyncio.sleep(max(DRAIN_PAUSE, took) if drained else PROBE_EVERY)

    async def _drain_batch(self) -> bool:
        """Publish the oldest spooled webhooks, forget them once confirmed; one only, as long as it is a probe."""
        batch = await self._spool.oldest(1 if self._given_up else DRAIN_ITEMS, DRAIN_BYTES)
        if batch is None:
            return False
        readable, set_aside = await self._readable(batch)
        if not readable and not set_aside:  # the first one can be neither read nor set aside: it waits for room
            return False
        # A probe has no more patience than a fresh webhook; the rest may take the publisher's own time.
        budget = self._budget if self._given_up else None
        confirmed = {webhook.key for _, webhook in readable if webhook.key in self._ahead}
        for lane in _by_queue([webhook for _, webhook in readable if webhook.key not in confirmed]):
            if await self._published(*lane, budget=budget):
                confirmed |= {webhook.key for webhook in lane}
                DRAINED.inc(len(lane))
        # The spool forgets its oldest ones alone. What is confirmed behind one that is not, is not published again.
        done = {*set_aside, *(row for row, webhook in readable if webhook.key in confirmed)}
        ids = sorted([*set_aside, *(row for row, _ in readable)])
        oldest = list(takewhile(done.__contains__, ids))
        self._ahead = confirmed if len(oldest) < len(ids) else set()
        if oldest:
            await self._spool.remove(batch.file, oldest)
        if not self._spool.depth():
            log.info("spool is empty")
        return len(oldest) == len(ids)

    async def _readable(self, batch: Batch) -> tuple[list[tuple[int, WebhookReceived]], list[int]]:
        """The batch's rows with their webhooks, and those that were set aside, as they can't be read.

        Where one can't even be set aside, the batch ends before it.
        """
        readable: list[tuple[int, WebhookReceived]] = []
        set_aside: list[int] = []
        for kept in batch.webhooks:
            try:
                readable.append((kept.id, WebhookReceived.model_validate_json(kept.message)))
            except ValidationError:
                if not await self._spool.set_aside(batch.file, kept):
                    break
                set_aside.append(kept.id)
        return readable, set_aside


def _by_queue(webhooks: Sequence[WebhookReceived]) -> list[list[WebhookReceived]]:
    """Those of each queue, in their order."""
    queues: dict[str, list[WebhookReceived]] = {}
    for webhook in webhooks:
        queues.setdefault(webhook.queue, []).append(webhook)
    return list(queues.values())
