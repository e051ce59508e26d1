"""Which entry of a provider's list is a message of unknown outcome: the one that can be no other message; and what
follows where there is none."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.database import new_id
from shared.domain.channels import Unknown
from shared.domain.model import Template
from shared.providers.base import SentRecord
from shared.store.messages.outbound_rows import Outbound
from workers.send.unknown_lookup import NOTHING, LookupResult, Step, match_sent_message, step

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
        content=text,
        sent_as=sent_as,
        attempts=1,
        created_at=at(seconds),
        admitted_at=at(seconds),
        claimed_at=at(seconds),
        unknown_at=at(seconds + 10),
        recipient="+34600000001",
        contact_name=None,
        last_user_message_at=None,
        now=at(3600),
    )


def listed(seconds: float, text: str = "hola", name: str = "SM1") -> SentRecord:
    return SentRecord(name, text, "sent", at(seconds))


UNDER_WAY = replace(claimed(-60), status="sending", unknown_at=None)


@pytest.mark.parametrize(
    ("message", "entries", "candidates", "found"),
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
    message: Outbound, entries: Sequence[SentRecord], candidates: Sequence[Outbound], found: str | None
) -> None:
    one = match_sent_message(message, entries, candidates)
    assert (one.external_id if one else None) == found


ABSENT, FOUND = LookupResult(absent=True), LookupResult(listed(1))


@pytest.mark.parametrize(
    ("looked", "policy", "unknown_for", "absent_for", "expected"),
    [
        pytest.param(FOUND, "give_up", 700, None, "sent", id="found, however late"),
        pytest.param(FOUND, None, 30, None, "sent", id="found, and the policy can't be read"),
        pytest.param(NOTHING, "give_up", 30, None, "look_again", id="no list"),
        pytest.param(NOTHING, "give_up", 700, None, "give_up", id="no list for long"),
        pytest.param(NOTHING, "ask", 700, None, "ask", id="a person is asked"),
        pytest.param(NOTHING, None, 700, None, "look_again", id="the policy can't be read"),
        pytest.param(ABSENT, "give_up", 30, None, "look_again", id="absent, and never to be sent anew"),
        pytest.param(ABSENT, "ask", 700, 600, "ask", id="absent for long, and a person is asked"),
        pytest.param(ABSENT, "resend_if_absent", 30, None, "absent", id="absent for the first time"),
        pytest.param(ABSENT, "resend_if_absent", 60, 59, "absent", id="absent, and too soon"),
        pytest.param(ABSENT, "resend_if_absent", 90, 60, "resend", id="absent twice, a minute apart"),
        pytest.param(ABSENT, "resend_if_absent", 700, None, "absent", id="the list was away until now"),
        pytest.param(NOTHING, "resend_if_absent", 90, 60, "look_again", id="the second look found nothing"),
        pytest.param(NOTHING, "resend_if_absent", 700, 60, "give_up", id="and never will"),
    ],
)
def test_what_follows_from_a_look(
    looked: LookupResult, policy: Unknown | None, unknown_for: float, absent_for: float | None, expected: Step
) -> None:
    follows = step(
        looked,
        policy,
        unknown_for=timedelta(seconds=unknown_for),
        absent_for=None if absent_for is None else timedelta(seconds=absent_for),
        give_up_after=timedelta(seconds=600),
        look_apart=timedelta(seconds=60),
    )
    assert follows == expected


def test_what_belonged_to_a_deleted_channel_is_given_up() -> None:
    waits = {"give_up_after": timedelta(seconds=600), "look_apart": timedelta(seconds=60)}
    assert step(NOTHING, None, deleted=True, unknown_for=timedelta(hours=1), absent_for=None, **waits) == "give_up"
