"""Whose webhook it is: Meta's signature over the raw body, and its verification of a URL."""

import hmac
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.providers.meta.signature import challenge, verify
from tests.support.meta_payloads import body, entry, raw, said, value

SECRET = "app secret of a test"
BODY = body(entry(value(said(text={"body": "¡hola! 🕊"}))))


def signature(given_body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), given_body, "sha256").hexdigest()


def signed(given_body: bytes = BODY, claimed: str | None = None, tokens: tuple[str, ...] = (SECRET,)) -> bool:
    headers = {"x-hub-signature-256": signature(given_body) if claimed is None else claimed}
    return verify(raw(given_body, headers), tokens)


def test_a_body_signed_with_the_app_secret_is_metas() -> None:
    assert signed()


def test_several_secrets_hold_while_one_is_being_rotated() -> None:
    assert signed(tokens=("the new one", SECRET))
    assert signed(tokens=(SECRET, "the old one"))
    assert not signed(tokens=("the new one", "the old one"))


@pytest.mark.parametrize(
    "claimed",
    [
        "",
        "sha256=",
        "sha1=" + "0" * 40,
        signature(BODY).removeprefix("sha256="),
        signature(BODY)[:-1],
        signature(BODY, "another secret"),
        signature(BODY + b" "),
        "sha256=\xe9",
        "sha256=" + "é" * 64,
    ],
)
def test_another_signature_is_not(claimed: str) -> None:
    assert not signed(claimed=claimed)


def test_a_blank_secret_signs_nothing() -> None:
    assert not signed(claimed=signature(BODY, ""), tokens=("",))
    assert not signed(tokens=())


def test_no_header_is_no_signature() -> None:
    assert not verify(raw(BODY), (SECRET,))


@settings(deadline=None)
@given(st.binary(max_size=200), st.text(max_size=80))
def test_any_header_gives_an_answer(given_body: bytes, claimed: str) -> None:
    assert not verify(raw(given_body, {"x-hub-signature-256": claimed}), (SECRET,))


def asked(**changed: str) -> str:
    fields = {"hub.mode": "subscribe", "hub.verify_token": "ours", "hub.challenge": "1158201444"}
    return urlencode({**fields, **{name.replace("_", ".", 1): text for name, text in changed.items()}})


def test_the_challenge_is_given_back_to_who_knows_the_token() -> None:
    assert challenge(asked(), "ours") == "1158201444"


@pytest.mark.parametrize(
    ("query", "token"),
    [
        (asked(hub_verify_token="theirs"), "ours"),
        (asked(hub_verify_token=""), ""),
        (asked(hub_mode="unsubscribe"), "ours"),
        ("", "ours"),
        ("", ""),
        (asked(hub_verify_token="\udcff".encode("utf-8", "replace").decode()), "ours"),
    ],
)
def test_nobody_else_gets_it(query: str, token: str) -> None:
    assert challenge(query, token) is None
