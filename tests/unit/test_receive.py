"""What of a request is taken as a provider's, and how its parts are read: rules without I/O."""

from uuid import UUID

import pytest

from ingress.receive.app import origin_form, printable
from ingress.receive.endpoint import Endpoint
from ingress.receive.refusals import REFUSALS
from ingress.receive.routing import WEBHOOKS, spec_at


@pytest.mark.parametrize(
    ("target", "signed"),
    [
        ("/webhooks/twilio/x", "/webhooks/twilio/x"),
        ("/a%2fb?x=%2F&y=+%20", "/a%2fb?x=%2F&y=+%20"),  # as it was sent: the signature is over these very bytes
        ("//double/slash?a", "//double/slash?a"),
        ("http://evil.example/webhooks?x=1", "/webhooks?x=1"),
        ("http://evil.example", "/"),
        ("*", "*"),
    ],
)
def test_only_path_and_query_of_a_request_line_count(target: str, signed: str) -> None:
    assert origin_form(target) == signed


@pytest.mark.parametrize(
    ("provider", "rest", "taken"),
    [
        ("twilio", "", True),
        ("twilio", "status", True),
        ("twilio", "status/more", False),
        ("twilio", "other", False),
        ("meta", "", True),
        ("meta", "status", False),
        ("kommo", "", False),  # its secret is missing
        ("kommo", "a-secret", True),
        ("kommo", "a-secret/more", False),
        ("kommo", "chats", True),
        ("kommo", "chats/scope", True),
        ("kommo", "chats/scope/more", False),
        ("email", "", False),
        ("email", "a-secret", True),
        ("nobody", "", False),
        ("", "", False),
    ],
)
def test_where_webhooks_are_taken(provider: str, rest: str, taken: bool) -> None:
    """The parts of the path behind /webhooks/PROVIDER/ENDPOINT."""
    assert (spec_at(provider, rest.split("/") if rest else []) is not None) is taken
    if taken:  # an empty part is another path
        assert spec_at(provider, [*rest.split("/"), ""]) is None


def test_what_comes_to_twilios_status_path_is_a_receipt_whatever_it_holds() -> None:
    status, usual = spec_at("twilio", ["status"]), spec_at("twilio", [])
    assert status is not None
    assert status.only_receipts(b"Body=hello")
    assert usual is not None
    assert not usual.only_receipts(b"MessageStatus=read")


@pytest.mark.parametrize(
    ("media_type", "query", "taken"),
    [
        ("application/x-www-form-urlencoded", "", True),
        ("application/x-www-form-urlencoded", "bodySHA256=00", True),
        ("application/json", "bodySHA256=00", True),
        ("application/cloudevents+json", "a=b&bodySHA256=00", True),
        ("application/json", "", False),
        ("application/json", "xbodySHA256", False),
        ("multipart/form-data", "bodySHA256=00", False),
        ("text/plain", "", False),
        ("", "", False),
    ],
)
def test_twilio_posts_forms_and_json_with_its_hash(media_type: str, query: str, taken: bool) -> None:
    assert WEBHOOKS["twilio"].accepts(media_type, query) is taken


def test_header_bytes_that_are_no_text_become_question_marks() -> None:
    assert printable("plain") == "plain"
    assert printable("café") == "café"
    assert printable("caf\udce9") == "caf?"


def test_every_refusal_is_an_error_with_a_sentence() -> None:
    for reason, refusal in REFUSALS.items():
        assert 400 <= refusal.status < 600, reason
        assert refusal.text.endswith("."), reason


def test_all_endpoints_of_a_tenant_count_as_one() -> None:
    """It makes one with each number of Meta's that it writes by SQL."""
    theirs, shared = UUID(int=7), UUID(int=3)
    assert {Endpoint(UUID(int=number), theirs, "meta", None).owner for number in (1, 2)} == {theirs}
    assert Endpoint(shared, None, "meta", None).owner == shared
