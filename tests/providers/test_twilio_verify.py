"""Twilio's signature: what the SDK's own validator accepts we accept, and nothing else."""

from dataclasses import replace
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from shared.providers.base import RawWebhook
from shared.providers.twilio.signature import verify

TOKEN = "0123456789abcdef0123456789abcdef"
URL = "https://palomar.example.com/webhooks/twilio/01890000-0000-7000-8000-000000000001"
FORM = "application/x-www-form-urlencoded; charset=UTF-8"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
forms = st.lists(st.tuples(texts, texts), max_size=12)
urls = st.sampled_from(
    [URL, "https://a.example:8443/x", "http://a.example/x", "http://127.0.0.1:8080/x", "https://a.example:443/y"]
)
queries = st.sampled_from(["", "?m=01890000-0000-7000-8000-000000000002", "?a=b%20c&a=b"])


def signature(url: str, body: bytes = b"", token: str = TOKEN, algorithm: str | None = None) -> str:
    pairs = MultiDict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace"))
    return str(RequestValidator(token).compute_signature(url, pairs, algorithm))


def posted(body: bytes, *, url: str = URL, signed: str | None = None, content_type: str = FORM) -> RawWebhook:
    headers = {"x-twilio-signature": signature(url, body) if signed is None else signed}
    return RawWebhook("POST", url, content_type, headers, body)


@given(urls, queries, forms, texts.filter(bool))
def test_what_the_sdk_signs_is_accepted(url: str, query: str, form: list[tuple[str, str]], token: str) -> None:
    body = urlencode(form).encode()
    assert verify(posted(body, url=url + query, signed=signature(url + query, body, token)), [token])


@given(st.binary(max_size=200), texts)
def test_any_bytes_are_judged_as_the_sdk_judges_them(body: bytes, other: str) -> None:
    pairs = MultiDict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace"))
    signed = signature(URL, body)
    assert verify(posted(body), [TOKEN])
    if other != signed:
        assert verify(posted(body, signed=other), [TOKEN]) == RequestValidator(TOKEN).validate(URL, pairs, other)


@given(forms, st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_a_body_changed_on_its_way_is_refused(form: list[tuple[str, str]], at: int, change: bytes) -> None:
    body = urlencode([*form, ("MessageSid", "SM1"), ("From", "+14155551212")]).encode()
    place = at % len(body)
    changed = body[:place] + change + body[place:]
    is_same = sorted(set(read(body))) == sorted(set(read(changed)))
    signs_same_text = signature(URL, changed) == signature(URL, body)
    assert verify(posted(changed, signed=signature(URL, body)), [TOKEN]) == (is_same or signs_same_text)


def read(body: bytes) -> list[tuple[str, str]]:
    return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace")


@pytest.mark.parametrize(
    ("signed_url", "our_url"),
    [
        pytest.param("https://a.example:443/x?m=1", "https://a.example/x?m=1", id="signed with its port"),
        pytest.param("http://a.example:80/x", "http://a.example/x", id="signed with its port, http"),
        pytest.param("https://a.example/x", "https://a.example:8443/x", id="signed without its port"),
        pytest.param("https://[::1]:443/x", "https://[::1]/x", id="an IPv6 address"),
    ],
)
def test_the_port_may_be_signed_or_not(signed_url: str, our_url: str) -> None:
    assert verify(posted(b"a=1", url=our_url, signed=signature(signed_url, b"a=1")), [TOKEN])


def test_blank_values_count_and_equal_values_count_once() -> None:
    signed = str(RequestValidator(TOKEN).compute_signature(URL, MultiDict([("b", ""), ("a", "2"), ("a", "1")])))
    assert verify(posted(b"a=2&b=&a=1&a=2", signed=signed), [TOKEN])
    without_blank = str(RequestValidator(TOKEN).compute_signature(URL, MultiDict([("a", "2"), ("a", "1")])))
    assert verify(posted(b"a=2&c=&a=1", signed=without_blank), [TOKEN]) is False


def test_each_of_several_tokens_may_have_signed() -> None:
    request = posted(b"a=1", signed=signature(URL, b"a=1", "new token"))
    assert verify(request, [TOKEN, "new token"])
    assert not verify(request, [TOKEN])
    assert not verify(request, [])


def test_a_blank_token_signs_nothing() -> None:
    assert not verify(posted(b"a=1", signed=signature(URL, b"a=1", "")), [""])


@pytest.mark.parametrize(
    "header", ["key=webhooks_1,algorithm=HMAC_SHA256", "algorithm = hmac_sha256", "algorithm=HMAC_SHA1"]
)
def test_the_request_names_its_algorithm(header: str) -> None:
    algorithm = "HMAC_SHA1" if header.endswith("1") else "HMAC_SHA256"
    request = posted(b"a=1", signed=signature(URL, b"a=1", algorithm=algorithm))
    headers = {**request.headers, "x-twilio-webhooks-signature-settings": header}
    assert verify(replace(request, headers=headers), [TOKEN])


@pytest.mark.parametrize("header", ["algorithm=HMAC_MD5", "algorithm=none", "key=k,algorithm=HMAC_SHA256"])
def test_another_algorithm_than_the_one_named_is_refused(header: str) -> None:
    request = posted(b"a=1")
    assert not verify(
        replace(request, headers={**request.headers, "x-twilio-webhooks-signature-settings": header}), [TOKEN]
    )


def test_a_get_is_signed_by_its_url() -> None:
    url = URL + "?MessageSid=SM1&Body=hola"
    request = RawWebhook("GET", url, "", {"x-twilio-signature": signature(url)}, b"")
    assert verify(request, [TOKEN])
    assert not verify(replace(request, url=url + "&From=x"), [TOKEN])


def test_a_json_body_is_signed_by_its_hash_in_the_url() -> None:
    body = b'{"MessageSid":"SM1"}'
    url = f"{URL}?bodySHA256={sha256(body).hexdigest()}"
    request = posted(body, url=url, signed=signature(url), content_type="application/json")
    assert verify(request, [TOKEN])
    assert not verify(replace(request, body=body + b" "), [TOKEN])


def test_a_json_body_whose_hash_is_not_signed_is_refused() -> None:
    request = posted(b"{}", signed=signature(URL), content_type="application/json")
    assert not verify(request, [TOKEN])


@pytest.mark.parametrize("claimed", ["", "x", "ñandú", "=" * 5000, "\ud800", "AAAA\x00"])
def test_a_broken_signature_is_refused_without_a_fuss(claimed: str) -> None:
    assert not verify(posted(b"a=%ff%00\xff\x00", signed=claimed), [TOKEN])


def test_a_missing_signature_is_refused() -> None:
    assert not verify(RawWebhook("POST", URL, FORM, {}, b"a=1"), [TOKEN])


@pytest.mark.parametrize("url", ["", "?", "http://[", "http://h:999999/x", "https://h/\ud800?\ud800=\udcff", "//"])
@pytest.mark.parametrize("content_type", [FORM, "application/json", ""])
def test_a_strange_url_is_refused_without_a_fuss(url: str, content_type: str) -> None:
    assert not verify(posted(b"a=1", url=url, signed="c2lnbmVk", content_type=content_type), [TOKEN])


def test_a_megabyte_of_fields_is_not_worth_sorting() -> None:
    body = b"a&" * 500_000
    assert not verify(posted(body, signed=signature(URL, body)), [TOKEN])
