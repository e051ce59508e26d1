"""The types that providers share: a webhook raw and parsed, a Sender, and the closed set of results of a send."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol, runtime_checkable
from uuid import UUID

from shared.domain.model import AgentMessage, Consent, InboundMessage, Outgoing, Receipt
from shared.domain.template_status import Status

SOLE_CHANNEL: Final = "*"
"""Stands for our address where a provider does not name it: the only channel that the endpoint serves, if it is one."""


@dataclass(frozen=True, slots=True)
class RawWebhook:
    """One HTTP request of a provider, as it arrived. `body` is exactly the bytes that were signed."""

    method: str
    url: str  # public URL with its query, built from settings, never from the request's Host
    content_type: str
    headers: Mapping[str, str]  # lower-case names
    body: bytes


@dataclass(frozen=True, slots=True)
class TemplateChange:
    """What a provider says of a message template of a business account. None: it says nothing of that."""

    account: str
    external_id: str
    name: str
    language: str
    status: Status | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True)
class MessagingLimit:
    """How many people the numbers of a business account's portfolio may write to outside the window in any 24 hours."""

    account: str
    people: int | None  # None: no limit


@dataclass(frozen=True, slots=True)
class Notice:
    """Any other event in a webhook. It is stored and announced, and nothing else follows but its consent, its change of
    a template, or its messaging limit, if any."""

    name: str
    data: Mapping[str, object] = field(default_factory=dict)
    channel_address: str = ""  # ours, where it is about one channel
    consent: Consent | None = None
    template: TemplateChange | None = None
    limit: MessagingLimit | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """All of a webhook. Each part that could not be read is a sentence in `errors`, and costs no other part."""

    messages: tuple[InboundMessage, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    notices: tuple[Notice, ...] = ()
    errors: tuple[str, ...] = ()
    agent_messages: tuple[AgentMessage, ...] = ()


# -- sends -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider accepted the message and gave it an id. `held`: it checks the template's quality first, and then
    sends the message or drops it. A receipt says which."""

    external_id: str
    held: bool = False


Scope = Literal["channel", "message"]
"""What a refusal concerns: all messages of the channel, or only those with this template or this recipient."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """Not accepted; try again after `retry_after` seconds (None: our own backoff)."""

    code: str
    retry_after: float | None = None
    detail: str = ""
    scope: Scope = "channel"


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Provably not accepted: no connection was made, or the provider said that it is not available."""

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
    """An operator has to repair the channel itself or, with the scope `message`, a template or a permission of it."""

    code: str
    detail: str = ""
    scope: Scope = "channel"


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Unknown outcome: a read timeout, a 5xx, or a connection lost after the request left."""

    code: str
    detail: str = ""


Refusal = (
    Throttled | Unreachable | WindowClosed | OptedOut | RecipientInvalid | ContentRejected | ChannelBroken | Ambiguous
)
SendResult = Accepted | Refusal


@dataclass(frozen=True, slots=True)
class SentRecord:
    """One entry of a provider's list of accepted messages. It resolves a send of unknown outcome."""

    external_id: str
    text: str
    status: str
    created_at: datetime
    message_id: UUID | None = None  # ours, where the list names it


@dataclass(frozen=True, slots=True)
class SentList:
    """The messages that a provider says it accepted for one recipient since a time.

    Where the list is `complete`, a message that is not in it was not accepted.
    """

    entries: tuple[SentRecord, ...]
    complete: bool


class Sender(Protocol):
    """Sends through one channel's credentials. Made inside a running loop, closed by its owner."""

    async def send(self, message: Outgoing) -> SendResult:
        """Make one call. Never raises for an error of the provider or the network: that is a Refusal."""
        ...

    async def find(self, message: Outgoing, since: datetime) -> SentList | None:
        """The provider's list for this recipient since then; None where it has no list or does not answer."""
        ...

    async def check(self, address: str) -> str | None:
        """None where the credentials work for the channel of this address, else a sentence with the remedy."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Reader(Protocol):
    """A Sender whose provider shows a customer that their message was read."""

    async def show_read(self, address: str, external_id: str, *, typing: bool) -> Refusal | None:
        """Mark this message to the channel of this address as read and, with `typing`, show that an answer comes.

        Returns None on success. Never raises for an error of the provider or the network.
        """
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """The delivery status of a message that an agent wrote in the provider's own interface.

    `problem` is a sentence that the agent is shown there; empty where the message was delivered.
    """

    external_id: str
    problem: str = ""


@runtime_checkable
class Reporter(Protocol):
    """A Sender whose provider takes delivery status reports of agents' messages."""

    async def report(self, address: str, report: Report) -> Refusal | None:
        """Report one message in the channel of this address. Reporting it again changes nothing.

        Returns None on success. Never raises for an error of the provider or the network.
        """
        ...
