"""What each of Twilio's refusals means for the message, the customer and the channel."""

from datetime import UTC, datetime

import pytest

from shared.providers.base import (
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    OptedOut,
    RecipientInvalid,
    Refusal,
    Throttled,
    WindowClosed,
)
from shared.providers.http_client import retry_after
from shared.providers.http_outcomes import Answer
from shared.providers.twilio.errors import error_class, refusal, refusal_by_receipt, retryable

MEXICAN = "+5215512345678"
CODES: dict[type[Refusal], str] = {
    Throttled: "20429 63018 14107 21611 30001 30022 30017 63009 63010 63012 63017 63049",
    WindowClosed: "63016",
    OptedOut: "21610 63014 63033",
    RecipientInvalid: "21211 21614 21612 30005 30006 63003 63024 63032",
    ChannelBroken: "20003 21606 21408 21656 30002 63005 63007 63013 63021 63027 63028 63040 63041 63062",
    ContentRejected: "30004 30007",
}


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in CODES.items() for code in codes.split()])
def test_a_code_means_the_same_in_an_answer_and_in_a_receipt(kind: type[Refusal], code: str) -> None:
    assert error_class(code) is kind
    assert isinstance(refusal(Answer(400, code), MEXICAN), kind)


@pytest.mark.parametrize(
    ("codes", "again"),
    [
        ("429 20429 63018 21611 30001 30022 63049 63038", True),  # throttled
        ("20003 21606 30002 63007 63062 21408", True),  # an operator repairs the channel
        ("63041 30003 30008 connect 401", True),
        ("21211 21614 30005 30006 63003 63024 63032", False),
        ("63016 21610 63014 30007 21656 63013 63021 63027 63028 63040", False),
        ("unknown resent opted_out 400 500 99999", False),
    ],
)
def test_which_failures_are_worth_a_new_attempt(codes: str, again: bool) -> None:
    assert {code: retryable(code) for code in codes.split()} == dict.fromkeys(codes.split(), again)


@pytest.mark.parametrize("code", ["", "30008", "99999", "63016x", "x" * 1000])
def test_a_code_we_do_not_know_has_no_class(code: str) -> None:
    assert error_class(code) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(Answer(400, "21617"), ContentRejected("21617"), id="an unknown code refuses the message"),
        pytest.param(Answer(400), ContentRejected("400"), id="no code refuses the message"),
        pytest.param(Answer(422, "1"), ContentRejected("1"), id="any other 4xx refuses the message"),
        pytest.param(Answer(401), ChannelBroken("401"), id="unauthorised"),
        pytest.param(Answer(403, "1"), ChannelBroken("1"), id="forbidden"),
        pytest.param(Answer(404, "20404"), ChannelBroken("20404"), id="no such account"),
        pytest.param(Answer(403, "21610"), OptedOut("21610"), id="the code decides before the status"),
        pytest.param(Answer(307), ChannelBroken("307"), id="a redirect is not Twilio"),
        pytest.param(Answer(500), Ambiguous("500"), id="5xx"),
        pytest.param(Answer(503, "20429"), Ambiguous("20429"), id="5xx whatever its code"),
        pytest.param(Answer(100), Ambiguous("100"), id="a status that makes no sense"),
        pytest.param(Answer(429), Throttled("429"), id="throttled, our own backoff"),
        pytest.param(Answer(429, "20429", "", 7.0), Throttled("20429", 7.0), id="throttled, Retry-After"),
        pytest.param(Answer(429, "63018", "", 7.0), Throttled("63018", 60.0), id="the longer wait wins"),
        pytest.param(Answer(400, "30001", "", 90.0), Throttled("30001", 90.0), id="the longer wait wins again"),
        pytest.param(Answer(429, "63016"), Throttled("63016"), id="429 is throttled whatever its code"),
    ],
)
def test_an_answer_has_one_class(answer: Answer, expected: Refusal) -> None:
    assert refusal(answer, MEXICAN) == expected


def test_the_marketing_limit_is_a_day_and_for_americans_for_good() -> None:
    later = refusal(Answer(400, "63049"), MEXICAN)
    assert isinstance(later, Throttled)
    assert later.retry_after is not None
    assert later.retry_after >= 24 * 3600
    assert refusal(Answer(400, "63049"), "+14155551212") == ContentRejected("63049")
    assert isinstance(refusal(Answer(400, "63049"), "US.13491208655302741918"), Throttled)


def test_a_receipt_says_for_whom_a_failure_holds_as_an_answer_does() -> None:
    assert refusal_by_receipt("63018") == Throttled("63018", 60.0, "", "channel")
    assert refusal_by_receipt("30002") == ChannelBroken("30002", "", "channel")
    assert refusal_by_receipt("63013") == ChannelBroken("63013", "", "message")
    assert refusal_by_receipt("30003") is None


def test_a_detail_names_no_number_and_is_short() -> None:
    said = refusal(Answer(400, "21211", "'To' number whatsapp:+5215512345678 is not valid. " * 50), MEXICAN)
    assert "+52***78" in said.detail
    assert "5512345678" not in said.detail
    assert len(said.detail) <= 500


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("999999999", 86400.0),
        ("Fri, 01 Mar 2024 12:00:30 GMT", 30.0),
        ("Fri, 01 Mar 2024 11:00:00 GMT", 0.0),
        ("Fri, 01 Mar 2024 12:00:30 -0000", 30.0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("Fri, 99 Mar 99999 12:00:30 GMT", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, datetime(2024, 3, 1, 12, tzinfo=UTC)) == seconds
