"""Makes a webhook durable before its 2xx: in the broker, else in the spool, which is drained into the broker later.

A webhook is published, and the broker has a budget of time to confirm it. Where it does not, the webhook is fsynced to
the spool instead. After three timeouts in a row no webhook waits for the broker any more: all go straight to the
spool, and once a second one of them is published as a probe, to see whether the broker confirms again. A webhook whose
publish timed out may be in both; persist stores it once.
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
from shared.process.tasks import cancel
from shared.queue.connection import PublishFailed, PublishUnknown
from shared.queue.envelope import dump
from shared.queue.jobs import Job, WebhookReceived

log = get_logger(__name__)

STORED = Counter("palomar_webhooks_kept", "Webhooks answered 2xx, by where they were made durable", ["where"])
DRAINED = Counter("palomar_spool_drained", "Spooled webhooks that the broker has confirmed since")
SPOOL_WEBHOOKS = Gauge("palomar_spool_webhooks", "Webhooks waiting in this process's spool files")
SPOOL_STUCK = Gauge(
    "palomar_spool_stuck_webhooks", "Spooled webhooks that the broker has confirmed and that can't be deleted yet"
)
SPOOL_UNREADY = Gauge("palomar_spool_trouble", "1 while the spool would refuse a webhook")
SPOOL_BYTES = Gauge("palomar_spool_bytes", "Bytes of spool on disk, of all processes that share the folder")
SPOOL_AGE = Gauge("palomar_spool_oldest_age_seconds", "Time since the oldest spooled webhook came in; 0 without any")

TIMEOUTS = 3  # in a row; then nothing waits for the broker
PROBE_EVERY = 1.0  # seconds
MAINTAIN_EVERY = 10.0  # seconds between two searches for dead processes' files
DRAIN_ITEMS = WebhookReceived.batch
DRAIN_BYTES = 256 * 1024
DRAIN_PAUSE = 0.01  # seconds between two batches, or as long as the last one took: fresh webhooks come first

_BY_BROKER, _BY_SPOOL = STORED.labels("broker"), STORED.labels("spool")


class Broker(Protocol):
    """The part of shared.queue.publisher.Publisher that is used here."""

    @property
    def ready(self) -> bool: ...

    async def publish(self, *messages: Job, timeout: float | None = None) -> None: ...  # noqa: ASYNC109


class NotDurable(Exception):
    """Neither the broker nor the spool accepted the webhook."""


class DurableQueue:
    """Makes webhooks durable. `start` it inside the loop, `close` it before the spool and the broker."""

    def __init__(self, broker: Broker, spool: Spool, *, budget: float) -> None:
        """`budget`: seconds a webhook waits for the broker's confirm."""
        self._broker = broker
        self._spool = spool
        self._budget = budget
        self._timeouts = 0
        self._next_probe = 0.0  # by the monotonic clock, while nothing waits for the broker
        # Keys of webhooks in the oldest batch that are confirmed, behind one that is not. Keys hold whatever becomes of
        # the file: a webhook of the same key has the same content, and persist stores it once.
        self._ahead: set[str] = set()
        self._wake = asyncio.Event()
        self._draining = asyncio.Lock()
        self._drainer: asyncio.Task[None] | None = None
        self._maintainer: asyncio.Task[None] | None = None
        SPOOL_WEBHOOKS.set_function(spool.depth)
        SPOOL_STUCK.set_function(lambda: spool.state.stuck)
        SPOOL_UNREADY.set_function(lambda: spool.state.unready_reason is not None)
        SPOOL_BYTES.set_function(spool.bytes)
        SPOOL_AGE.set_function(spool.oldest_age)

    async def start(self) -> None:
        await self._spool.maintain()
        self._drainer = asyncio.create_task(self._drain(), name="spool drainer")
        self._maintainer = asyncio.create_task(self._maintain(), name="spool maintainer")

    async def close(self) -> None:
        """Stop draining. What is in the spool waits there for the next process."""
        tasks = [task for task in (self._drainer, self._maintainer) if task is not None]
        async with self._draining:  # a confirmed batch is also removed, or the next process would publish it again
            for task in tasks:
                task.cancel()
        await cancel(tasks)

    @property
    def unready_reason(self) -> str | None:
        """Why a webhook would be refused now; None where it would be accepted."""
        if self._broker.ready and not self._bypassing_broker:
            return None
        return self._spool.state.unready_reason

    @property
    def warning(self) -> str | None:
        """What is wrong with the spool, though the broker may still accept every webhook."""
        state = self._spool.state
        if not state.stuck:
            return state.unready_reason
        stuck = f"{state.stuck} webhooks that the broker has can't be deleted from the spool"
        return f"{stuck}: {state.unready_reason}" if state.unready_reason else stuck

    async def put(self, webhook: WebhookReceived) -> None:
        """Return once the webhook is durable. Raises NotDurable, with the reason."""
        probing = self._may_probe()
        asked = self._broker.ready and (not self._bypassing_broker or probing)
        if asked and await self._published(webhook, budget=self._budget):
            _BY_BROKER.inc()
            return
        try:
            # A tenant can make any number of endpoints, so an endpoint of a tenant's has no share of its own.
            owner = webhook.tenant_id or webhook.endpoint_id
            await self._spool.put(Row(webhook.received_at.timestamp(), owner.bytes, dump(webhook)))
        except SpoolRefused as refused:
            # The broker may only be slow: one more try, before the webhook is refused.
            if not asked and self._broker.ready and await self._published(webhook, budget=self._budget):
                _BY_BROKER.inc()
                return
            raise NotDurable(str(refused)) from refused
        _BY_SPOOL.inc()
        self._wake.set()

    @property
    def _bypassing_broker(self) -> bool:
        return self._timeouts >= TIMEOUTS

    def _may_probe(self) -> bool:
        """Whether a fresh webhook is this second's probe. While the spool holds any, a spooled one is."""
        if not self._bypassing_broker or self._spool.depth() or time.monotonic() < self._next_probe:
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
        except PublishFailed:  # away or refused, which is known at once: the next webhook may try again
            return False
        except asyncio.CancelledError:
            # A lost connection raises stray cancellations. Let through, one would look like the client's disconnect,
            # and the webhook would be dropped without an answer.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False
        if self._bypassing_broker:
            log.info("broker confirms again")
        self._timeouts = 0
        return True

    async def _maintain(self) -> None:
        while True:
            await asyncio.sleep(MAINTAIN_EVERY)
            await self._spool.maintain()
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
            except Exception:  # draining must go on, whatever went wrong
                log.exception("draining the spool failed")
                drained = False
            took = time.monotonic() - started
            await asyncio.sleep(max(DRAIN_PAUSE, took) if drained else PROBE_EVERY)

    async def _drain_batch(self) -> bool:
        """Publish the oldest spooled webhooks (a probe: one) and remove those that are confirmed.

        Returns whether the whole batch is removed.
        """
        batch = await self._spool.oldest(1 if self._bypassing_broker else DRAIN_ITEMS, DRAIN_BYTES)
        if batch is None:
            return False
        readable, quarantined = await self._readable(batch)
        if not readable and not quarantined:  # there is no disk space to quarantine the first row, which is unreadable
            return False
        # A probe waits as long as a fresh webhook; other batches have the publisher's own timeout.
        budget = self._budget if self._bypassing_broker else None
        confirmed = {webhook.key for _, webhook in readable if webhook.key in self._ahead}
        for group in _by_queue([webhook for _, webhook in readable if webhook.key not in confirmed]):
            if await self._published(*group, budget=budget):
                confirmed |= {webhook.key for webhook in group}
                DRAINED.inc(len(group))
        # The spool removes only its oldest rows. A webhook confirmed behind an unconfirmed one is remembered, and not
        # published again.
        done = {*quarantined, *(row for row, webhook in readable if webhook.key in confirmed)}
        ids = sorted([*quarantined, *(row for row, _ in readable)])
        oldest = list(takewhile(done.__contains__, ids))
        self._ahead = confirmed if len(oldest) < len(ids) else set()
        if oldest:
            await self._spool.remove(batch.file, oldest)
        if not self._spool.depth():
            log.info("spool is empty")
        return len(oldest) == len(ids)

    async def _readable(self, batch: Batch) -> tuple[list[tuple[int, WebhookReceived]], list[int]]:
        """The batch's rows with their webhooks, and the ids of unreadable rows, which are quarantined.

        The batch ends before a row that can't be quarantined.
        """
        readable: list[tuple[int, WebhookReceived]] = []
        quarantined: list[int] = []
        for row in batch.webhooks:
            try:
                readable.append((row.id, WebhookReceived.model_validate_json(row.message)))
            except ValidationError:
                if not await self._spool.quarantine(batch.file, row):
                    break
                quarantined.append(row.id)
        return readable, quarantined


def _by_queue(webhooks: Sequence[WebhookReceived]) -> list[list[WebhookReceived]]:
    """The webhooks of each queue, in their order."""
    queues: dict[str, list[WebhookReceived]] = {}
    for webhook in webhooks:
        queues.setdefault(webhook.queue, []).append(webhook)
    return list(queues.values())
