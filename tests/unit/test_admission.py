"""What becomes of a queued message, as a table: by its channel, the customer's consents and the window."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.actions.admission import Cancel, Unread, Verdict, as_it_is, decided, event_of, uses_limit, verdict_on
from shared.domain import sms_segments
from shared.domain.channels import Channel, ChannelSettings
from shared.domain.model import Template
from shared.domain.window import Admit, Fail, Hold
from shared.store.messages.outbound import Decided
from shared.store.messages.outbound_rows import Outbound

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TENANT, CHANNEL, CONVERSATION, MESSAGE = (UUID(int=number) for number in range(1, 5))
OPEN, CLOSED = NOW - timedelta(hours=1), NOW - timedelta(hours=30)
OWN, FALLBACK = Template("own"), Template("fallback")


def channel(kind: Any = "whatsapp", unread: frozenset[str] = frozenset(), **settings: Any) -> Channel:
    return Channel(
        CHANNEL, TENANT, None, "twilio", kind, "+1", "active", ChannelSettings(**settings), NOW, unread=unread
    )


def message(**fields: Any) -> Outbound:
    given: dict[str, Any] = {"content": "hola", "last_user_message_at": OPEN} | fields
    return Outbound(
        id=MESSAGE, tenant_id=TENANT, conversation_id=CONVERSATION, channel_id=CHANNEL, recipient="+2",
        contact_name="Ana", created_at=NOW, now=NOW, **given,
    )  # fmt: skip


HOLDS = channel(window={"policy": "hold", "hold_for": 60})
FAILS = channel(window={"policy": "fail"})
REPLACES = channel(window={"policy": "template", "template": {"name": "fallback"}})
UNREADABLE = channel(unread=frozenset({"window"}))
LONG = "x" * 2000


@pytest.mark.parametrize(
    ("given", "on", "verdict", "becomes", "event"),
    [
        ({}, HOLDS, Admit(), "ready", None),
        ({}, None, Cancel("channel_deleted"), "canceled", "message.canceled"),
        ({"last_user_message_at": CLOSED}, HOLDS, Hold(), "held", "message.held"),
        ({"last_user_message_at": CLOSED}, REPLACES, Admit(FALLBACK), "ready", None),
        ({"last_user_message_at": CLOSED, "template": OWN}, FAILS, Admit(OWN), "ready", None),
        ({"last_user_message_at": CLOSED}, UNREADABLE, Unread(), None, None),
        ({}, UNREADABLE, Admit(), "ready", None),
        ({"last_user_message_at": None}, channel("sms"), Admit(), "ready", None),
    ],
)
def test_a_queued_message_gets_the_decision_of_its_channel(
    given: dict[str, Any], on: Channel | None, verdict: Verdict, becomes: str | None, event: str | None
) -> None:
    one = message(**given)
    assert verdict_on(one, on) == verdict
    row = decided(one, on, verdict)
    assert (None if row is None else row.status) == becomes
    happened = event_of(one, row) if row is not None else None
    assert (None if happened is None else happened.name) == event


@pytest.mark.parametrize(
    ("given", "on", "code"),
    [
        ({"last_user_message_at": CLOSED}, FAILS, "window_closed"),
        ({"stopped_by": "all"}, HOLDS, "opted_out"),
        ({"stopped_by": "all"}, UNREADABLE, "opted_out"),  # whatever the policy says
        ({"content": LONG}, channel("sms"), sms_segments.TOO_LONG),
    ],
)
def test_a_message_that_may_not_leave_fails_with_its_code(given: dict[str, Any], on: Channel, code: str) -> None:
    one = message(**given)
    verdict = verdict_on(one, on)
    assert isinstance(verdict, Fail)
    row = decided(one, on, verdict)
    assert row is not None
    assert (row.status, row.error_code) == ("failed", code)
    happened = event_of(one, row)
    assert happened is not None
    assert (happened.name, happened.detail) == ("message.failed", {"error_code": code})


@pytest.mark.parametrize(
    ("given", "on", "row"),
    [
        ({"last_user_message_at": CLOSED}, REPLACES, {"sent_as": FALLBACK}),
        ({"template": OWN}, HOLDS, {}),  # its own is in its row already
        ({}, channel("sms"), {"facts": {"sms": {"segments": 1, "encoding": "gsm7"}}}),
    ],
)
def test_a_message_that_is_ready_says_in_what_form_it_leaves(
    given: dict[str, Any], on: Channel, row: dict[str, Any]
) -> None:
    one = message(**given)
    assert decided(one, on, verdict_on(one, on)) == Decided(TENANT, MESSAGE, "ready", **row)


@pytest.mark.parametrize(
    ("given", "on", "counts"),
    [
        ({"last_user_message_at": CLOSED}, REPLACES, True),
        ({"last_user_message_at": CLOSED, "template": OWN}, HOLDS, True),
        ({"template": OWN}, HOLDS, False),
        ({"last_user_message_at": CLOSED}, HOLDS, False),
        ({}, HOLDS, False),
    ],
)
def test_only_a_template_outside_the_window_counts_towards_the_messaging_limit(
    given: dict[str, Any], on: Channel, counts: bool
) -> None:
    one = message(**given)
    assert uses_limit(one, verdict_on(one, on)) is counts


@pytest.mark.parametrize(
    ("given", "on", "leaves"),
    [
        ({}, HOLDS, True),
        ({}, UNREADABLE, True),
        ({}, channel("sms"), True),
        ({"last_user_message_at": CLOSED}, HOLDS, False),
        ({"last_user_message_at": CLOSED}, REPLACES, False),  # the window counts it and puts the template in its place
        ({"last_user_message_at": CLOSED}, FAILS, False),
        ({"last_user_message_at": CLOSED}, UNREADABLE, False),
        ({"stopped_by": "all"}, HOLDS, False),
        ({"content": LONG}, channel("sms"), False),
    ],
)
def test_an_answer_is_ready_at_once_only_where_it_leaves_as_it_is(
    given: dict[str, Any], on: Channel, leaves: bool
) -> None:
    row = as_it_is(message(**given), on)
    assert (row is not None and row.status == "ready") is leaves
