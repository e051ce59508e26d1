"""What every provider module speaks: what came in, what goes out, and the closed set of answers to a send.

A provider is one module with both directions: `verify` and `parse` for what arrives, a `Sender` for what leaves.
None of them touches the database or the broker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol, runtime_checkable
from uuid import UUID

from shared.domain.model import (
    AgentMessage,
    Consent,
    InboundMessage,
    Outgoing,
    Receipt,
)

SOLE_CHANNEL: Final = "*"
"""In place of our address, where a provider does not name it: the one channel that the endpoint serves, or none."""


@dataclass(frozen=True, slots=True)
class RawWebhook:
    """One HTTP request of a provider, as it arrived. `body` is exactly the bytes that were signed."""

    method: str
    url: str  # public URL with its query, built from settings, never from the request's Host
    content_type: str
    headers: Mapping[str, str]  # lower-case names
    body: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """Anything else a webhook told us; kept, announced, otherwise left alone but for a consent."""

    name: str
    data: Mapping[str, object] = field(default_factory=dict)
    channel_address: str = ""  # ours, where it is about one channel
    consent: Consent | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """All of a webhook. A part that could not be read is named in `errors`; its neighbours stand."""

    messages: tuple[InboundMessage, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    notices: tuple[Notice, ...] = ()
    errors: tuple[str, ...] = ()
    agent_messages: tuple[AgentMessage, ...] = ()


# -- what leaves -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the message and named it."""

    external_id: str


Scope = Literal["channel", "message"]
"""Whom a refusal concerns: all that the channel sends, or only messages like this one (its template, its recipient)."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """Not accepted; try again after `retry_after` seconds (None: our own backoff)."""

    code: str
    retry_after: float | None = None
    detail: str = ""
    scope: Scope = "channel"


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Provably not accepted: the connection was refused, or the provider said it is not there."""

    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WindowClosed:
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class OptedOut:
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RecipientInvalid:
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ContentRejected:
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ChannelBroken:
    """Somebody has to mend something: the channel itself, or (scope `message`) a template or a permission of it."""

    code: str
    detail: str = ""
    scope: Scope = "channel"


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Nobody can say whether it was accepted: read timeout, 5xx, a connection lost after the request left."""

    code: str
    detail: str = ""


Refusal = (
    Throttled | Unreachable | WindowClosed | OptedOut | RecipientInvalid | ContentRejected | ChannelBroken | Ambiguous
)
SendResult = Accepted | Refusal


@dataclass(frozen=True, slots=True)
class SentRecord:
    """One entry of a provider's own list of what it accepted; used to resolve a send of unknown outcome."""

    external_id: str
    text: str
    status: str
    created_at: datetime
    message_id: UUID | None = None  # ours, where the list names it


@dataclass(frozen=True, slots=True)
class SentList:
    """What a provider lists of what it accepted for one recipient. `complete`: nothing since the time asked for is
    missing, so what is not in it was not accepted."""

    entries: tuple[SentRecord, ...]
    complete: bool


class Sender(Protocol):
    """Sends through one channel's credentials. Made inside a running loop, closed by its owner."""

    async def send(self, message: Outgoing) -> SendResult:
        """Make one call. Never raises for what a provider or the network can do: that is an Ambiguous or a kin."""
        ...

    async def find(self, message: Outgoing, since: datetime) -> SentList | None:
        """What the provider lists for this recipient since then; None where it can't be asked or does not answer."""
        ...

    async def check(self, address: str) -> str | None:
        """None where the credentials work for the channel of this address, else a sentence with the remedy."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Reader(Protocol):
    """What a Sender also is whose provider shows a customer that their message was read."""

    async def show_read(self, address: str, external_id: str, *, typing: bool) -> Refusal | None:
        """Tell the provider that this message to the channel of this address was read, and perhaps that we type.

        None where it took it. Never raises for what a provider or the network can do.
        """
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a message that an agent wrote in the provider's own interface. `problem` is a sentence that they
    are shown there; empty where the message was delivered."""

    external_id: str
    problem: str = ""


@runtime_checkable
class Reporter(Protocol):
    """What a Sender also is whose provider waits to hear what became of agents' messages."""

    async def report(self, address: str, report: Report) -> Refusal | None:
        """Tell the provider of one message in the channel of this address. The same may be told again.

        None where it took it. Never raises for what a provider or the network can do.
        """
        ...
