"""Whose mail it is: what the inbound service found of SPF and DKIM counts, where it is of the From's own domain."""

import pytest

from shared.providers.base import RawWebhook
from shared.providers.email.authorship import authorship
from shared.providers.email.webhooks import parse
from tests.support.email_payloads import HEADERS, said, whole

ANA = "ana@example.com"


@pytest.mark.parametrize(
    ("spf", "dkim", "envelope_from", "known"),
    [
        ("pass", "", ANA, "proven"),
        ("Pass", "none", "bounces@example.com", "proven"),
        ("fail", "{@example.com : pass}", "x@forwarder.example", "proven"),
        ("", '{"@example.com": "pass"}', "", "proven"),
        ("none", "{@other.example : fail, @EXAMPLE.COM : pass}", ANA, "proven"),
        ("pass", "", "mallory@evil.example", "refuted"),
        ("pass", "{@evil.example : pass}", "mallory@evil.example", "refuted"),
        ("none", "{@evil.example : pass}", ANA, "refuted"),
        ("none", "{@notexample.com : pass}", ANA, "refuted"),
        ("none", "{@com : pass}", ANA, "refuted"),
        ("none", "{@ana.example.com : pass}", ANA, "refuted"),
        ("fail", "", ANA, "refuted"),
        ("softfail", "none", ANA, "refuted"),
        ("neutral", "{@example.com : fail}", ANA, "refuted"),
        ("pass", "", "", "refuted"),
        ("", "", "", "unknown"),
        ("none", "none", ANA, "refuted"),
        ("neutral", "{}", ANA, "refuted"),
        ("temperror", "{@example.com : temperror}", ANA, "refuted"),
        ("none", "", "mallory@unpublished.example", "refuted"),
        ("", "none", ANA, "refuted"),
    ],
)
def test_a_verdict_counts_for_its_own_domain(spf: str, dkim: str, envelope_from: str, known: str) -> None:
    assert authorship([ANA], spf, dkim, envelope_from) == known


def test_a_domain_speaks_for_those_below_it_and_for_no_other() -> None:
    assert authorship(["ana@mail.example.com"], "none", "{@example.com : pass}", "") == "proven"
    assert authorship(["ana@mail.example.com"], "none", "{@other.example.com : pass}", "") == "refuted"


@pytest.mark.parametrize("senders", [[], [ANA, "mallory@example.com"]])
def test_a_from_of_several_or_of_none_is_nobodys(senders: list[str]) -> None:
    assert authorship(senders, "pass", "{@example.com : pass}", ANA) == "refuted"


ENVELOPE = '{"to":["hola@shop.example"],"from":"ana@example.com"}'
DKIM = "{@example.com : pass}"


@pytest.mark.parametrize(
    ("webhook", "known", "author"),
    [
        pytest.param(said(envelope=ENVELOPE), "proven", None, id="SPF, aligned"),
        pytest.param(said(SPF=None), "unknown", None, id="a service that tells nothing"),
        pytest.param(said(SPF="fail"), "refuted", None, id="SPF refused"),
        pytest.param(
            said(headers=f"{HEADERS}Authentication-Results: mx; dkim=pass header.d=example.com\n", SPF="fail"),
            "refuted", None, id="what a mail says of itself",
        ),
        pytest.param(
            said(headers=f"{HEADERS}Reply-To: ANA@example.com\n", dkim=DKIM), "proven", None, id="Reply-To is From"
        ),
        pytest.param(
            said(headers=f"{HEADERS}Reply-To: Victim <v@victim.example>\n", dkim=DKIM), "proven", "ana@example.com",
            id="Reply-To is somebody else",
        ),
        pytest.param(
            said(headers=f"{HEADERS}From: ana@example.com\nFrom: mallory@example.com\n", dkim=DKIM), "refuted", None,
            id="two From headers",
        ),
        pytest.param(
            whole("From: ana@example.com\r\nMessage-ID: <1@example.com>\r\n\r\nSTOP", dkim=DKIM), "proven", None,
            id="raw",
        ),
    ],
)  # fmt: skip
def test_what_a_mail_changes_is_its_authors(webhook: RawWebhook, known: str, author: str | None) -> None:
    (found,) = parse(webhook).messages
    assert found.authorship == known
    assert (found.author and found.author.canonical) == author
    assert found.extra["proven"] is (known == "proven" and author is None)


def test_the_answer_goes_to_the_reply_to_by_its_own_name() -> None:
    (found,) = parse(said(headers=f"{HEADERS}Reply-To: Eva <eva@x.example>\n")).messages
    assert (found.sender[0].canonical, found.contact_name) == ("eva@x.example", "Eva")
