"""Kommo's webhooks are accepted with a signature by the channel's secret, or with the secret at the end of the URL."""

import hmac

import pytest

from shared.providers.base import RawWebhook
from shared.providers.kommo.webhooks import holds_secret, verify
from tests.support.kommo_payloads import BASE, FORM, OLD_SECRET, SECRET

BODY = b'{"account_id":"1","message":{}}'
IN_URL = "a secret of the URL's own".replace(" ", "-")


def signed(body: bytes, signature: str) -> RawWebhook:
    return RawWebhook("POST", f"{BASE}/chats/x", "application/json", {"x-signature": signature}, body)


def sign(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, "sha1").hexdigest()


@pytest.mark.parametrize(
    ("body", "signature", "right"),
    [
        (BODY, sign(BODY), True),
        (BODY, sign(BODY).upper(), True),
        (BODY, sign(BODY, OLD_SECRET), True),
        (BODY + b"\n", sign(BODY + b"\n"), True),
        (b" \n" + BODY + b"\r\n", sign(BODY), True),  # of the trimmed body
        (BODY, sign(BODY, "another"), False),
        (BODY + b"x", sign(BODY), False),
        (BODY, sign(BODY)[:-1], False),
        (BODY, "", False),
        (BODY, "é", False),
        (BODY, hmac.new(SECRET.encode(), BODY, "sha256").hexdigest(), False),
        (BODY, sign(BODY, ""), False),
    ],
)
def test_the_signature_is_over_the_body_as_it_is_or_trimmed(body: bytes, signature: str, right: bool) -> None:
    assert verify(signed(body, signature), ("", SECRET, OLD_SECRET)) is right


def test_no_secret_signs_nothing() -> None:
    assert not verify(signed(BODY, sign(BODY, "")), ())
    assert not verify(RawWebhook("POST", BASE, FORM, {}, BODY), (SECRET,))


@pytest.mark.parametrize(
    ("path", "right"),
    [
        (f"/{IN_URL}", True),
        (f"/{IN_URL}?a=/b", True),
        (f"/{IN_URL}x", False),
        (f"/{IN_URL[:-1]}", False),
        (f"/{IN_URL}/", False),
        (f"?secret={IN_URL}", False),
        ("/", False),
        ("/%ff", False),
    ],
)
def test_the_secret_is_the_last_part_of_the_path(path: str, right: bool) -> None:
    raw = RawWebhook("POST", f"{BASE}{path}", FORM, {}, b"x=1")
    assert holds_secret(raw, ("", IN_URL)) is right
    assert not holds_secret(raw, ())
