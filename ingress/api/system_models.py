"""What system.* is given and answers."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from ingress.api.models import MOST_ROWS, Input, Output, Page, Part
from shared.actions import dead_letters

QueueName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
LetterId = Annotated[str, StringConstraints(min_length=dead_letters.SHORT_ID, max_length=255)]
Limit = Annotated[int, Field(ge=1, le=MOST_ROWS, description="The oldest come first.")]


class Queue(Part):
    """A work queue. An envelope holds one job or several."""

    name: str
    envelopes: int = Field(description="Ready in the broker.")
    consumers: int
    dead: int = Field(description="Dead letters.")
    rows: int = Field(description="Rows that wait for this step, whether or not their job is queued.")


class Queues(Output):
    queues: list[Queue]
    retrying: int = Field(description="Envelopes that wait to be tried again.")


class Status(Output):
    """Rows of all tenants, by what they wait for."""

    broker: Literal["answers", "away"]
    overdue: int = Field(description="Due for seconds, and not taken: is a clock running?")
    set_aside: int = Field(description="Their jobs are dead letters.")
    restored: int = Field(description="A restore left them to a person.")
    held: int
    unknown: int
    replies_owed: int
    parked_receipts: int = Field(description="Delivery receipts whose message is not there yet.")
    relay_lag_seconds: float = Field(description="Age of the oldest event that is not published.")
    stopped_channels: list[UUID]


class DeadLetter(Part):
    """An envelope that failed for good. What it holds is not shown: it may be a customer's text."""

    id: str
    type: str
    reason: str
    attempts: int | None = Field(description="null: the broker itself took it out of its queue.")
    dead_lettered_at: datetime | None
    traces: list[str]
    items: int = Field(description="Jobs in it.")


class DeadLetters(Output):
    count: int = Field(description="All that the queue holds.")
    dead_letters: list[DeadLetter]


class ListDeadLetters(Input):
    queue: QueueName = Field(description="A work queue, as system.queues names it.")
    limit: Limit = 50


class SettleDeadLetters(Input):
    queue: QueueName = Field(description="A work queue, as system.queues names it.")
    ids: list[LetterId] = Field(
        min_length=1, max_length=MOST_ROWS, description="As system.deadLetters lists them, or their beginnings."
    )


class Settled(Output):
    count: int


class Nothing(Input):
    """No input."""


class UnknownSend(Part):
    """A message that was handed to the provider, which gave no answer."""

    id: UUID
    tenant_id: UUID
    tenant: str
    channel_id: UUID
    channel: str
    lane: str
    claimed_at: datetime | None
    unknown_at: datetime | None
    looked_up_at: datetime | None = Field(description="null: it is not looked up any more, a person decides.")
    reason: str | None


class UnknownSends(Page):
    unknown_sends: list[UnknownSend]


class CheckResult(Part):
    """A check of the database: of its schema, its roles and rights, its policies."""

    group: str = Field(description="Whose promise it checks: Palomar's own, or a document's.")
    name: str
    ok: bool | None = Field(description="null: it could not be checked, and `detail` says why.")
    detail: str | None = Field(description="What is wrong; null where nothing is.")
    remedy: str | None = Field(description="What to do about it.")


class Verified(Output):
    ok: bool = Field(description="Whether every check was made, and found nothing.")
    checks: list[CheckResult]


class Decide(Input):
    id: UUID = Field(description="Of the message.")
    decision: Literal["resend", "fail"] = Field(
        description="resend: as a new message; the customer may get it twice. fail: it is given up."
    )


class Decided(Output):
    id: UUID
    decision: Literal["resend", "fail"]
    sent_as: UUID | None = Field(description="The new message.")
