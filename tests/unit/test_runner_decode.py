"""What an envelope from a queue is read as, and what of it can't be."""

import orjson
import pytest

from shared.queue.envelope import Undecodable, decode
from shared.queue.jobs import AgentReportDue, Job, ReplyWanted, SendReady, UnknownDue

TENANT = "01890000-0000-7000-8000-00000000000a"
CONVERSATION = "01890000-0000-7000-8000-00000000000b"
WANTED = {"tenant_id": TENANT, "conversation_id": CONVERSATION, "trace": "t1"}


def body(*items: object, **outer: object) -> bytes:
    return orjson.dumps({"type": "reply.wanted", "items": list(items)} | outer)


def test_jobs_are_read_in_order() -> None:
    opened = decode(body(WANTED, WANTED | {"trace": "t2"}), (ReplyWanted,))
    assert [(str(job.tenant_id), job.trace) for job in opened.valid] == [(TENANT, "t1"), (TENANT, "t2")]
    assert opened.invalid == []


def test_what_a_newer_process_adds_is_ignored_what_an_older_lacks_has_a_default() -> None:
    newer = WANTED | {"urgency": {"level": 3}}
    older = {"tenant_id": TENANT, "conversation_id": CONVERSATION}
    opened = decode(body(newer, older, version=7), (ReplyWanted,))
    one, other = opened.valid
    assert opened.invalid == []
    assert one == ReplyWanted.model_validate(WANTED)
    assert other.trace == ""


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"hola", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"type": "reply.wanted", "items": [{}', "not JSON"),
        (b"[" * 2000, "not JSON"),
        (b'{"type": "reply.wanted", "items": ["\\ud800"]}', "not JSON"),
        (b"null", "no envelope"),
        (b"[]", "no envelope"),
        (b"{}", "no envelope"),
        (b'{"type": "reply.wanted"}', "no envelope"),
        (b'{"type": "reply.wanted", "items": {"a": 1}}', "no envelope"),
        (b'{"items": []}', r"type is 'None', this queue takes 'reply\.wanted'"),
        (b'{"type": "send.requested", "items": []}', r"type is 'send\.requested'"),
        (b'{"type": ["reply.wanted"], "items": []}', "this queue takes"),
        (b'{"type": "reply.wanted", "items": [' + b"[" * 500 + b"]" * 500 + b"]}", "can't be taken out"),
    ],
)
def test_an_envelope_that_can_not_be_read_says_why(raw: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode(raw, (ReplyWanted,))


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (None, "job: "),
        ("hola", "job: "),
        ([], "job: "),
        ({}, "tenant_id: Field required; conversation_id: Field required"),
        (WANTED | {"tenant_id": "me"}, "tenant_id: "),
        (WANTED | {"conversation_id": None}, "conversation_id: "),
        (WANTED | {"trace": 7}, "trace: "),
        ({"x": 1e400}, "tenant_id: "),
    ],
)
def test_an_invalid_job_is_named_and_its_neighbours_are_read(item: object, reason: str) -> None:
    opened = decode(body(WANTED, item, WANTED), (ReplyWanted,))
    ((raw, why),) = opened.invalid
    assert len(opened.valid) == 2
    assert orjson.loads(raw) == orjson.loads(orjson.dumps(item))
    assert why.startswith(f"invalid reply.wanted: {reason}")


def test_an_empty_envelope_holds_nothing() -> None:
    opened = decode(body(), (ReplyWanted,))
    assert (opened.valid, opened.invalid) == ([], [])


OF_SEND = (SendReady, UnknownDue, AgentReportDue)
MESSAGE = {"tenant_id": TENANT, "conversation_id": CONVERSATION, "message_id": CONVERSATION, "provider": "twilio"}


@pytest.mark.parametrize("kind", OF_SEND)
def test_of_several_types_the_envelopes_is_read(kind: type[Job]) -> None:
    opened = decode(body(MESSAGE, None, type=kind.type), OF_SEND)
    assert opened.type == kind.type
    assert [type(job) for job in opened.valid] == [kind]
    assert [why[: len(kind.type) + 8] for _, why in opened.invalid] == [f"invalid {kind.type}"]


def test_a_type_that_a_queue_of_several_does_not_take_is_named_with_those_it_takes() -> None:
    takes = r"type is 'media\.wanted', this queue takes 'send\.admitted' and 'unknown\.due' and 'agent_report\.due'"
    with pytest.raises(Undecodable, match=takes):
        decode(body(MESSAGE, type="media.wanted"), OF_SEND)


def test_a_job_of_an_older_process_is_read() -> None:
    """It named what is ready, what is unknown and what is to be reported alike; rows of the latter are due again."""
    (job,) = decode(body(MESSAGE | {"lane": "bulk"}, type="send.admitted"), OF_SEND).valid
    assert job == SendReady(**MESSAGE, lane="bulk")
