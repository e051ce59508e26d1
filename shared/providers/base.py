"""What every provider module speaks: what came in, what goes out, and the closed set of answers to a send.

A provider is one module with both directions: `verify` and `parse` for what arrives, a `Sender` for what leaves.
None of them touches the database or the broker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol, runtime_checkable
from uuid import UUID

ChannelKind = Literal["whatsapp", "sms", "email"]
AddressKind = Literal["phone", "user_id", "email", "kommo_chat"]
ConsentState = Literal["opted_in", "opted_out"]
ConsentScope = Literal["all", "blocked", "marketing"]
"""What an entry of the ledger is about; shared/domain/consents.py says what each one stops."""
Authorship = Literal["proven", "unknown", "refuted"]
"""Whether the network vouches for who wrote: by a signature, by nothing, or it was somebody else as far as it knows."""
Wording = Literal["own", "unclear", "data"]
"""Whose words a customer's text is. `own`: they wrote it, or tapped what shows it. `unclear`: it stands where their
words may be or a machine's, as the payload of a button, the id of a row, a part that nobody documents. `data`: we made
it readable of a form, a place, an order, a card."""
MessageType = Literal[
    "text", "image", "audio", "video", "file", "sticker", "location", "contacts", "button", "reaction", "template",
    "system", "unsupported",
]  # fmt: skip

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
class Address:
    """Somebody's address: `given` as the provider wrote it, `canonical` as we compare it."""

    kind: AddressKind
    given: str
    canonical: str


@dataclass(frozen=True, slots=True)
class Media:
    url: str | None = None
    id: str | None = None
    mime_type: str | None = None
    filename: str | None = None
    sha256: str | None = None  # as the provider writes it


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A customer's message. `timestamp` is the provider's, None where it gives none (Twilio)."""

    external_id: str
    channel_kind: ChannelKind
    sender: tuple[Address, ...]  # the first one names the conversation: a phone number where there is one
    channel_address: str  # ours, canonical: E.164, or the provider's id of it (messaging service, phone number id)
    message_type: str  # a MessageType, or the provider's own word for a type we have no name for (`order`, `poll`)
    text: str = ""
    media: tuple[Media, ...] = ()
    timestamp: datetime | None = None
    contact_name: str | None = None
    reply_to: str | None = None  # external id of the message it answers
    given_from: str = ""  # as the provider wrote them
    given_to: str = ""
    consent: ConsentState | None = None  # what the provider took it for, by words it knows
    answered: bool = False  # by the provider itself, as Twilio answers STOP, START and HELP
    place: int = 0  # among its webhook's messages, customers' and managers' together
    authorship: Authorship = "proven"
    author: Address | None = None  # who wrote, where they ask that the answer go to `sender` instead
    wording: Wording = "unclear"
    extra: Mapping[str, object] = field(default_factory=dict)  # every field we have no name for


@dataclass(frozen=True, slots=True)
class ManagerMessage:
    """What the tenant's side wrote to a customer, but not through us: a person in the provider's own interface, or
    another bot of theirs. An echo of what we sent ourselves looks the same, but for its id and its author."""

    external_id: str
    channel_kind: ChannelKind
    customer: tuple[Address, ...]  # the first one names the conversation
    channel_address: str  # ours
    message_type: str
    text: str = ""
    media: tuple[Media, ...] = ()
    timestamp: datetime | None = None
    author_id: str = ""
    author_name: str | None = None
    automatic: bool = False  # the provider says that its author is no person
    contact_name: str | None = None  # the customer's
    reply_to: str | None = None
    awaits_report: bool = False  # the provider waits to hear from us what became of it
    place: int = 0  # as a customer's
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a message of ours. `status` is the provider's word; `shared.domain.statuses` ranks it."""

    external_id: str
    status: str
    message_id: UUID | None = None  # ours, where it travelled with the send
    channel_kind: ChannelKind | None = None
    error_code: str | None = None
    error_message: str | None = None
    timestamp: datetime | None = None
    recipient: str | None = None
    channel_address: str = ""  # ours, where the receipt names it as a message does: then it is that channel or none
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Consent:
    """What a customer told the provider, and not us, about being written to."""

    state: ConsentState
    scope: ConsentScope
    channel_kind: ChannelKind
    address: Address
    timestamp: datetime | None = None


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
    managers: tuple[ManagerMessage, ...] = ()


# -- what leaves -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Template:
    """An approved template: Twilio's ContentSid, or a Meta template's name with its language."""

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Button:
    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    id: str
    title: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    rows: tuple[Row, ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Interactive:
    """What a customer may tap below the message's text: reply buttons, or a list that `opener` opens."""

    buttons: tuple[Button, ...] = ()
    sections: tuple[Section, ...] = ()
    opener: str = ""
    header: str = ""
    footer: str = ""


@dataclass(frozen=True, slots=True)
class Reaction:
    """An emoji on a message of the customer's; an empty one takes it back."""

    external_id: str
    emoji: str


@dataclass(frozen=True, slots=True)
class Thread:
    """What a mail answers: the customer's newest one, the ids of those before it (oldest first), and its subject."""

    message_id: str = ""
    references: tuple[str, ...] = ()
    subject: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file that leaves inside a message."""

    name: str
    mime_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message as it leaves. Where `template` is set, text and media are not sent."""

    message_id: UUID
    channel_kind: ChannelKind
    sender: str  # the channel's address: E.164, or a Twilio messaging service's id (MG…)
    recipient: str  # as this customer's messages gave it, without a scheme such as `whatsapp:`
    recipient_name: str | None = None
    text: str = ""
    media: tuple[Media, ...] = ()
    files: tuple[File, ...] = ()  # in the message itself; then `media` holds the others
    template: Template | None = None
    interactive: Interactive | None = None
    reaction: Reaction | None = None
    reply_to: str | None = None  # external id of the message it is shown to answer
    status_callback: str | None = None
    subject: str | None = None  # of a mail; None: its thread's
    thread: Thread | None = None
    unsubscribe: str | None = None  # of a bulk mail: the URL that takes the click of who wants no more of them
    automatic: str = ""  # what a mail says of nobody having written it: `auto-replied`, `auto-generated`


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
    """What became of a message that a manager wrote in the provider's own interface. `problem` is a sentence that they
    are shown there; empty where the message was delivered."""

    external_id: str
    problem: str = ""


@runtime_checkable
class Reporter(Protocol):
    """What a Sender also is whose provider waits to hear what became of managers' messages."""

    async def report(self, address: str, report: Report) -> Refusal | None:
        """Tell the provider of one message in the channel of this address. The same may be told again.

        None where it took it. Never raises for what a provider or the network can do.
        """
        ...


@dataclass(frozen=True, slots=True)
class Traits:
    """What is particular to a provider beyond what every one of them does; its module says so as `TRAITS`."""

    read_receipts: bool = False  # its Sender is a Reader
    reports: bool = False  # its Sender is a Reporter
    reads_nul: bool = False  # its `parse` replaces U+0000 itself, by the field and not in a whole body
    carries: int = 0  # bytes of files that leave inside one message of its; 0: it fetches links itself
    pair_seconds: float = 0.0  # it takes one message to one recipient per so long; we keep bulk messages apart by it
