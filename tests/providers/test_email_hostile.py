"""No body that a stranger posts as a mail takes long, raises, or leaves a text that PostgreSQL refuses."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.providers.base import Parsed
from shared.providers.email.webhooks import parse
from tests.support.email_payloads import BOUNCED, BOUNDARY, CONTENT_TYPE, ENVELOPE, HEADERS, fields, form, raw

MIB = 1024 * 1024


def test_a_body_that_is_no_form_is_an_error() -> None:
    for webhook in (raw(b"", "text/plain"), raw(b"x"), raw(form(fields()), "multipart/form-data")):
        parsed = parse(webhook)
        assert parsed.errors
        assert parsed.messages == ()


def test_a_form_that_is_no_mail_is_a_notice() -> None:
    assert parse(raw(form({"hello": "world"}))).notices[0].data == {"fields": ["hello"]}


HOSTILE = {
    "delimiters": f"--{BOUNDARY}\r\n".encode() * (MIB // 9),
    "nearly delimiters": f"\n--{BOUNDARY}q".encode() * (MIB // 9),
    "headers": f"--{BOUNDARY}\r\n".encode() + b"A: b\r\n" * (MIB // 6),
    "brackets": form(fields(sender="(" * MIB)),
    "quotes": b'--' + BOUNDARY.encode() + b"\r\nContent-Disposition: form-data; " + b'";' * MIB + b"\r\n\r\nx",
    "elements in elements": form(fields(text=None, html="<div>" * MIB)),
    "lists in lists": form(fields(text=None, html="<ul><li>x" * (MIB // 9))),
    "less than": form(fields(text=None, html="<" * MIB)),
    "parts in parts": form(
        {"email": "From: a@b.example\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n"
         + "--q\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n" * (MIB // 52)}
    ),
    "quoted lines": form(fields(text=">\n" * (MIB // 2))),
    "encoded words": form(fields(subject="=?utf-8?q?a" * (MIB // 10))),
    "nested JSON": form(fields(envelope="[" * MIB)),
}  # fmt: skip


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_no_body_takes_long(body: bytes) -> None:
    """Read as a whole these take minutes, or hours."""
    started = time.process_time()
    parse(raw(body))
    assert time.process_time() - started < 20


def test_parts_without_end_are_not_all_read() -> None:
    many = form({f"field{n}": "x" for n in range(1000)})
    assert "more than 200 parts" in parse(raw(many)).errors[0]


def test_a_mail_that_was_cut_off_is_read_as_far_as_it_came() -> None:
    body = form(fields(attachment1=("f.pdf", "application/pdf", b"x" * 1000)))
    parsed = parse(raw(body[:-500]))
    assert parsed.messages[0].text == "¿Cuánto cuesta?"


def texts(value: object) -> list[str]:
    """Every text in something."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    return [text for part in value for text in texts(part)] if isinstance(value, (list, tuple)) else []


def readable(parsed: Parsed) -> None:
    """All of it is what the queue and PostgreSQL take."""
    values: list[object] = [parsed.errors, [dict(notice.data) for notice in parsed.notices]]
    for found in parsed.messages:
        assert found.external_id
        assert found.sender
        named = [found.contact_name, found.given_from, found.given_to, found.channel_address, found.external_id]
        values += [
            found.text,
            dict(found.extra),
            named,
            [(file.id, file.filename, file.mime_type) for file in found.media],
        ]
        values += [(address.given, address.canonical) for address in found.sender]
    for receipt in parsed.receipts:
        values += [receipt.external_id, receipt.status, receipt.error_code, receipt.error_message, dict(receipt.extra)]
    for text in texts(values):
        assert "\0" not in text
        text.encode()


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_mutated_webhook_raises(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from([form(fields()), *(webhook.body for webhook in BOUNCED.values())])))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(body)))
        cut = data.draw(st.integers(0, 40))
        body[at : at + cut] = data.draw(st.binary(max_size=30))
    readable(parse(raw(bytes(body))))


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.sampled_from(
            ["headers", "from", "to", "cc", "subject", "text", "html", "charsets", "attachment-info", "email"]
        ),
        st.one_of(
            st.just("\0=?utf-8?q?=00?= <a\0@b.example>\0"),
            st.text(max_size=200),
            st.binary(max_size=200),
            st.just(HEADERS),
            st.just("Content-Type: multipart/report"),
        ),
    ),
    st.one_of(
        st.just(ENVELOPE),
        st.text(max_size=60),
        st.sampled_from(
            ["[]", "null", '{"to":1,"from":[]}', '{"to":[1]}', '{"to":["a\\u0000@b.example"],"from":"\\u0000"}']
        ),
    ),
)
def test_no_odd_field_costs_its_neighbours(odd: dict[str, str | bytes], envelope: str) -> None:
    readable(parse(raw(form({**odd, "envelope": envelope}))))
    kept = {name: value for name, value in odd.items() if name not in ("from", "text", "email", "charsets", "headers")}
    found = parse(raw(form({**fields(), **kept})))
    assert found.messages[0].text == "¿Cuánto cuesta?"


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=200), st.text(max_size=60))
def test_no_content_type_raises(content_type: str, boundary: str) -> None:
    parse(raw(form(fields()), content_type))
    parse(raw(form(fields()), f"multipart/form-data; boundary={boundary}"))
    assert CONTENT_TYPE
