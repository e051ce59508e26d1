"""Every message that stands in a queue. A class owns its type, its key and the queue it goes to.

Unknown fields are ignored and new fields have defaults, so that old and new processes run side by side during a
deploy. The key is deterministic: the same fact published twice carries the same `message_id`.
"""

import base64
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.queue import topology
from shared.resilience.circuit_breaker import Scope

Lane = topology.Lane
LARGE = 256 * 1024  # bytes of a webhook's body; a larger one stands alone in its envelope, and has a lane of its own


class QueueMessage(BaseModel):
    """Base of all items. `batch` is the most items of this class that share one envelope."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    queues: ClassVar[tuple[str, ...]]  # everywhere `queue` may point: the graph is drawn from it
    exchange: ClassVar[str] = topology.WORK
    batch: ClassVar[int] = 100

    trace: str = Field(default="", description="follows one webhook through every hop and log line")

    @property
    def key(self) -> str:
        """Deterministic identity, at most 128 characters."""
        raise NotImplementedError(f"{type(self).__name__} owns its key")

    @property
    def queue(self) -> str:
        """The routing key: the queue's name, or an event's name."""
        return self.queues[0]

    @property
    def scope(self) -> Scope:
        """The tenant and channel that are set apart where items such as this one die."""
        return Scope(getattr(self, "tenant_id", None), getattr(self, "channel_id", None))

    @property
    def tenant(self) -> UUID | None:
        """Whose it is, as far as the item says it: the webhook of an endpoint that spans tenants does not."""
        tenant: UUID | None = getattr(self, "tenant_id", None)
        return tenant

    @property
    def about(self) -> dict[str, str]:
        """What every log line of its handling carries, where it has it: trace, tenant, conversation, message."""
        facts = {
            "trace": self.trace,
            "tenant": getattr(self, "tenant_id", None),
            "conversation": getattr(self, "conversation_id", None),
            "message": getattr(self, "message_id", None),
        }
        return {name: str(value) for name, value in facts.items() if value}


class WebhookReceived(QueueMessage):
    """A provider's request whose signature held, exactly as it arrived."""

    type: ClassVar[str] = "webhook.received"
    queues: ClassVar[tuple[str, ...]] = (
        topology.PERSIST.name,
        topology.PERSIST_RECEIPTS.name,
        topology.PERSIST_LARGE.name,
    )

    inbound_id: str  # hex of SHA-256(endpoint id, body): an identical redelivery has the same one
    endpoint_id: UUID
    tenant_id: UUID | None = None  # None: the endpoint spans tenants
    provider: str
    receipts: bool = False  # came in by the status path: goes to its own lane
    received_at: datetime  # when ingress had it; survives spool, queue and replay
    method: str = "POST"
    url: str = ""
    content_type: str = ""
    headers: Mapping[str, str] = Field(default_factory=dict)
    body: str
    body_encoding: Literal["utf-8", "base64"] = "utf-8"
    replayed: bool = False  # an operator wants it parsed again though it is known

    @property
    def key(self) -> str:
        return self.inbound_id

    @property
    def queue(self) -> str:
        if self.receipts:
            return topology.PERSIST_RECEIPTS.name
        return topology.PERSIST_LARGE.name if len(self.body) > LARGE else topology.PERSIST.name

    @property
    def scope(self) -> Scope:
        """Of an endpoint that spans tenants the endpoint: whose the webhook is, only its body says."""
        return Scope(self.tenant_id or self.endpoint_id, self.endpoint_id)

    @property
    def raw_body(self) -> bytes:
        """The bytes that were signed."""
        return base64.b64decode(self.body) if self.body_encoding == "base64" else self.body.encode()

    @classmethod
    def of(cls, endpoint_id: UUID, body: bytes, **fields: Any) -> Self:
        """Build one from raw bytes: text stays readable in RabbitMQ's UI, anything else travels as base64; large text
        too, which JSON may make six times as long.

        `fields` are this model's other fields, validated as usual.
        """
        text = _text_of(body)
        encoding = "utf-8"
        if text is None:
            text, encoding = base64.b64encode(body).decode("ascii"), "base64"
        inbound_id = inbound_id_of(endpoint_id, body)
        return cls.model_validate(
            {
                "trace": inbound_id[:16],
                **fields,
                "inbound_id": inbound_id,
                "endpoint_id": endpoint_id,
                "body": text,
                "body_encoding": encoding,
            }
        )


def _text_of(body: bytes) -> str | None:
    """A body as readable text; None for what is none, or too large to be read."""
    try:
        return body.decode() if len(body) <= LARGE else None
    except UnicodeDecodeError:
        return None


def inbound_id_of(endpoint_id: UUID, body: bytes) -> str:
    """Hex of SHA-256 over endpoint and body: the identity of a webhook in `inbound_log`."""
    digest = sha256(endpoint_id.bytes)
    digest.update(body)  # not of both together: the body may be of ten megabytes
    return digest.hexdigest()


class ReplyWanted(QueueMessage):
    """A customer wrote; the conversation's row says that a reply is owed."""

    type: ClassVar[str] = "reply.wanted"
    queues: ClassVar[tuple[str, ...]] = (topology.REPLY.name, topology.REPLY_LLM.name)

    tenant_id: UUID
    channel_id: UUID | None = None  # None: of an older process
    conversation_id: UUID
    waits: bool = Field(default=False, description="the channel's engine waits for somebody else: it has its own lane")

    @property
    def key(self) -> str:
        return f"reply:{self.conversation_id}"

    @property
    def queue(self) -> str:
        return topology.REPLY_LLM.name if self.waits else topology.REPLY.name


class SendRequested(QueueMessage):
    """A message row is `queued`: the window decides what becomes of it."""

    type: ClassVar[str] = "send.requested"
    queues: ClassVar[tuple[str, ...]] = (topology.WINDOW.name,)

    tenant_id: UUID
    channel_id: UUID | None = None  # None: of an older process
    conversation_id: UUID
    message_id: UUID

    @property
    def key(self) -> str:
        return f"send:{self.message_id}"


class SendAdmitted(QueueMessage):
    """A lane of a conversation has a message that is `ready` (or one of unknown outcome to look up)."""

    type: ClassVar[str] = "send.admitted"
    queues: ClassVar[tuple[str, ...]] = tuple(queue.name for queue in topology.SEND)

    tenant_id: UUID
    channel_id: UUID | None = None  # None: of an older process
    conversation_id: UUID
    message_id: UUID
    provider: str
    lane: Lane = "normal"

    @property
    def key(self) -> str:
        return f"admitted:{self.message_id}"

    @property
    def queue(self) -> str:
        return topology.send_queue(self.provider, self.lane).name


class MediaWanted(QueueMessage):
    """A customer's message holds a file that we have no copy of yet."""

    type: ClassVar[str] = "media.wanted"
    queues: ClassVar[tuple[str, ...]] = (topology.MEDIA.name,)
    batch: ClassVar[int] = 10  # so that several processes share what came at once

    tenant_id: UUID
    channel_id: UUID | None = None  # None: of an older process
    message_id: UUID
    media_id: UUID

    @property
    def key(self) -> str:
        return f"media:{self.media_id}"


class EventHappened(QueueMessage):
    """What happened, as `relay` tells everybody. (xid, seq) is its place in the order of all events."""

    type: ClassVar[str] = "event.happened"
    queues: ClassVar[tuple[str, ...]] = ()
    exchange: ClassVar[str] = topology.EVENTS

    xid: int
    seq: int
    name: str
    tenant_id: UUID
    occurred_at: datetime
    channel_id: UUID | None = None
    conversation_id: UUID | None = None
    message_id: UUID | None = None
    contact_id: UUID | None = None
    detail: Mapping[str, str | int | float | bool | None] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"event:{self.xid}:{self.seq}"

    @property
    def queue(self) -> str:
        return self.name
