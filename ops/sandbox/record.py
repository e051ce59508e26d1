"""Records every call of a provider's API, in order of arrival, in bounded memory."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Self

from ops.sandbox.sends import Sends

_OWN_MAIL = "<palomar."  # how the Message-ID of a mail of ours begins
_LENGTH_OF_ID = 36
Outcome = Literal["pending", "accepted", "refused", "dropped", "hung"]


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant by both clocks: `wall` in Unix seconds, `monotonic` (this machine's) to compare two instants."""

    wall: float
    monotonic: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.time(), time.monotonic())

    def view(self) -> dict[str, float]:
        return {"wall": self.wall, "monotonic": self.monotonic}


@dataclass(slots=True, kw_only=True)
class Call:
    """One request of a provider's API. `finished_at` stays None while it is being answered."""

    seq: int
    received_at: Moment
    finished_at: Moment | None = None
    outcome: Outcome = "pending"
    code: str | None = None  # the provider's code of a refusal
    answered: bool = False  # whether an answer left; an accepted message may have been dropped on

    def view(self) -> dict[str, object]:
        return {
            "seq": self.seq,
            "received_at": self.received_at.view(),
            "finished_at": self.finished_at.view() if self.finished_at else None,
            "outcome": self.outcome,
            "code": self.code,
            "answered": self.answered,
        }


@dataclass(frozen=True, slots=True)
class PostedReceipt:
    """One receipt the sandbox POSTed; `http_status` is None where no answer came."""

    status: str
    error_code: str | None
    posted_at: float  # Unix seconds
    http_status: int | None
    attempts: int

    def view(self) -> dict[str, object]:
        return {
            "status": self.status,
            "error_code": self.error_code,
            "posted_at": self.posted_at,
            "http_status": self.http_status,
            "attempts": self.attempts,
        }


@dataclass(slots=True, kw_only=True)
class SentMessage(Call):
    """A message that a client sent through a provider we play. Addresses and body are as they were given."""

    provider: str
    sid: str
    account: str
    to: str
    sender: str
    body: str
    media_urls: tuple[str, ...] = ()
    content_sid: str | None = None
    content_variables: str | None = None
    status_callback: str | None = None
    opaque: str | None = None  # what the sender wants back with each receipt
    marketing: bool = False  # by Meta's path for marketing messages
    charged: str = ""  # Meta's category of its price
    status: str = ""  # the provider's word for where the message is now
    error_code: str | None = None
    error_message: str | None = None
    accepted_at: float | None = None  # Unix seconds
    sent_at: float | None = None
    listed_at: float = 0.0  # Unix seconds; the provider's list does not hold it before
    statuses: list[PostedReceipt] = field(default_factory=list)
    sends_place: int = -1  # its place among all calls that send

    @property
    def own_id(self) -> str:
        """The id that we gave it: sent along, in the query of the callback, or in a mail's Message-ID."""
        in_callback = (self.status_callback or "").partition("?m=")[2][:_LENGTH_OF_ID]
        return self.opaque or in_callback or self.sid.removeprefix(_OWN_MAIL).partition("@")[0]

    def view(self) -> dict[str, object]:
        # By name: a slotted dataclass is a new class, which the argument-free super() would miss.
        return Call.view(self) | {
            "provider": self.provider,
            "sid": self.sid,
            "account": self.account,
            "to": self.to,
            "from": self.sender,
            "body": self.body,
            "media_urls": list(self.media_urls),
            "content_sid": self.content_sid,
            "content_variables": self.content_variables,
            "status_callback": self.status_callback,
            "opaque": self.opaque,
            "marketing": self.marketing,
            "status": self.status,
            "statuses": [receipt.view() for receipt in self.statuses],
        }


@dataclass(slots=True)
class _Waiter:
    since: int
    missing: int
    woken: asyncio.Future[None]


class MessageLog:
    """The last `keep` messages of all providers, found by id, by recipient or in order of arrival.

    `sends` has a line of each, also of those that are forgotten.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep  # may be changed: it takes effect with the next arrival
        self.sends = Sends()
        self._seq = itertools.count(1)
        self._by_sid: dict[str, SentMessage] = {}
        self._by_to: dict[str, deque[SentMessage]] = {}
        self._waiters: dict[str | None, list[_Waiter]] = {}

    def next_seq(self) -> int:
        """The next arrival's number. It goes on counting over `clear`, so a `since` stays good."""
        return next(self._seq)

    def add(self, message: SentMessage) -> None:
        """Record an arrival; the oldest ones make room."""
        message.sends_place = self.sends.add(message.received_at.monotonic, message.to, message.own_id, message.sender)
        self._by_sid[message.sid] = message
        self._by_to.setdefault(message.to, deque()).append(message)
        while len(self._by_sid) > self.keep:
            oldest = self._by_sid.pop(next(iter(self._by_sid)))
            of_recipient = self._by_to[oldest.to]
            of_recipient.popleft()  # messages leave in the order they came, so the oldest is its recipient's oldest
            if not of_recipient:
                del self._by_to[oldest.to]

    def accept(self, message: SentMessage) -> None:
        """Mark a message as taken and wake who waits for it."""
        message.outcome = "accepted"
        message.accepted_at = time.time()
        self.sends.accept(message.sends_place)
        if message.sid not in self._by_sid:
            return  # cleared meanwhile
        for key in (message.to, None):
            for waiter in self._waiters.get(key, ()):
                if message.seq > waiter.since:
                    waiter.missing -= 1
                    if waiter.missing <= 0 and not waiter.woken.done():
                        waiter.woken.set_result(None)

    def get(self, sid: str) -> SentMessage | None:
        return self._by_sid.get(sid)

    def select(
        self, *, to: str | None = None, sender: str | None = None, account: str | None = None, since: int = 0
    ) -> list[SentMessage]:
        """Messages in order of arrival, whatever became of them; `since` is the `seq` after which to begin."""
        found: Iterable[SentMessage] = self._by_sid.values() if to is None else self._by_to.get(to, ())
        return [
            message
            for message in found
            if message.seq > since
            and (sender is None or message.sender == sender)
            and (account is None or message.account == account)
        ]

    def accepted(self, *, to: str | None, since: int) -> list[SentMessage]:
        return [message for message in self.select(to=to, since=since) if message.outcome == "accepted"]

    async def wait(self, *, to: str | None, count: int, since: int, within: float) -> list[SentMessage]:
        """Accepted messages to `to` (None: anybody) after `since`, at `count` of them or after `within` seconds."""
        found = self.accepted(to=to, since=since)
        if len(found) >= count:
            return found
        waiter = _Waiter(since, count - len(found), asyncio.get_running_loop().create_future())
        waiters = self._waiters.setdefault(to, [])
        waiters.append(waiter)
        try:
            await asyncio.wait((waiter.woken,), timeout=within)
        finally:
            waiters.remove(waiter)
            if not waiters:
                self._waiters.pop(to, None)
        return self.accepted(to=to, since=since)

    def release(self) -> None:
        """End all calls of `wait`: the sandbox is stopping."""
        for waiter in itertools.chain.from_iterable(self._waiters.values()):
            if not waiter.woken.done():
                waiter.woken.set_result(None)

    def clear(self) -> None:
        self.sends.clear()
        self._by_sid.clear()
        self._by_to.clear()
