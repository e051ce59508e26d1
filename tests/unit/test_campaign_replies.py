"""What answers a campaign, and what a recipient becomes by it, as a table."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from shared.domain.campaigns.answers import Answer, Kind, Written, becomes

SENT = datetime(2026, 11, 28, 12, tzinfo=UTC)
MESSAGE, ANOTHER = UUID(int=1), UUID(int=2)


def written(status: str = "delivered", recipient: str = "delivered") -> Written:
    left_at = None if status in ("ready", "failed") else SENT
    return Written(MESSAGE, status, left_at, recipient, timedelta(hours=72))


@pytest.mark.parametrize(
    ("kind", "hours", "to", "becoming"),
    [
        ("replied", 0.0, written(), "replied"),
        ("replied", 72.0, written(), "replied"),
        ("replied", 72.1, written(), None),
        ("replied", -1.0, written(), None),  # they wrote before
        ("opted_out", 1.0, written(), "opted_out"),
        ("opted_out", 72.1, written(), None),
        ("replied", 1.0, written(recipient="replied"), None),
        ("opted_out", 1.0, written(recipient="replied"), "opted_out"),
        ("replied", 1.0, written(recipient="opted_out"), None),
        ("replied", 1.0, written("sending", "queued"), "replied"),  # faster than the provider's answer to our call
        ("replied", 1.0, written("unknown", "unknown"), "replied"),
        ("replied", 1.0, written("ready", "queued"), None),
        ("replied", 1.0, written("failed", "failed"), None),
        ("opted_out", 1.0, written("failed", "failed"), None),
    ],
)
def test_an_answer(kind: Kind, hours: float, to: Written, becoming: Kind | None) -> None:
    assert becomes(Answer(kind, SENT + timedelta(hours=hours)), to) == becoming


def test_a_refusal_is_of_its_own_message_alone() -> None:
    refused = written("failed", "failed")
    assert becomes(Answer("opted_out", SENT, MESSAGE), refused) == "opted_out"
    assert becomes(Answer("opted_out", SENT, ANOTHER), refused) is None
