"""What an envelope from a queue is read as, and what of it can't be."""

import orjson
import pytest

from shared.queue.envelope import Undecodable, decode
from shared.queue.jobs import ReplyWanted

TENANT = "01890000-0000-7000-8000-00000000000a"
CONVERSATION = "01890000-0000-7000-8000-00000000000b"
WANTED = {"tenant_id": TENANT, "conversation_id": CONVERSATION, "trace": "t1"}


def body(*items: object, **outer: object) -> bytes:
    return orjson.dumps({"type": "reply.wanted", "items": list(items)} | outer)


def test_jobs_are_read_in_order() -> None:
    good, bad = decode(body(WANTED, WANTED | {"trace": "t2"}), ReplyWanted)
    assert [(str(job.tenant_id), job.trace) for job in good] == [(TENANT, "t1"), (TENANT, "t2")]
    assert bad == []


def test_what_a_newer_process_adds_is_ignored_what_an_older_lacks_has_a_default() -> None:
    newer = WANTED | {"urgency": {"level": 3}}
    older = {"tenant_id": TENANT, "conversation_id": CONVERSATION}
    (one, other), bad = decode(body(newer, older, version=7), ReplyWanted)
    assert bad == []
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
        decode(raw, ReplyWanted)


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
    good, ((raw, why),) = decode(body(WANTED, item, WANTED), ReplyWanted)
    assert len(good) == 2
    assert orjson.loads(raw) == orjson.loads(orjson.dumps(item))
    assert why.startswith(f"invalid reply.wanted: {reason}")


def test_an_empty_envelope_holds_nothing() -> None:
    assert decode(body(), ReplyWanted) == ([], [])
