"""The bodies of deliveries: their form, their size, and the schema and sample of each event."""

from dataclasses import make_dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from jsonschema import Draft202012Validator

from ingress.api.procedures.contacts import Contact
from ingress.api.procedures.conversations import Message
from shared.domain.event_cursor import Cursor
from shared.domain.event_json import event_json
from shared.domain.public_events import EVENTS, NAMES, PublicEvent
from shared.domain.webhooks import bodies, rows
from shared.store.event_feed import StoredEvent

EVENT = next(one for one in EVENTS if one.name == "message_received").sample()
MESSAGE = dict(bodies.SAMPLE_MESSAGE)
CONTACT = dict(bodies.SAMPLE_CONTACT)
AT = datetime(2026, 11, 28, 16, tzinfo=UTC)


def bytes_of(body: dict[str, Any]) -> int:
    return len(orjson.dumps(body))


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_a_sample_fits_its_schema_and_so_does_what_is_sent(event: PublicEvent) -> None:
    schema, sample = bodies.schema(event), bodies.sample(event)
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    check.validate(sample)
    check.validate(bodies.body(event.sample(), MESSAGE, CONTACT, 7))
    check.validate(bodies.body(event.sample(), MESSAGE | {"content": "x" * 30_000}, CONTACT, 7))
    assert not check.is_valid(sample | {"type": "another"})
    assert not check.is_valid(sample | {"version": 2})
    assert (sample["data"]["message"] is not None) is ("messageId" in event.about)
    assert (sample["data"]["contact"] is not None) is ("contactId" in event.about)


def test_the_form_is_that_of_standard_webhooks() -> None:
    assert bodies.body(EVENT) == {
        "type": "message_received",
        "timestamp": EVENT["occurredAt"],
        "version": 1,
        "data": {**EVENT, "message": None, "contact": None},
    }
    assert bodies.body(EVENT, MESSAGE, CONTACT, 3)["sequence"] == 3


@pytest.mark.parametrize(
    ("content", "thin"),
    [("x", False), ("x" * 15_000, False), ("x" * 20_000, True), ("é" * 9_900, True), ("\n" * 9_900, True)],
)
def test_what_would_be_larger_than_twenty_thousand_bytes_is_thin(content: str, thin: bool) -> None:
    found = bodies.body(EVENT, MESSAGE | {"content": content}, CONTACT, 3)
    assert found.get("thin", False) is thin
    assert ("message" in found["data"], "contact" in found["data"]) == (not thin, not thin)
    assert bytes_of(found) < 20_000
    assert found["data"]["messageId"] == EVENT["messageId"]


def test_so_is_one_of_many_small_members_as_postgresql_writes_them_with_blanks() -> None:
    """What is sent is the stored text."""
    many = {f"k{n}": 1 for n in range(1_950)}
    assert bytes_of(full := {"data": {"message": MESSAGE | {"metadata": many}}}) < 20_000, full
    assert bodies.body(EVENT, MESSAGE | {"metadata": many}, CONTACT)["thin"] is True


def test_an_event_that_is_too_large_by_itself_has_its_ids_alone() -> None:
    found = bodies.body({**EVENT, "data": {"note": "x" * 30_000}}, MESSAGE, CONTACT)
    assert (found["thin"], found["data"]) == (True, {**EVENT, "data": {}})


def test_what_a_tenant_nested_deeply_by_sql_is_left_out() -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"a": deep}
    assert bodies.body(EVENT, MESSAGE | {"metadata": deep}, CONTACT)["thin"] is True


# -- messages and contacts as the API shows them -----------------------------------------------------------------------


def record(members: Any, **given: Any) -> Any:
    return make_dataclass("Row", members)(**{**dict.fromkeys(members), **given})


def message_row(**given: Any) -> Any:
    ids = {name: UUID(int=7) for name in ("id", "tenant_id", "conversation_id", "channel_id")}
    texts = dict.fromkeys(("provider", "message_type", "content", "status"), "x")
    return record(
        rows.MESSAGE, **{**ids, **texts, "direction": "inbound", "role": "user", "media": ({"url": "https://a"}, 7),
                         "metadata": {"a": 1}, "created_at": AT, "updated_at": AT, **given}
    )  # fmt: skip


def test_a_message_is_as_the_api_shows_it() -> None:
    for row in (message_row(), message_row(metadata="unreadable JSON", sent_at=AT, template={"name": "a"})):
        assert rows.message_json(row) == orjson.loads(Message.of(row).model_dump_json(by_alias=True))
    assert rows.message_json(message_row(template=[1]))["template"] is None


def test_a_contact_is_as_the_api_shows_it() -> None:
    row = record(rows.CONTACT, id=UUID(int=7), tenant_id=UUID(int=8), is_active=True, created_at=AT, updated_at=AT)
    assert rows.contact_json(row) == orjson.loads(Contact.of(row).model_dump_json(by_alias=True))


def test_the_samples_are_what_the_api_could_show() -> None:
    Message.model_validate_json(orjson.dumps(MESSAGE))
    Contact.model_validate_json(orjson.dumps(CONTACT))


def test_an_event_is_as_the_feeds_show_it() -> None:
    stored = StoredEvent(
        (7, 1), "contact.address_added", UUID(int=1), None, None, None, UUID(int=2), {"of_kind": "a", "list": [1]}, AT
    )
    found = event_json(Cursor(b"palomr", AT.date(), (7, 1)), stored)
    assert (found["name"], found["data"], found["occurredAt"]) == (
        "contact_updated", {"ofKind": "a", "change": "address_added"}, "2026-11-28T16:00:00Z",
    )  # fmt: skip
    Draft202012Validator(bodies.schema(next(one for one in EVENTS if one.name == "contact_updated"))).validate(
        bodies.body(found)
    )
