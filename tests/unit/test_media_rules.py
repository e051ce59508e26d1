"""What becomes of a file: reasons and states, waits, limits, hashes; whom a provider's credentials are for. Tables."""

import base64
import hashlib
import json
from typing import get_args
from uuid import UUID

import pytest
from yarl import URL

from shared.domain.media import REFUSED, Failure, Limits, Reason, digest_of, key_of, name_of, of_status, wait_after
from shared.domain.model import Media
from shared.providers import provider
from shared.providers.media_source import Direct, Get, Located
from shared.settings import Settings
from tests.support.processes import ROOT

TWILIO = json.dumps({"account_sid": "AC" + "5a" * 16, "auth_token": "secret"})
META = json.dumps({"access_token": "EAAsecret"})
GRAPH = "https://graph.facebook.com/v24.0"
SETTINGS = Settings(_env_file=None)
DIGEST = hashlib.sha256(b"a picture").digest()


@pytest.mark.parametrize(
    ("status", "reason", "ends_at_once_as"),
    [
        (200, None, None),
        (206, "rejected", "refused"),
        (304, "rejected", "refused"),
        (400, "rejected", "refused"),
        (401, "forbidden", "refused"),
        (403, "forbidden", "refused"),
        (404, "gone", None),
        (408, "timeout", None),
        (410, "gone", "expired"),
        (429, "throttled", None),
        (500, "server_error", None),
        (503, "server_error", None),
    ],
)
def test_what_an_http_status_means_for_the_file(
    status: int, reason: Reason | None, ends_at_once_as: str | None
) -> None:
    failure = of_status(status)
    assert (failure and failure.reason, failure and failure.ends_after(1, 10)) == (reason, ends_at_once_as)


@pytest.mark.parametrize(
    ("failure", "most", "ends"),
    [
        (Failure("gone", certain=False), 10, [None, None, None, "expired"]),
        (Failure("gone", certain=False), 2, [None, "expired"]),
        (Failure("gone"), 10, ["expired"]),
        (Failure("timeout"), 3, [None, None, "failed"]),
        (Failure("forbidden"), 10, ["refused"]),
    ],
)
def test_how_often_a_file_is_tried(failure: Failure, most: int, ends: list[str | None]) -> None:
    assert [failure.ends_after(attempts, most) for attempts in range(1, len(ends) + 1)] == ends


@pytest.mark.parametrize(
    ("url", "mime_type", "name"),
    [
        ("https://m/a/factura%20marzo.pdf?x=1", None, "factura marzo.pdf"),
        ("https://m/files/17", "application/pdf; x=y", "17.pdf"),
        ("https://m/", "video/webm", "file.webm"),
        ("https://[broken", None, "file"),
        (None, "novel/type", "file"),
    ],
)
def test_a_file_that_nobody_named_has_a_name(url: str | None, mime_type: str | None, name: str) -> None:
    assert name_of(url, mime_type) == name


def test_every_reason_is_one_that_the_table_takes() -> None:
    migration = (ROOT / "schema" / "migrations" / "0015_media.sql").read_text()
    check = migration.split("check_media_reason")[1].split("))")[0]
    assert {word.strip(" '\n") for word in check.split("(")[2].split(",")} == set(get_args(Reason))
    assert set(get_args(Reason)) > REFUSED


def test_each_try_waits_longer_and_as_long_as_was_asked() -> None:
    waits = [wait_after(Failure("timeout"), attempts, first=10.0, roll=0.5) for attempts in range(1, 9)]
    assert waits == [10, 30, 90, 270, 810, 2430, 3600, 3600]
    assert wait_after(Failure("throttled", retry_after=120.0), 1, first=10.0, roll=0.5) == 120
    assert wait_after(Failure("throttled", retry_after=1e9), 1, first=10.0, roll=0.5) == 3600


@pytest.mark.parametrize(
    ("mime_type", "taken", "most"),
    [
        ("image/jpeg", True, 1),
        ("IMAGE/PNG; q=1", True, 1),
        ("audio/ogg; codecs=opus", True, 2),
        ("application/pdf", True, 3),
        ("application/x-msdownload", False, 3),
        ("video/mp4", False, 3),
        (None, True, 3),
        ("", True, 3),
    ],
)
def test_what_is_taken_and_how_much_of_it(mime_type: str | None, taken: bool, most: int) -> None:
    limits = Limits(image=1, audio=2, other=3, types=("image/*", "audio/*", "application/pdf"))
    assert (limits.allow(mime_type), limits.size(mime_type)) == (taken, most)


@pytest.mark.parametrize(
    ("written", "digest"),
    [
        (DIGEST.hex(), DIGEST),
        (DIGEST.hex().upper(), DIGEST),
        (base64.b64encode(DIGEST).decode(), DIGEST),
        (base64.urlsafe_b64encode(DIGEST).decode(), DIGEST),
        (None, None),
        ("", None),
        ("<MEDIA_SHA256>", None),
        ("é" * 44, None),
        ("ab" * 31, None),
    ],
)
def test_a_hash_is_read_as_hex_and_as_base64(written: str | None, digest: bytes | None) -> None:
    assert digest_of(written) == digest


def test_a_file_lies_by_its_hash_below_its_tenant() -> None:
    tenant = UUID(int=1)
    assert key_of(tenant, DIGEST) == f"{tenant}/{DIGEST.hex()[:2]}/{DIGEST.hex()}"


# -- whom the credentials are for --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "credentials", "url", "sees"),
    [
        ("twilio", TWILIO, "https://api.twilio.com/2010-04-01/Accounts/AC1/x", True),
        ("twilio", TWILIO, "https://api.twilio.com:443/x", True),
        ("twilio", TWILIO, "http://api.twilio.com/x", False),
        ("twilio", TWILIO, "https://api.twilio.com:8443/x", False),
        ("twilio", TWILIO, "https://mms.twiliocdn.com/x", False),
        ("twilio", TWILIO, "https://api.twilio.com.evil.example/x", False),
        ("meta", META, "https://graph.facebook.com/v24.0/1", True),
        ("meta", META, "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1", True),
        ("meta", META, "http://lookaside.fbsbx.com/x", False),
        ("meta", META, "https://lookaside.fbsbx.com:8443/x", False),
        ("meta", META, "https://evilfbsbx.com/x", False),
        ("meta", META, "https://fbsbx.com.evil.example/x", False),
    ],
)
def test_credentials_are_for_their_provider_alone(name: str, credentials: str, url: str, sees: bool) -> None:
    source = provider(name).media_source(Media(url=url), credentials, SETTINGS)
    assert isinstance(source, Direct)
    assert ("Authorization" in source.get.headers_for(URL(url))) is sees
    assert "secret" not in repr(source)


@pytest.mark.parametrize("name", ["twilio", "meta"])
@pytest.mark.parametrize("credentials", ["", "{}", "nonsense"])
def test_unreadable_credentials_raise(name: str, credentials: str) -> None:
    with pytest.raises(ValueError, match="credentials"):
        provider(name).media_source(Media(url="https://a.example/x"), credentials, SETTINGS)


@pytest.mark.parametrize(
    ("status", "answer", "found"),
    [
        (200, {"url": "https://lookaside.fbsbx.com/1", "sha256": "of the answer"}, "https://lookaside.fbsbx.com/1"),
        (200, {"url": []}, "unreadable"),
        (200, "nothing", "unreadable"),
        (400, {"error": {"code": 100, "error_subcode": 33}}, "gone"),
        (400, {"error": {"code": 100}}, "rejected"),
        (400, {"error": {"code": 4}}, "throttled"),
        (400, {"error": {"code": 80007}}, "throttled"),
        (401, {"error": {"code": 190}}, "forbidden"),
        (404, {}, "gone"),
        (500, {}, "server_error"),
    ],
)
def test_what_meta_tells_of_a_file(status: int, answer: object, found: str) -> None:
    source = provider("meta").media_source(Media(id="12/3", sha256="of the webhook"), META, SETTINGS)
    assert isinstance(source, Located)
    assert source.get.url == f"{GRAPH}/12%2F3"
    found_file = source.read(status, json.dumps(answer).encode())
    if isinstance(found_file, Failure):
        assert found_file.reason == found
    else:
        assert (found_file.get.url, found_file.sha256) == (found, "of the webhook")


def test_what_meta_tells_is_read_whatever_it_is() -> None:
    source = provider("meta").media_source(Media(id="1"), META, SETTINGS)
    assert isinstance(source, Located)
    for body in (b"", b"{", b"[" * 100_000, b"\xff\xfe", b"[]", b'{"error": 3}', b'{"error": {"code": {}}}'):
        assert source.read(200, body) == Failure("unreadable")


def test_a_file_that_nothing_leads_to_is_refused() -> None:
    assert provider("twilio").media_source(Media(), TWILIO, SETTINGS) == Failure("no_source")
    assert provider("meta").media_source(Media(), META, SETTINGS) == Failure("no_source")
    assert Get("https://a.example").headers_for(URL("https://a.example")) == {}
