"""Defines every job that workers consume: its fields, its key and the queue it goes to.

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
LARGE = 256 * 1024  # bytes of a webhook's body; a larger one has an envelope of its own, and goes to a queue of its own


class Job(BaseModel):
    """Base of all jobs. `batch` is the most jobs of a class that share one envelope."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    queues: ClassVar[tuple[str, ...]]  # all values that `queue` may have; the drawing of the topology shows them
    exchange: ClassVar[str] = topology.WORK
    batch: ClassVar[int] = 100

    trace: str = Field(default="", description="follows one webhook through every hop and log line")

    @property
    def key(self) -> str:
        """Deterministic identity, at most 128 characters."""
        raise NotImplementedError(f"{type(self).__name__} defines no key")

    @property
    def queue(self) -> str:
        """The routing key: the queue's name, or an event's name."""
        return self.queues[0]

    @property
    def scope(self) -> Scope:
        """The tenant and channel whose circuit breaker counts the failures of this job."""
        return Scope(getattr(self, "tenant_id", None), getattr(self, "channel_id", None))

    @property
    def tenant(self) -> UUID | None:
        """The job's tenant; None where the job does not name it, as the webhook of an endpoint that spans tenants."""
        tenant: UUID | None = getattr(self, "tenant_id", None)
        return tenant

    @property
    def about(self) -> dict[str, str]:
        """The fields of every log line while this job is handled: trace, tenant, conversation, message."""
        facts = {
            "trace": self.trace,
            "tenant": getattr(self, "tenant_id", None),
            "conversation": getattr(self, "conversation_id", None),
            "message": getattr(self, "message_id", None),
        }
        return {name: str(value) for name, value in facts.items() if value}


class WebhookReceived(Job):
    """A provider's request whose signature was valid, exactly as it arrived."""

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
    receipts: bool = False  # came in by the status path: goes to its own queue
    received_at: datetime  # by ingress; survives spool, queue and replay
    method: str = "POST"
    url: str = ""
    content_type: str = ""
    headers: Mapping[str, str] = Field(default_factory=dict)
    body: str
    body_encoding: Literal["utf-8", "base64"] = "utf-8"
    replayed: bool = False  # an operator wants it parsed again although it is known

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
        """For an endpoint that spans tenants the endpoint itself: only the body says which tenant's webhook this is."""
        return Scope(self.tenant_id or self.endpoint_id, self.endpoint_id)

    @property
    def raw_body(self) -> bytes:
        """The bytes that were signed."""
        return base64.b64decode(self.body) if self.body_encoding == "base64" else self.body.encode()

    @classmethod
    def of(cls, endpoint_id: UUID, body: bytes, **fields: Any) -> Self:
        """Build one from the raw bytes of a body. `fields` are this model's other fields, validated as usual.

        Text stays readable in RabbitMQ's UI. Other bytes travel as base64, and so does large text, which JSON may make
        six times as long.
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
    """A body as text; None where it is no UTF-8, or LARGE."""
    try:
        return body.decode() if len(body) <= LARGE else None
    except UnicodeDecodeError:
        return None


def inbound_id_of(endpoint_id: UUID, body: bytes) -> str:
    """Hex of SHA-256 over endpoint and body: the identity of a webhook in `inbound_log`."""
    digest = sha256(endpoint_id.bytes)
    digest.update(body)  # not one digest of both joined: the body may be ten megabytes
    return digest.hexdigest()


class ReplyWanted(Job):
    """A customer wrote; the conversation's row says that a reply is owed."""

    type: ClassVar[str] = "reply.wanted"
    queues: ClassVar[tuple[str, ...]] = (topology.REPLY.name, topology.REPLY_LLM.name)

    tenant_id: UUID
    channel_id: UUID | None = None  # None: published by an older process
    conversation_id: UUID
    waits: bool = Field(default=False, description="the engine waits for an outside service: own queue")

    @property
    def key(self) -> str:
        return f"reply:{self.conversation_id}"

    @property
    def queue(self) -> str:
        return topology.REPLY_LLM.name if self.waits else topology.REPLY.name


class SendRequested(Job):
    """A message's row is `queued`: the worker `window` decides whether it may be sent."""

    type: ClassVar[str] = "send.requested"
    queues: ClassVar[tuple[str, ...]] = (topology.WINDOW.name,)

    tenant_id: UUID
    channel_id: UUID | None = None  # None: published by an older process
    conversation_id: UUID
    message_id: UUID

    @property
    def key(self) -> str:
        return f"send:{self.message_id}"


class SendJob(Job):
    """Base of the jobs in the queues of `send`: about one message, whose provider and lane name the queue."""

    queues: ClassVar[tuple[str, ...]] = tuple(queue.name for queue in topology.SEND)

    tenant_id: UUID
    channel_id: UUID | None = None  # None: published by an older process
    conversation_id: UUID
    message_id: UUID
    provider: str
    lane: Lane = "normal"

    @property
    def queue(self) -> str:
        return topology.send_queue(self.provider, self.lane).name


class SendReady(SendJob):
    """A conversation has a message that is `ready` in this lane."""

    # Older processes publish this type, also for what UnknownDue and AgentReportDue now ask for: those rows are due
    # again after their lease. They consume it too, so it stays what it is while both run.
    type: ClassVar[str] = "send.admitted"

    @property
    def key(self) -> str:
        return f"admitted:{self.message_id}"


class UnknownDue(SendJob):
    """A message of unknown outcome is to be looked up at its provider."""

    type: ClassVar[str] = "unknown.due"

    @property
    def key(self) -> str:
        return f"unknown:{self.message_id}"


class AgentReportDue(SendJob):
    """The delivery status of an agent's message is to be reported to the provider."""

    type: ClassVar[str] = "agent_report.due"

    @property
    def key(self) -> str:
        return f"report:{self.message_id}"


class MediaWanted(Job):
    """A customer's message has a file that is not in our blob store yet."""

    type: ClassVar[str] = "media.wanted"
    queues: ClassVar[tuple[str, ...]] = (topology.MEDIA.name,)
    batch: ClassVar[int] = 10  # small, so that several processes share the files that came together

    tenant_id: UUID
    channel_id: UUID | None = None  # None: published by an older process
    message_id: UUID
    media_id: UUID

    @property
    def key(self) -> str:
        return f"media:{self.media_id}"


class CampaignDue(Job):
    """A campaign's next step is due: its row says which.

    `due_at` is the row's due time as the publisher wrote it. A job whose row has another one, not over yet, comes late:
    the campaign is in other hands.
    """

    type: ClassVar[str] = "campaign.due"
    queues: ClassVar[tuple[str, ...]] = (topology.CAMPAIGN.name,)
    batch: ClassVar[int] = 1  # each is worked on for a while

    tenant_id: UUID
    campaign_id: UUID
    due_at: datetime | None = None

    @property
    def key(self) -> str:
        return f"campaign:{self.campaign_id}"


class WebhookDue(Job):
    """A webhook of a tenant's own has deliveries that are due: its next turn."""

    type: ClassVar[str] = "webhook.due"
    queues: ClassVar[tuple[str, ...]] = (topology.WEBHOOK.name,)
    batch: ClassVar[int] = 10  # small, so that several processes share the webhooks that became due together

    tenant_id: UUID
    webhook_id: UUID

    @property
    def key(self) -> str:
        return f"webhook:{self.webhook_id}"


class EventHappened(Job):
    """An event, as `relay` publishes it. (xid, seq) is its position in the order of all events."""

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
