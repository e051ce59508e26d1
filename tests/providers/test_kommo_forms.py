"""What we ask Kommo's Chats API to do, and the headers that sign it."""

import hmac
from datetime import UTC, datetime, timedelta, timezone
from hashlib import md5
from typing import Any
from uuid import UUID

import pytest

from shared.domain.model import Button, Interactive, Media, Outgoing, Reaction, Template
from shared.providers.base import ContentRejected, Report
from shared.providers.kommo.requests import LONGEST_TEXT, Call, call_of, report_of, scope_path, signed
from tests.support.kommo_payloads import CHAT, CUSTOMER, SCOPE

OURS = UUID("018f0000-0000-7000-8000-000000000001")
BOT = "66666666-2222-4333-8444-555555555555"
NOW = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def outgoing(**changed: Any) -> Outgoing:
    fields = {
        "message_id": OURS, "channel_kind": "whatsapp", "sender": SCOPE, "recipient": f"{CHAT} {CUSTOMER}",
        "recipient_name": "Ana", "text": "¡hola!",
    }  # fmt: skip
    return Outgoing(**{**fields, **changed})


def payload(**changed: Any) -> Any:
    call = call_of(outgoing(**changed), BOT, NOW)
    assert isinstance(call, Call)
    assert (call.path, call.body["event_type"]) == ("", "new_message")
    return call.body["payload"]


def test_a_text_goes_to_the_chat_in_the_bots_name() -> None:
    assert payload() == {
        "timestamp": 1767268800,
        "msec_timestamp": 1767268800250,
        "msgid": str(OURS),
        "conversation_id": CHAT,
        "conversation_ref_id": CHAT,
        "sender": {"id": BOT, "name": "Palomar", "ref_id": BOT},
        "receiver": {"id": CUSTOMER, "ref_id": CUSTOMER, "name": "Ana"},
        "message": {"type": "text", "text": "¡hola!"},
        "silent": True,
    }


def test_a_customer_without_an_id_or_a_name_still_has_both() -> None:
    assert payload(recipient=CHAT, recipient_name=None)["receiver"] == {"id": CHAT, "name": "Customer"}


@pytest.mark.parametrize(
    ("file", "kind", "name"),
    [
        (Media("https://f.example/a%20b.jpg"), "picture", "a b.jpg"),
        (Media("https://f.example/1", mime_type="image/png", filename="p.png"), "picture", "p.png"),
        (Media("https://f.example/1.mp4"), "video", "1.mp4"),
        (Media("https://f.example/1", mime_type="audio/ogg; codecs=opus"), "audio", "1.oga"),
        (Media("https://f.example/1.pdf"), "file", "1.pdf"),
        (Media("https://f.example/"), "file", "file"),
    ],
)
def test_a_file_goes_by_its_link_and_kind(file: Media, kind: str, name: str) -> None:
    message = payload(media=(file,), text="see")["message"]
    assert message == {"type": kind, "text": "see", "media": file.url, "file_name": name, "file_size": 0}


def test_what_it_answers_is_named() -> None:
    assert payload(reply_to="m1")["reply_to"] == {"message": {"id": "m1"}}


@pytest.mark.parametrize(("emoji", "rest"), [("🕊", {"type": "react", "emoji": "🕊"}), ("", {"type": "unreact"})])
def test_a_reaction_is_a_call_of_its_own(emoji: str, rest: dict[str, str]) -> None:
    call = call_of(outgoing(reaction=Reaction("m1", emoji)), BOT, NOW)
    body: dict[str, object] = {"conversation_ref_id": CHAT, "id": "m1", "user": {"id": BOT, "ref_id": BOT}, **rest}
    assert call == Call("/react", body)


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"text": ""}, "text"),
        ({"text": " \n"}, "text"),
        ({"text": "x" * (LONGEST_TEXT + 1)}, "text"),
        ({"template": Template("hello")}, "template"),
        ({"interactive": Interactive(buttons=(Button("y", "Sí"),))}, "interactive"),
        ({"media": (Media("https://f.example/1"), Media("https://f.example/2"))}, "media"),
        ({"media": (Media(id="7"),)}, "media"),
    ],
)
def test_what_kommo_would_not_take_is_refused_by_its_part(changed: dict[str, Any], part: str) -> None:
    refused = call_of(outgoing(**changed), BOT, NOW)
    assert isinstance(refused, ContentRejected)
    assert refused.code == part
    assert len(refused.detail) > 10


@pytest.mark.parametrize(
    ("problem", "rest"),
    [
        ("", {"delivery_status": 1}),
        ("they stopped", {"delivery_status": -1, "error_code": 905, "error": "they stopped"}),
        ("x" * 1000, {"delivery_status": -1, "error_code": 905, "error": "x" * 200}),
    ],
)
def test_what_became_of_a_managers_message_is_a_call_about_its_id(problem: str, rest: dict[str, object]) -> None:
    assert report_of(Report("a/b", problem)) == Call("/a%2Fb/delivery_status", {"msgid": "a/b", **rest})


def test_the_headers_sign_method_digest_type_date_and_path() -> None:
    path, body = scope_path("a/b_c"), b'{"a": 1}\n'
    headers = signed("post", path, body, "secret", NOW)
    digest = md5(body, usedforsecurity=False).hexdigest()
    assert path == "/v2/origin/custom/a%2Fb_c"
    assert headers["Content-MD5"] == digest
    assert headers["Date"] == "Thu, 01 Jan 2026 12:00:00 +0000"
    text = f"POST\n{digest}\napplication/json\nThu, 01 Jan 2026 12:00:00 +0000\n{path}"
    assert headers["X-Signature"] == hmac.new(b"secret", text.encode(), "sha1").hexdigest()
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-3)))
    assert signed("POST", path, body, "secret", elsewhere)["Date"].endswith("-0300")
