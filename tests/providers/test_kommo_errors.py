"""What each refusal of Kommo's means, as a table; and that nothing private is kept of its sentences."""

import pytest

from shared.providers.base import (
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    RecipientInvalid,
    Refusal,
    Throttled,
)
from shared.providers.http_outcomes import Answer
from shared.providers.kommo.errors import error_class, refusal, retryable


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("901", RecipientInvalid),
        ("902", ChannelBroken),
        ("903", Ambiguous),
        ("904", RecipientInvalid),
        ("905", ContentRejected),
        ("906", None),
        ("", None),
    ],
)
def test_each_code_has_its_class(code: str, kind: type[Refusal] | None) -> None:
    assert error_class(code) is kind
    if kind is not None:
        assert refusal(Answer(400, code, "no")) == kind(code, detail="no")


def test_which_failures_are_worth_a_new_attempt() -> None:
    codes = ["901", "902", "903", "904", "905", "401", "402", "429", "connect", "unknown", "500", "906", ""]
    assert [code for code in codes if retryable(code)] == ["902", "401", "402", "429", "connect"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, Ambiguous), (204, Ambiguous), (301, ChannelBroken), (302, ChannelBroken), (400, ContentRejected),
        (401, ChannelBroken), (402, ChannelBroken), (403, ChannelBroken), (404, ChannelBroken), (405, ChannelBroken),
        (408, Ambiguous), (409, ContentRejected), (410, ChannelBroken), (413, ContentRejected), (422, ContentRejected),
        (429, Throttled), (500, Ambiguous), (502, Ambiguous), (503, Ambiguous), (504, Ambiguous), (599, Ambiguous),
    ],
)  # fmt: skip
def test_each_status_without_a_code_has_its_class(status: int, kind: type[Refusal]) -> None:
    error = refusal(Answer(status))
    assert type(error) is kind
    assert error.code == str(status)


def test_a_code_that_is_not_known_leaves_it_to_the_status() -> None:
    assert refusal(Answer(400, "453", "second user")) == ContentRejected("453", "second user")
    assert refusal(Answer(502, "453")) == Ambiguous("453")


def test_a_throttle_waits_as_long_as_kommo_asks() -> None:
    assert refusal(Answer(429, retry_after=7.0)) == Throttled("429", 7.0)


def test_no_number_of_a_customers_is_kept() -> None:
    error = refusal(Answer(400, message="+5215512345678 is not registered " + "x" * 1000))
    assert "5512345" not in error.detail
    assert len(error.detail) == 500
