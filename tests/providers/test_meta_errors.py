"""What Meta's error codes mean to us: the table, code by code."""

import pytest

from shared.providers.base import (
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    OptedOut,
    RecipientInvalid,
    Refusal,
    Throttled,
    Unreachable,
    WindowClosed,
)
from shared.providers.http_outcomes import Answer
from shared.providers.meta.errors import error_class, refusal, refusal_by_receipt, retryable, scrub

TABLE: dict[type[Refusal], list[int]] = {
    Throttled: [4, 80007, 130429, 133016, 131056, 131048, 131064, 131049, 130472, 134101],
    Unreachable: [131016, 131057, 131053],
    Ambiguous: [131000],
    WindowClosed: [131047],
    OptedOut: [131050],
    RecipientInvalid: [131026, 131021, 131030],
    ChannelBroken: [0, 3, 10, 190, *range(200, 300), 368, 131031, 131042, 131045, 133010, 130497, 131055],
    ContentRejected: [131008, 131009, 131051, *range(132000, 132017), 131063, 134100],
}
CODES = [(str(code), kind) for kind, codes in TABLE.items() for code in codes]


@pytest.mark.parametrize(("code", "kind"), CODES)
def test_a_code_has_its_class_in_an_answer_and_in_a_receipt(code: str, kind: type[Refusal]) -> None:
    assert error_class(code) is kind
    for status in (400, 500):  # with a code, a 5xx is Meta's own word
        error = refusal(Answer(status, code))
        assert (type(error), error.code) == (kind, code)


@pytest.mark.parametrize(
    ("code", "wait", "scope"),
    [
        ("131056", 6.0, "message"),  # one recipient's turn, not the channel's
        ("130429", None, "channel"),
        ("80007", None, "channel"),
        ("4", None, "channel"),
        ("131048", 3600.0, "channel"),
        ("131049", 25 * 3600.0, "message"),
        ("130472", 25 * 3600.0, "message"),
        ("134101", 600.0, "message"),
    ],
)
def test_how_long_and_for_whom_a_throttle_holds(code: str, wait: float | None, scope: str) -> None:
    assert refusal(Answer(400, code)) == Throttled(code, wait, "", scope)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("codes", "again"),
    [
        ([4, 80007, 130429, 131048, 131049, 130472, 131056, 134101], True),  # throttled
        ([131016, 131053, 131057, 131000], True),
        ([0, 10, 190, 200, 368, 131031, 131042, 133010, 131055], True),  # an operator repairs the channel
        ([132015], True),  # the template is paused, for hours
        ([132016, 132001, 132012, 131008, 131063, 134100], False),
        ([131026, 131021, 131030, 130497], False),
        ([131047, 131050, 999999], False),
        (["connect", "timeout", 401, 429], True),
        (["unknown", "resent", "opted_out", "content", 400, 500, ""], False),
    ],
)
def test_which_failures_are_worth_a_new_attempt(codes: list[int | str], again: bool) -> None:
    assert {code: retryable(str(code)) for code in codes} == dict.fromkeys(codes, again)


def test_the_longer_of_two_waits_holds() -> None:
    error = refusal(Answer(429, "131056", retry_after=30.0))
    assert isinstance(error, Throttled)
    assert error.retry_after == 30.0


def test_a_country_we_may_not_write_to_stops_no_channel() -> None:
    assert refusal(Answer(403, "130497")) == ChannelBroken("130497", "", "message")
    assert refusal(Answer(401, "190")) == ChannelBroken("190", "", "channel")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(500), Ambiguous),
        (Answer(503), Ambiguous),
        (Answer(503, "2"), Ambiguous),  # a code we have no class for says nothing
        (Answer(200), Ambiguous),
        (Answer(429), Throttled),
        (Answer(401), ChannelBroken),
        (Answer(404), ChannelBroken),
        (Answer(302), ChannelBroken),
        (Answer(400, "100", subcode="33"), ChannelBroken),  # the phone number id is nobody's
        (Answer(400, "100"), ContentRejected),
        (Answer(400), ContentRejected),
    ],
)
def test_without_a_known_code_the_status_decides(answer: Answer, kind: type[Refusal]) -> None:
    assert type(refusal(answer)) is kind


def test_a_receipt_says_for_whom_a_failure_holds_as_an_answer_does() -> None:
    assert refusal_by_receipt("131048") == Throttled("131048", 3600.0, "", "channel")
    assert refusal_by_receipt("131056") == Throttled("131056", 6.0, "", "message")
    assert refusal_by_receipt("131042") == ChannelBroken("131042", "", "channel")
    assert refusal_by_receipt("999999") is None


def test_an_unknown_code_has_no_error_class() -> None:
    assert error_class("999999") is None
    assert error_class("") is None


def test_no_number_and_no_token_stay_in_a_sentence() -> None:
    scrubbed = scrub("to 5215512345678 or +34600000001 with EAAGm0PX4ZCpsBAKZBZCZBZCZBZCZBZC failed (code 131026)")
    for secret in ("5215512345678", "600000001", "EAAGm0PX4ZCps"):
        assert secret not in scrubbed
    assert "131026" in scrubbed
