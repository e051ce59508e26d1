"""The 24-hour window: when a message may be sent and in what form, to the second."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.model import ChannelKind, Template
from shared.domain.window import LENGTH, MARGIN, Admit, Decision, Fail, Hold, Policy, closes_at, decide, is_open

NOW = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)
OWN, FALLBACK = Template("own"), Template("fallback")
AGO = timedelta


def of(
    ago: timedelta | None,
    policy: Policy = "hold",
    *,
    kind: ChannelKind = "whatsapp",
    template: Template | None = None,
    fallback: Template | None = FALLBACK,
    refused: timedelta | None = None,
) -> Decision:
    return decide(
        kind=kind,
        last_user_message_at=None if ago is None else NOW - ago,
        now=NOW,
        policy=policy,
        template=template,
        fallback=fallback,
        refused_at=None if refused is None else NOW - refused,
    )


@pytest.mark.parametrize(
    ("ago", "opened"),
    [
        (AGO(0), True),
        (AGO(hours=23, minutes=57, seconds=59), True),
        (AGO(hours=23, minutes=58) - AGO(microseconds=1), True),
        (AGO(hours=23, minutes=58), False),  # the margin: it leaves some time after it is admitted
        (AGO(hours=23, minutes=59, seconds=59), False),
        (AGO(hours=24), False),
        (AGO(hours=24, seconds=1), False),
        (AGO(days=400), False),
        (None, False),
    ],
)
def test_the_window_is_open_for_24_hours_less_two_minutes(ago: timedelta | None, opened: bool) -> None:
    assert is_open(None if ago is None else NOW - ago, NOW) is opened
    assert isinstance(of(ago), Admit) is opened


@given(st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=3)))
def test_it_closes_at_one_moment_and_for_good(ago: timedelta) -> None:
    last_message_at = NOW - ago
    end = closes_at(last_message_at)
    assert end == last_message_at + LENGTH - MARGIN
    assert is_open(last_message_at, NOW) == (end > NOW)


@pytest.mark.parametrize(
    ("policy", "fallback", "decision"),
    [
        ("template", FALLBACK, Admit(FALLBACK)),
        ("template", None, Fail),
        ("hold", FALLBACK, Hold()),
        ("hold", None, Hold()),
        ("fail", FALLBACK, Fail),
    ],
)
@pytest.mark.parametrize("ago", [None, AGO(hours=25)], ids=["never wrote", "wrote long ago"])
def test_what_each_policy_does_outside(
    ago: timedelta | None, policy: Policy, fallback: Template | None, decision: Decision | type[Fail]
) -> None:
    found = of(ago, policy, fallback=fallback)
    if decision is Fail:
        assert isinstance(found, Fail)
        assert found.code == "window_closed"
    else:
        assert found == decision


@pytest.mark.parametrize("policy", ["template", "hold", "fail"])
def test_inside_every_policy_lets_the_text_pass(policy: Policy) -> None:
    assert of(AGO(hours=1), policy) == Admit(None)


@pytest.mark.parametrize("ago", [None, AGO(hours=1), AGO(days=9)])
@pytest.mark.parametrize("policy", ["template", "hold", "fail"])
def test_a_template_always_passes_as_it_is(ago: timedelta | None, policy: Policy) -> None:
    assert of(ago, policy, template=OWN) == Admit(OWN)
    assert of(ago, policy, template=OWN, refused=AGO(0)) == Admit(OWN)


@pytest.mark.parametrize("kind", ["sms", "email"])
def test_other_channels_have_no_window(kind: ChannelKind) -> None:
    assert of(None, "fail", kind=kind) == Admit(None)


@pytest.mark.parametrize(
    ("last_message", "refused", "decision"),
    [
        (AGO(hours=2), AGO(hours=1), Hold()),  # the provider knows better than our clock
        (AGO(hours=1), AGO(hours=2), Admit(None)),  # until the customer writes again
        (AGO(hours=1), AGO(hours=1), Hold()),
        (None, AGO(hours=1), Hold()),
        (AGO(hours=25), AGO(hours=26), Hold()),
    ],
)
def test_the_providers_own_refusal_stands_until_the_customer_writes(
    last_message: timedelta | None, refused: timedelta, decision: Decision
) -> None:
    assert of(last_message, refused=refused) == decision
