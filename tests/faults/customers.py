"""Customers who write, and a provider that tells us of it three times, shuffled, and again where we don't answer 2xx.

A provider that gathers tells of several messages, and of receipts, in one webhook.

Everything that was answered 2xx is written down: afterwards it has to be there.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from shared.queue.jobs import inbound_id_of
from tests.faults.providers import Said, WithReceipt
from tests.faults.staging import System

TEXTS: Final = 400  # different messages, each with its answer; then they begin anew
SPREAD: Final = (0.05, 1.0, 4.0)  # seconds by which the three copies of a webhook are late, at most
ONLY_ONCE: Final = 0.25  # share of webhooks that come once: what is lost of these no copy makes good
PATIENCE: Final = 90.0  # seconds
TOTAL: Final = aiohttp.ClientTimeout(total=15)  # Twilio's
REPEATED_RECEIPTS: Final = 5  # receipts that a gathering provider repeats in a webhook, at most


def channel_settings(**more: object) -> dict[str, object]:
    """A channel that answers each of the texts in its own words, so that an answer tells what it answers."""
    rules = [{"patterns": [text(number)], "answer": answer_to(number)} for number in range(TEXTS)]
    return {"reply": {"engine": "rules", "rules": rules, "loop_limit": 1_000_000}, **more}  # they are machines


def text(number: int) -> str:
    return f"message {number % TEXTS}"


def answer_to(number: int) -> str:
    return f"Answer to message {number % TEXTS}."


def customer(number: int) -> str:
    """A customer's phone number."""
    return f"+34600{number:06d}"


@dataclass
class Webhook:
    """One webhook, as often as it is POSTed, and how it was answered."""

    inbound_id: str
    body: bytes
    headers: Mapping[str, str]
    answers: Counter[str] = field(default_factory=Counter)  # HTTP status, or the error's name
    copies: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def taken(self) -> bool:
        return self.answers["200"] + self.answers["204"] > 0


@dataclass
class Written:
    """One message of a customer, and the webhook that tells of it, once it set out."""

    sid: str
    customer: str
    number: int  # the customer's how-manieth message
    alone: bool  # written when nothing of this customer was unanswered
    webhook: Webhook | None = None

    @property
    def taken(self) -> bool:
        return self.webhook is not None and self.webhook.taken

    @property
    def answers(self) -> Counter[str]:
        """To its webhook."""
        return Counter() if self.webhook is None else self.webhook.answers


class Customers:
    """All of them. `steady` ones write when their last message was answered, `chatty` ones several in a row."""

    def __init__(self, system: System, session: aiohttp.ClientSession, dice: random.Random, patience: float) -> None:
        """`patience`: seconds after which a webhook without a 2xx, or an answer that is not recorded, is a failure."""
        self.written: list[Written] = []
        self.slowest = 0.0  # seconds until the slowest 2xx
        self.answered: set[str] = set()  # sids of messages whose answer is recorded
        self.webhooks: list[Webhook] = []
        self._gathering: list[Written] = []
        self._with_receipts: list[WithReceipt] = []  # whose receipts the provider may send again
        self._system = system
        self._session = session
        self._dice = dice
        self._patience = patience
        self._enough = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._watcher: asyncio.Task[None] | None = None

    # -- what they do ----------------------------------------------------------------------------------------------

    async def steady(self, address: str, pause: tuple[float, float]) -> None:
        for number in range(10**6):
            written = self.write(address, number, alone=True)
            await self._deliver(written)
            await self._until_answered(written)
            if await self._enough_after(self._dice.uniform(*pause)):
                return

    async def chatty(self, address: str, pause: tuple[float, float]) -> None:
        number = 0
        while True:
            for _ in range(self._dice.randint(2, 5)):
                self._go(self._deliver(self.write(address, number, alone=False)))
                number += 1
                if await self._enough_after(self._dice.uniform(0.0, 0.4)):
                    return
            if await self._enough_after(self._dice.uniform(*pause)):
                return

    def write(self, address: str, number: int, *, alone: bool) -> Written:
        """A message, written down; no webhook tells of it yet."""
        written = Written(self._system.provider.new_id(), address, number, alone)
        self.written.append(written)
        return written

    def seal(self, *written: Written) -> Webhook:
        """The webhook that tells of these, signed."""
        ours = self._system.stage.ours
        said = [Said(one.sid, one.customer, text(one.number)) for one in written]
        repeated = self._dice.sample(self._with_receipts, min(REPEATED_RECEIPTS, len(self._with_receipts)))
        body, headers = self._system.provider.webhook(ours, self._url, said, repeated)
        webhook = Webhook(inbound_id_of(ours.endpoint_id, body), body, headers)
        self.webhooks.append(webhook)
        for one in written:
            one.webhook = webhook
        return webhook

    @property
    def _url(self) -> str:
        path = self._system.provider.path(self._system.stage.ours)
        return f"{self._system.settings.public_url}{path}"

    async def _deliver(self, written: Written) -> None:
        """All copies of a webhook set out; returns when the first was taken. Copies come in no order among messages.

        The task that has waited long enough takes along all that gathered.
        """
        self._gathering.append(written)
        if gathers := self._system.provider.gathers:
            await asyncio.sleep(gathers)
        if written.webhook is None:
            gathered, self._gathering = self._gathering, []
            self._dice.shuffle(gathered)
            webhook = self.seal(*gathered)
            spread = SPREAD[:1] if self._dice.random() < ONLY_ONCE else SPREAD
            webhook.copies += [self._go(self._insist(webhook, self._dice.uniform(0, late))) for late in spread]
        assert written.webhook is not None
        await asyncio.wait(written.webhook.copies, return_when=asyncio.FIRST_COMPLETED)

    async def _insist(self, webhook: Webhook, late: float) -> None:
        """POST until it is answered 2xx. Twilio gives up after 15 s; ours shall not be forgiven for that."""
        await asyncio.sleep(late)
        deadline = time.monotonic() + self._patience
        while not await self.post(webhook):
            assert time.monotonic() < deadline, f"no process took a webhook for {self._patience:g} s: {webhook.answers}"
            await asyncio.sleep(0.3)

    async def post(self, webhook: Webhook) -> bool:
        """One POST; whether it was answered 2xx."""
        started = time.monotonic()
        try:
            async with self._session.post(
                self._url, data=webhook.body, headers=webhook.headers, timeout=TOTAL
            ) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            webhook.answers[type(error).__name__] += 1
            return False
        webhook.answers[str(answer.status)] += 1
        if 200 <= answer.status < 300:
            self.slowest = max(self.slowest, time.monotonic() - started)
            return True
        return False

    @property
    def refused(self) -> int:
        """Posts that were answered 503, so far."""
        return sum(webhook.answers["503"] for webhook in self.webhooks)

    async def _until_answered(self, written: Written) -> None:
        deadline = time.monotonic() + self._patience
        while written.sid not in self.answered:
            assert time.monotonic() < deadline, f"no answer to {written.sid} within {self._patience:g} s"
            await asyncio.sleep(0.1)

    async def _enough_after(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), seconds)
        return self._enough.is_set()

    # -- their life ------------------------------------------------------------------------------------------------

    def _go(self, what: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(what)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def begin(self, steady: int, chatty: int, *, pause: tuple[float, float] = (0.5, 2.0)) -> None:
        """So many customers begin to write, pausing so many seconds between two messages (chatty ones: two rows).

        After `end` they may begin anew.
        """
        self._enough.clear()
        self._watcher = asyncio.create_task(self._watch())
        for number in range(steady):
            self._go(self.steady(customer(number), pause))
        for number in range(steady, steady + chatty):
            self._go(self.chatty(customer(number), pause))

    async def _watch(self) -> None:
        """Learn which messages were answered."""
        while True:
            rows = await self._system.rows(
                """SELECT i.external_id FROM messages i WHERE i.direction = 'inbound' AND EXISTS (
                    SELECT FROM messages o WHERE o.dedupe_key = 'reply:' || i.id AND o.tenant_id = i.tenant_id)""",
                patience=self._patience,
            )
            self.answered |= {row["external_id"] for row in rows}
            if self._system.provider.gathers:
                delivered = await self._system.rows(
                    """SELECT m.external_id, m.id, c.recipient FROM messages m JOIN conversations c
                    ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
                    WHERE m.direction = 'outbound' AND m.status IN ('delivered', 'read')
                    ORDER BY m.created_at DESC LIMIT 50""",
                    patience=self._patience,
                )
                self._with_receipts = [
                    WithReceipt(row["external_id"], row["recipient"], row["id"]) for row in delivered
                ]
            await asyncio.sleep(0.2)

    def _check(self) -> None:
        """Raises what a customer met."""
        if self._failures:
            raise self._failures[0]
        if self._watcher is not None and self._watcher.done():
            self._watcher.result()

    async def answered_more(self, count: int, within: float = 60.0) -> None:
        """Return once so many more messages were answered than now: conversations flow."""
        wanted = len(self.answered) + count
        deadline = time.monotonic() + within
        while len(self.answered) < wanted:
            self._check()
            assert time.monotonic() < deadline, f"in {within:g} s not {count} messages were answered"
            await asyncio.sleep(0.1)

    async def end(self) -> None:
        """No customer writes any more; returns once all is taken, copies too, and the steady ones are answered."""
        self._enough.set()
        while self._under_way:
            await asyncio.wait(self._under_way, timeout=1.0)
            self._check()
        await self.cancel()

    async def cancel(self) -> None:
        tasks = [*self._under_way, *([self._watcher] if self._watcher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def writing(system: System, dice: random.Random, patience: float = PATIENCE) -> AsyncIterator[Customers]:
    """Customers of a system; they are silenced at the end."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
        customers = Customers(system, session, dice, patience)
        try:
            yield customers
        finally:
            await customers.cancel()
