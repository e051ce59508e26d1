"""Every kind of job: its identity, where it goes, and that its bytes survive the way."""

from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.queue import topology
from shared.queue.envelope import decode, dump, envelope
from shared.queue.jobs import (
    AgentReportDue,
    CampaignDue,
    EventHappened,
    Job,
    MediaWanted,
    ReplyWanted,
    SendJob,
    SendReady,
    SendRequested,
    UnknownDue,
    WebhookDue,
    WebhookReceived,
)

A, B, C = (UUID(int=number << 64 | 7 << 76) for number in (1, 2, 3))
AT = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)

WEBHOOK = WebhookReceived.of(A, b"Body=hola", provider="twilio", received_at=AT, tenant_id=B)
EVERY: dict[str, Job] = {
    "webhook": WEBHOOK,
    "reply": ReplyWanted(tenant_id=A, conversation_id=B),
    "requested": SendRequested(tenant_id=A, conversation_id=B, message_id=C),
    "admitted": SendReady(tenant_id=A, conversation_id=B, message_id=C, provider="twilio"),
    "unknown": UnknownDue(tenant_id=A, conversation_id=B, message_id=C, provider="twilio"),
    "report": AgentReportDue(tenant_id=A, conversation_id=B, message_id=C, provider="kommo"),
    "media": MediaWanted(tenant_id=A, message_id=B, media_id=C),
    "campaign": CampaignDue(tenant_id=A, campaign_id=B, due_at=AT),
    "webhook_due": WebhookDue(tenant_id=A, webhook_id=B),
    "event": EventHappened(xid=2**63, seq=2**62, name="message.received", tenant_id=A, occurred_at=AT),
}


def test_every_kind_of_job_is_here() -> None:
    every = {kind for kind in (*Job.__subclasses__(), *SendJob.__subclasses__()) if kind.__module__ == Job.__module__}
    assert {type(job) for job in EVERY.values()} == every - {SendJob}


@pytest.mark.parametrize("job", EVERY.values(), ids=EVERY)
def test_the_same_fact_has_the_same_short_key(job: Job) -> None:
    again = type(job).model_validate_json(dump(job))
    later = job.model_copy(update={"trace": "another"})
    assert job.key == again.key == later.key
    assert 0 < len(job.key.encode()) <= 128


def test_different_facts_have_different_keys() -> None:
    others = [
        WebhookReceived.of(A, b"Body=adios", provider="twilio", received_at=AT),
        WebhookReceived.of(B, b"Body=hola", provider="twilio", received_at=AT),
        ReplyWanted(tenant_id=A, conversation_id=C),
        SendRequested(tenant_id=A, conversation_id=B, message_id=A),
        SendReady(tenant_id=A, conversation_id=B, message_id=A, provider="twilio"),
        CampaignDue(tenant_id=A, campaign_id=A),
        EventHappened(xid=1, seq=2**62, name="message.received", tenant_id=A, occurred_at=AT),
    ]
    keys = [job.key for job in (*EVERY.values(), *others)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("job", EVERY.values(), ids=EVERY)
def test_a_job_goes_only_where_its_class_says(job: Job) -> None:
    if job.exchange == topology.WORK:
        assert job.queue in job.queues
        assert set(job.queues) <= {queue.name for queue in topology.QUEUES}
    else:
        assert (job.exchange, job.queue) == ("events", "message.received")


@pytest.mark.parametrize(
    ("job", "queue"),
    [
        (WEBHOOK, "persist"),
        (WEBHOOK.model_copy(update={"receipts": True}), "persist.receipts"),
        (ReplyWanted(tenant_id=A, conversation_id=B), "reply"),
        (ReplyWanted(tenant_id=A, conversation_id=B, waits=True), "reply.llm"),
        (SendReady(tenant_id=A, conversation_id=B, message_id=C, provider="twilio"), "send.twilio"),
        (
            SendReady(tenant_id=A, conversation_id=B, message_id=C, provider="twilio", lane="bulk"),
            "send.twilio.bulk",
        ),
    ],
)
def test_each_priority_has_its_queue(job: Job, queue: str) -> None:
    assert job.queue == queue


@pytest.mark.parametrize("job", EVERY.values(), ids=EVERY)
def test_a_job_arrives_as_it_left(job: Job) -> None:
    opened = decode(envelope(job.type, [dump(job)]), (type(job),))
    assert (opened.valid, opened.invalid) == ([job], [])


@given(st.binary(max_size=300))
def test_the_bytes_that_were_signed_survive_the_way(body: bytes) -> None:
    webhook = WebhookReceived.of(A, body, provider="twilio", received_at=AT)
    (arrived,) = decode(envelope(webhook.type, [dump(webhook)]), (WebhookReceived,)).valid
    assert arrived.raw_body == body
    assert arrived.inbound_id == sha256(A.bytes + body).hexdigest()
    assert arrived.received_at == AT


def test_text_stays_readable_on_the_way() -> None:
    assert (WEBHOOK.body, WEBHOOK.body_encoding) == ("Body=hola", "utf-8")
    assert WebhookReceived.of(A, b"\xff", provider="twilio", received_at=AT).body_encoding == "base64"


def test_a_message_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        WEBHOOK.trace = "other"  # type: ignore[misc]  # that is the point
