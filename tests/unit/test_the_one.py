"""Which entry of a provider's list is a message of unknown outcome: the one that can be no other message."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.db import new_id
from shared.forms import PLAIN
from shared.providers.base import SentRecord, Template
from shared.resolving import the_one
from shared.store.messages import Outbound

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEMPLATE = Template("HX1", {})


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def claimed(seconds: float, text: str = "hola", *, sent_as: Template | None = None) -> Outbound:
    """A message claimed so long after noon, and unknown ten seconds later."""
    return Outbound(
        id=new_id(),
        tenant_id=new_id(),
        conversation_id=new_id(),
        channel_id=new_id(),
        status="unknown",
        lane="normal",
        content=text,
        media=(),
        form=PLAIN,
        template=None,
        sent_as=sent_as,
        window_policy=None,
        window_refused_at=None,
        attempts=1,
        created_at=at(seconds),
        admitted_at=at(seconds),
        claimed_at=at(seconds),
        unknown_at=at(seconds + 10),
        expires_at=None,
        not_before=None,
        recipient="+34600000001",
        contact_name=None,
        last_user_message_at=None,
        now=at(3600),
    )


def listed(seconds: float, text: str = "hola", name: str = "SM1") -> SentRecord:
    return SentRecord(name, text, "sent", at(seconds))


UNDER_WAY = replace(claimed(-60), status="sending", unknown_at=None)


@pytest.mark.parametrize(
    ("message", "entries", "rivals", "found"),
    [
        pytest.param(claimed(0), [listed(1)], [], "SM1", id="the only one of its text"),
        pytest.param(claimed(0), [], [], None, id="nothing listed"),
        pytest.param(claimed(0), [listed(1, "adiós")], [], None, id="another text"),
        pytest.param(claimed(0, sent_as=TEMPLATE), [listed(1, "Hola, Ana")], [], "SM1", id="a template of any text"),
        pytest.param(claimed(0), [listed(-4)], [], "SM1", id="the provider's clock is a little behind"),
        pytest.param(claimed(0), [listed(-6)], [], None, id="from before the call"),
        pytest.param(claimed(0), [listed(16)], [], None, id="from after it was unknown"),
        pytest.param(claimed(0), [listed(1), listed(2, name="SM2")], [], None, id="two of its text"),
        pytest.param(claimed(0), [listed(6)], [claimed(8)], None, id="may be that of another of the same text"),
        pytest.param(claimed(8), [listed(6)], [claimed(0)], None, id="and the other way round"),
        pytest.param(claimed(0), [listed(1)], [UNDER_WAY], None, id="of another that is still under way"),
        pytest.param(claimed(0), [listed(1)], [claimed(8)], "SM1", id="too early for the other"),
        pytest.param(claimed(0), [listed(1)], [claimed(0, "adiós")], "SM1", id="the other has another text"),
        pytest.param(claimed(0), [listed(1)], [claimed(0, sent_as=TEMPLATE)], None, id="a template may read the same"),
    ],
)
def test_an_entry_is_taken_only_where_it_can_be_no_other_message(
    message: Outbound, entries: Sequence[SentRecord], rivals: Sequence[Outbound], found: str | None
) -> None:
    one = the_one(message, entries, rivals)
    assert (one.external_id if one else None) == found
