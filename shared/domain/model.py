"""The vocabulary of messaging: addresses, messages in and out, receipts, consents. Values without behaviour. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypedDict
from uuid import UUID

ChannelKind = Literal["whatsapp", "sms", "email"]
AddressKind = Literal["phone", "user_id", "email", "kommo_chat"]
ConsentState = Literal["opted_in", "opted_out"]
ConsentScope = Literal["all", "blocked", "marketing"]
"""What a consent applies to; shared/domain/consents.py says what each scope stops."""
Authorship = Literal["proven", "unknown", "refuted"]
"""Whether the network proves the author: it does, it does not, or it shows that another one wrote."""
Wording = Literal["own", "unclear", "data"]
"""Whose words a customer's text has. `own`: they wrote it, or tapped a label with it. `unclear`: their words or a
machine's, as the payload of a button, the id of a row, an undocumented field. `data`: we made the text from a form, a
place, an order, a contact card."""
MessageType = Literal[
    "text", "image", "audio", "video", "file", "sticker", "location", "contacts", "button", "reaction", "template",
    "system", "unsupported",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """An address: `given` as the provider wrote it, `canonical` as we compare it."""

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
    consent: ConsentState | None = None  # how the provider understood it, by words that it knows
    answered: bool = False  # by the provider itself, as Twilio answers STOP, START and HELP
    place: int = 0  # among its webhook's messages, customers' and agents' together
    authorship: Authorship = "proven"
    author: Address | None = None  # the author, where they ask for the answer to go to `sender` instead
    wording: Wording = "unclear"
    extra: Mapping[str, object] = field(default_factory=dict)  # every other field of the provider


@dataclass(frozen=True, slots=True)
class AgentMessage:
    """A message from the tenant to a customer that did not go through us: by an agent in the provider's own interface,
    or by another bot. An echo of a message that we sent looks the same, except for its id and author."""

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
    automatic: bool = False  # by the provider, its author is not a person
    contact_name: str | None = None  # the customer's
    reply_to: str | None = None
    awaits_report: bool = False  # the provider waits for its delivery status from us
    place: int = 0  # as of a customer's message
    extra: Mapping[str, object] = field(default_factory=dict)


class MessageFields(TypedDict):
    """The fields that InboundMessage and AgentMessage share, for a provider that reads both from the same form."""

    external_id: str
    channel_kind: ChannelKind
    channel_address: str
    message_type: str
    text: str
    media: tuple[Media, ...]
    timestamp: datetime | None
    contact_name: str | None
    reply_to: str | None
    place: int
    extra: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Pricing:
    """How the provider charges a message, in its own words: Meta's `marketing` and `regular`, for instance.

    `billable` is None where it does not say.
    """

    category: str
    type: str = ""
    billable: bool | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery receipt of a message of ours. `status` is the provider's word; `shared.domain.statuses` ranks it."""

    external_id: str
    status: str
    message_id: UUID | None = None  # ours, where it travelled with the send
    channel_kind: ChannelKind | None = None
    error_code: str | None = None
    error_message: str | None = None
    timestamp: datetime | None = None
    recipient: str | None = None
    channel_address: str = ""  # ours, where the receipt names it as a message does: then it is that channel or none
    sent_from: str = ""  # the sender, where that may be another address of ours than a channel's
    pricing: Pricing | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Consent:
    """An opt-in or opt-out that a customer gave to the provider and not to us."""

    state: ConsentState
    scope: ConsentScope
    channel_kind: ChannelKind
    address: Address
    timestamp: datetime | None = None


# -- outgoing ----------------------------------------------------------------------------------------------------------


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
    """An emoji on a message of the customer; an empty one removes it."""

    external_id: str
    emoji: str


@dataclass(frozen=True, slots=True)
class Thread:
    """The thread of a mail: the customer's newest one, the ids of those before it (oldest first), and its subject."""

    message_id: str = ""
    references: tuple[str, ...] = ()
    subject: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file attached to a message."""

    name: str
    mime_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as it is sent. Where `template` is set, text and media are not sent."""

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
    webhook_url: str | None = None  # of the channel's endpoint; None: the channel has none
    subject: str | None = None  # of a mail; None: its thread's
    thread: Thread | None = None
    unsubscribe: str | None = None  # of a bulk mail: the URL of its unsubscribe link
    marketing: bool = False  # by the provider's own path for marketing templates
    automatic: str = ""  # a mail's Auto-Submitted header: `auto-replied`, `auto-generated`
