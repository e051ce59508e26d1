"""Which events a webhook gets, as tables."""

from typing import Any
from uuid import UUID

import pytest

from shared.domain.public_events import NAMES
from shared.domain.webhooks.matching import (
    ABOUT_DELIVERIES,
    EventFacts,
    WebhookFilter,
    leads_to_events,
    tags_of,
    wants,
)

WEBHOOK, OTHER = UUID(int=1), UUID(int=2)
CHANNEL, ELSEWHERE = UUID(int=3), UUID(int=4)


@pytest.mark.parametrize(
    ("events", "name", "wanted"),
    [
        (("*",), "message_received", True),
        (("*",), "other", True),
        (("*",), "webhook_disabled", True),
        (("message_*",), "message_received", True),
        (("message_*",), "messages", False),
        (("message_*",), "conversation_updated", False),
        (("message_received",), "message_received", True),
        (("message_received",), "message_received_late", False),
        (("message",), "message_received", False),
        (("contact_created", "message_held"), "message_held", True),
        ((), "message_received", False),
        (("",), "message_received", False),
        (("*",), "webhook_triggered", False),
        (("webhook_*",), "webhook_triggered", False),
        (("webhook_triggered*",), "webhook_triggered", False),
        (("webhook_triggered",), "webhook_triggered", True),
        (("webhook_*",), "webhook_failing", True),
    ],
)
def test_names(events: tuple[str, ...], name: str, wanted: bool) -> None:
    assert wants(WebhookFilter(WEBHOOK, events), EventFacts(name, webhook_id=OTHER)) is wanted


@pytest.mark.parametrize(
    ("asked", "event", "wanted"),
    [
        ({}, {}, True),
        ({"channel_ids": {CHANNEL}}, {"channel_id": CHANNEL}, True),
        ({"channel_ids": {CHANNEL, ELSEWHERE}}, {"channel_id": ELSEWHERE}, True),
        ({"channel_ids": {CHANNEL}}, {"channel_id": ELSEWHERE}, False),
        ({"channel_ids": {CHANNEL}}, {}, False),
        ({"direction": "inbound"}, {"direction": "inbound"}, True),
        ({"direction": "inbound"}, {"direction": "outbound"}, False),
        ({"direction": "outbound"}, {}, False),
        ({"tags": {"vip", "new"}}, {"tags": {"new", "far"}}, True),
        ({"tags": {"vip"}}, {"tags": {"VIP"}}, False),
        ({"tags": {"vip"}}, {}, False),
        (
            {"channel_ids": {CHANNEL}, "direction": "inbound", "tags": {"vip"}},
            {"channel_id": CHANNEL, "direction": "inbound", "tags": {"vip"}},
            True,
        ),
        (
            {"channel_ids": {CHANNEL}, "direction": "inbound", "tags": {"vip"}},
            {"channel_id": CHANNEL, "direction": "inbound", "tags": {"new"}},
            False,
        ),
    ],
)
def test_filters(asked: dict[str, Any], event: dict[str, Any], wanted: bool) -> None:
    sets: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, set) else value for name, value in asked.items()
    }
    facts: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, set) else value for name, value in event.items()
    }
    assert wants(WebhookFilter(WEBHOOK, ("*",), **sets), EventFacts("message_received", **facts)) is wanted


@pytest.mark.parametrize("name", NAMES)
def test_a_webhook_gets_nothing_about_deliveries_to_itself(name: str) -> None:
    """Else each delivery of such an event would be followed by another one."""
    both = WebhookFilter(WEBHOOK, ("*", name))
    about_itself = wants(both, EventFacts(name, webhook_id=WEBHOOK))
    assert about_itself is (name not in ABOUT_DELIVERIES)
    assert wants(both, EventFacts(name, webhook_id=OTHER))
    assert leads_to_events(name) is about_itself


@pytest.mark.parametrize(
    ("metadata", "tags"),
    [
        ({"tags": ["vip", "new", "vip"]}, {"vip", "new"}),
        ({"tags": ["vip", 7, None, ["x"]]}, {"vip"}),
        ({"tags": "vip"}, set()),
        ({"tags": {"vip": True}}, set()),
        ({}, set()),
        (None, set()),
        (["tags"], set()),
        ("unreadable JSON", set()),
    ],
)
def test_tags_of_a_contact(metadata: object, tags: set[str]) -> None:
    assert tags_of(metadata) == tags
