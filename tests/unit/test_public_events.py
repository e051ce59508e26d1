"""Every event that we record has a public name of its own, with a schema and a sample that fit."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from shared.domain import public_events
from shared.domain.event_cursor import Cursor
from shared.domain.public_events import EVENTS, NAMES, OTHER, PublicEvent, public_of

ROOT = Path(__file__).resolve().parents[2]
OF_THE_FIFTH_DOCUMENT = (
    "contact_created", "contact_updated", "contact_deleted", "group_created", "group_updated", "group_deleted",
    "campaign_created", "campaign_updated", "campaign_deleted", "campaign_status_changed", "template_created",
    "template_updated", "template_deleted", "webhook_created", "webhook_updated", "webhook_deleted",
    "webhook_triggered",
)  # fmt: skip
OURS = (
    "message_received", "message_status_changed", "message_held", "conversation_updated", "window_expiring",
    "channel_stopped", "campaign_progress",
)  # fmt: skip
NAME = re.compile(r"[a-z_]+\.([a-z_]+|\*)")


def recorded_in_python(path: Path) -> list[str]:
    """The names of events that this module records; what is computed of a name is `*`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called not in ("Event", "_event") or "trpc" in path.parts:  # an `event` of server-sent events is another
            continue
        match node.args[0]:
            case ast.Constant(value=str(name)):
                found.append(name)
            case ast.JoinedStr(values=parts):
                found.append("".join(str(one.value) if isinstance(one, ast.Constant) else "*" for one in parts))
    return found


def recorded_in_sql(text: str) -> list[str]:
    """The names of events that these statements record."""
    found = []
    # The events of `unnest` are made in Python.
    for statement in re.findall(r"INSERT INTO events\b.*?(?:FROM (?!unnest)|;|\Z)", text, re.DOTALL):
        found += re.findall(r"'([a-z_]+\.[a-z_]+)'", statement)
    return found


def recorded() -> set[str]:
    found: set[str] = set()
    for room in ("shared", "workers", "ingress", "ops"):
        for path in (ROOT / room).rglob("*.py"):
            found |= {*recorded_in_python(path), *recorded_in_sql(path.read_text())}
    for path in (ROOT / "schema" / "migrations").glob("*.sql"):
        found |= set(recorded_in_sql(path.read_text()))
    return found


def test_every_event_that_is_recorded_has_a_public_name() -> None:
    names = recorded()
    assert {"contact.created", "message.received", "contact.joined", "campaign.paused", "consent.*"} <= names
    assert [name for name in names if not NAME.fullmatch(name)] == []
    assert sorted(name for name in names if public_of(name)[0] is OTHER) == []


def test_the_names_are_those_that_users_know() -> None:
    assert {*OF_THE_FIFTH_DOCUMENT, *OURS} <= set(NAMES)
    assert len(set(NAMES)) == len(NAMES)
    sources = [source for event in EVENTS for source in event.sources]
    assert len(set(sources)) == len(sources)


@pytest.mark.parametrize(
    ("source", "name", "added"),
    [
        ("contact.created", "contact_created", {}),
        ("contact.address_added", "contact_updated", {"change": "address_added"}),
        ("message.delivered", "message_status_changed", {"status": "delivered"}),
        ("message.canceled", "message_status_changed", {"status": "canceled"}),
        ("message.held", "message_held", {}),
        ("campaign.progress", "campaign_progress", {}),
        ("campaign.paused", "campaign_status_changed", {"status": "paused"}),
        ("conversation.escalated", "conversation_updated", {"change": "escalated"}),
        ("message_template.approved", "template_updated", {"change": "approved"}),
        ("shop.order_paid", "other", {"event": "shop.order_paid"}),
        ("contact", "other", {"event": "contact"}),
        ("contact.", "other", {"event": "contact."}),
        ("*", "other", {"event": "*"}),
        ("contact.*", "contact_updated", {"change": "*"}),
        ("", "other", {"event": ""}),
    ],
)
def test_a_name_of_ours_becomes_a_public_one(source: str, name: str, added: dict[str, str]) -> None:
    event, facts = public_of(source)
    assert (event.name, facts) == (name, added)


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_a_sample_fits_its_schema(event: PublicEvent) -> None:
    schema, sample = event.schema(), event.sample()
    assert set(sample) == set(schema["required"]) == set(schema["properties"])
    assert sample["name"] == schema["properties"]["name"]["const"]
    Cursor.parse(sample["id"])
    data: dict[str, Any] = schema["properties"]["data"]
    assert set(data["required"]) <= set(sample["data"])
    assert set(sample["data"]) <= set(data["properties"]) or event is public_events.OTHER
    kinds = {"string": str, "integer": int, "number": float}
    for name, value in sample["data"].items():
        if name in data["properties"]:
            assert isinstance(value, kinds[data["properties"][name]["type"]])
