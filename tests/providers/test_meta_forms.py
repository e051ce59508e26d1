"""What we ask Meta to send: each form's body, and what is refused before the call."""

from typing import Any
from uuid import UUID

import pytest

from shared.domain.model import Button, Interactive, Media, Outgoing, Reaction, Row, Section, Template
from shared.providers.base import ChannelBroken, ContentRejected
from shared.providers.meta.requests import body_of, media_kind

OURS = UUID("01890000-0000-7000-8000-000000000002")


def outgoing(**changed: Any) -> Outgoing:
    fields: dict[str, Any] = {
        "message_id": OURS,
        "channel_kind": "whatsapp",
        "sender": "106540352242922",
        "recipient": "5215512345678",
        "text": "¡hola!",
    }
    return Outgoing(**{**fields, **changed})


def body(**changed: Any) -> dict[str, Any]:
    made = body_of(outgoing(**changed))
    assert isinstance(made, dict), made
    return made


def refused(**changed: Any) -> str:
    made = body_of(outgoing(**changed))
    assert isinstance(made, ContentRejected), made
    return made.detail


def test_a_text_with_our_id() -> None:
    assert body() == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "5215512345678",
        "type": "text",
        "text": {"body": "¡hola!", "preview_url": False},
        "biz_opaque_callback_data": str(OURS),
    }
    assert body(text="mira https://a.example")["text"]["preview_url"] is True


@pytest.mark.parametrize(
    ("recipient", "field", "value"),
    [
        ("5215512345678", "to", "5215512345678"),
        ("+34600000001", "to", "34600000001"),
        ("whatsapp:+34600000001", "to", "34600000001"),
        ("+54 9 11 2345-6789", "to", "5491123456789"),  # not folded: as Meta itself writes it
        ("MX.4566546130240823", "recipient", "MX.4566546130240823"),  # a customer without a number
    ],
)
def test_who_gets_it(recipient: str, field: str, value: str) -> None:
    made = body(recipient=recipient)
    assert made[field] == value
    assert len({"to", "recipient"} & set(made)) == 1


def test_an_answer_to_a_message_shows_it() -> None:
    assert body(reply_to="wamid.1")["context"] == {"message_id": "wamid.1"}


@pytest.mark.parametrize(
    ("media", "text", "kind", "part"),
    [
        (Media(id="7", mime_type="image/jpeg"), "mira", "image", {"id": "7", "caption": "mira"}),
        (Media(url="https://m/a.png"), "", "image", {"link": "https://m/a.png"}),
        (Media(url="https://m/v", mime_type="video/mp4"), "", "video", {"link": "https://m/v"}),
        (Media(url="https://m/a.ogg?x=1"), "", "audio", {"link": "https://m/a.ogg?x=1"}),
        (Media(id="8", mime_type="image/webp"), "", "sticker", {"id": "8"}),
        (Media(id="9", url="https://m/9", mime_type="application/pdf", filename="a.pdf"), "lee", "document",
         {"id": "9", "caption": "lee", "filename": "a.pdf"}),
        (Media(url="https://m/v/clip", mime_type="video/webm"), "mira", "document",
         {"link": "https://m/v/clip", "caption": "mira", "filename": "clip.webm"}),
        (Media(id="9", mime_type="application/pdf"), "", "document", {"id": "9", "filename": "file.pdf"}),
    ],
)  # fmt: skip
def test_media_by_id_or_link(media: Media, text: str, kind: str, part: dict[str, str]) -> None:
    made = body(media=(media,), text=text)
    assert (made["type"], made[kind]) == (kind, part)


@pytest.mark.parametrize(
    ("media", "kind"),
    [
        (Media(mime_type="IMAGE/PNG; q=1"), "image"),
        (Media(mime_type="image/gif"), "document"),  # which WhatsApp takes for no picture
        (Media(mime_type="text/plain"), "document"),
        (Media(mime_type="image/jpg"), "image"),
        (Media(mime_type="video/3gpp"), "video"),
        (Media(mime_type="video/quicktime"), "document"),
        (Media(mime_type="video/webm"), "document"),
        (Media(mime_type="audio/ogg; codecs=opus"), "audio"),
        (Media(mime_type="audio/mpeg"), "audio"),
        (Media(mime_type="audio/wav"), "document"),
        (Media(mime_type="audio/opus"), "document"),
        (Media(mime_type="audio/webm"), "document"),
        (Media(url="https://m/x.opus"), "document"),
        (Media(url="https://m/x", filename="x.JPG"), "image"),
        (Media(url="https://m/x"), "document"),
        (Media(url="https://[broken"), "document"),
        (Media(), "document"),
    ],
)
def test_the_kind_of_a_file(media: Media, kind: str) -> None:
    assert media_kind(media) == kind


def test_reply_buttons() -> None:
    asked = Interactive(buttons=(Button("y", "Sí"), Button("n", "No")), header="Cita", footer="Palomar")
    assert body(interactive=asked)["interactive"] == {
        "type": "button",
        "body": {"text": "¡hola!"},
        "header": {"type": "text", "text": "Cita"},
        "footer": {"text": "Palomar"},
        "action": {
            "buttons": [
                {"type": "reply", "reply": {"id": "y", "title": "Sí"}},
                {"type": "reply", "reply": {"id": "n", "title": "No"}},
            ]
        },
    }


def test_a_list() -> None:
    sections = (
        Section((Row("1", "Norte", "de la ciudad"), Row("2", "Sur")), "Tiendas"),
        Section((Row("3", "Web"),), "Más"),
    )
    assert body(interactive=Interactive(sections=sections, opener="Ver"))["interactive"] == {
        "type": "list",
        "body": {"text": "¡hola!"},
        "action": {
            "button": "Ver",
            "sections": [
                {"title": "Tiendas", "rows": [{"id": "1", "title": "Norte", "description": "de la ciudad"},
                                              {"id": "2", "title": "Sur"}]},
                {"title": "Más", "rows": [{"id": "3", "title": "Web"}]},
            ],
        },
    }  # fmt: skip


@pytest.mark.parametrize("emoji", ["🕊", ""])
def test_a_reaction_and_taking_it_back(emoji: str) -> None:
    made = body(reaction=Reaction("wamid.1", emoji), reply_to="wamid.1", text="")
    assert (made["type"], made["reaction"]) == ("reaction", {"message_id": "wamid.1", "emoji": emoji})
    assert "context" not in made


def test_a_template_with_variables_of_each_part() -> None:
    variables = {
        "2": "12 €", "1": "Ana", "10": "last", "header.1": "Cita", "button.1": "path/7",
        "button.0.quick_reply": "yes", "button.2.copy_code": "CODE",
    }  # fmt: skip
    made = body(template=Template("hello", variables, "es_MX"), text="not sent")
    assert (made["type"], "text" in made) == ("template", False)
    assert made["template"] == {
        "name": "hello",
        "language": {"code": "es_MX"},
        "components": [
            {"type": "header", "parameters": [{"type": "text", "text": "Cita"}]},
            {"type": "body", "parameters": [{"type": "text", "text": text} for text in ("Ana", "12 €", "last")]},
            {"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": [
                {"type": "payload", "payload": "yes"}]},
            {"type": "button", "sub_type": "url", "index": "1", "parameters": [{"type": "text", "text": "path/7"}]},
            {"type": "button", "sub_type": "copy_code", "index": "2", "parameters": [
                {"type": "coupon_code", "coupon_code": "CODE"}]},
        ],
    }  # fmt: skip


def test_a_template_with_named_variables_and_a_picture() -> None:
    variables = {"name": "Ana", "header.image": "https://m/a.png"}
    made = body(template=Template("hello", variables, "en_US"))["template"]
    assert made["components"] == [
        {"type": "header", "parameters": [{"type": "image", "image": {"link": "https://m/a.png"}}]},
        {"type": "body", "parameters": [{"type": "text", "parameter_name": "name", "text": "Ana"}]},
    ]
    uploaded = body(template=Template("hello", {"header.document": "1234"}, "en_US"))["template"]
    assert uploaded["components"][0]["parameters"] == [{"type": "document", "document": {"id": "1234"}}]


def test_a_template_whose_header_is_a_place() -> None:
    variables = {
        "header.location": "19.4326, -99.1332", "header.location.name": "Tienda", "header.location.address": "Calle\n1",
        "1": "Ana",
    }  # fmt: skip
    made = body(template=Template("hello", variables, "en_US"))["template"]
    place = {"latitude": "19.4326", "longitude": "-99.1332", "name": "Tienda", "address": "Calle 1"}
    assert made["components"] == [
        {"type": "header", "parameters": [{"type": "location", "location": place}]},
        {"type": "body", "parameters": [{"type": "text", "text": "Ana"}]},
    ]


def test_variables_of_a_template_are_as_meta_takes_them() -> None:
    variables = {"1": "uno\r\n\tdos", "2": " ", "name": "", "header.1": "a" + " " * 9 + "b"}
    header, text_part = body(template=Template("hello", variables, "en_US"))["template"]["components"]
    assert header["parameters"] == [{"type": "text", "text": "a    b"}]
    assert [one["text"] for one in text_part["parameters"]] == ["uno dos", "-", "-"]


def test_a_template_without_variables() -> None:
    assert body(template=Template("hello", {}, "en_US"))["template"] == {"name": "hello", "language": {"code": "en_US"}}


def buttons(*titles: str) -> Interactive:
    return Interactive(buttons=tuple(Button(f"id {number}", title) for number, title in enumerate(titles)))


def rows(count: int, **changed: str) -> Interactive:
    every = (Row(**{"id": str(number), "title": f"row {number}", **changed}) for number in range(count))
    return Interactive(sections=(Section(tuple(every)),), opener="Ver")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"text": ""}, "text: empty"),
        ({"text": "x" * 4097}, "text: 4097"),
        ({"interactive": Interactive()}, "interactive"),
        (
            {"interactive": Interactive(buttons=(Button("a", "b"),), sections=(Section((Row("a", "b"),)),))},
            "interactive",
        ),
        ({"interactive": buttons("a"), "text": "x" * 1025}, "text: 1025"),
        ({"interactive": buttons("a"), "text": " "}, "text: empty"),
        ({"interactive": buttons("a"), "media": (Media(id="1"),)}, "media"),
        ({"interactive": buttons("x" * 21)}, "buttons.0.title: 21"),
        ({"interactive": buttons("a", "b", "c", "d")}, "buttons: 4"),
        ({"interactive": buttons("a", "a")}, "two are the same"),
        ({"interactive": Interactive(buttons=(Button("", "a"),))}, "buttons.0.id: empty"),
        ({"interactive": Interactive(buttons=(Button("x" * 257, "a"),))}, "buttons.0.id: 257"),
        ({"interactive": Interactive(buttons=(Button("a", "a"),), header="x" * 61)}, "header: 61"),
        ({"interactive": rows(11)}, "11 rows"),
        ({"interactive": Interactive(sections=(Section(()),), opener="Ver")}, "0 rows"),
        (
            {"interactive": Interactive(sections=(Section((Row("a", "b"),), "A"), Section((), "B")), opener="Ver")},
            "1: no",
        ),
        ({"reaction": Reaction("", "🕊")}, "reaction"),
        ({"interactive": rows(1, title="x" * 25)}, "sections.0.rows.0.title: 25"),
        ({"interactive": rows(1, description="x" * 73)}, "sections.0.rows.0.description: 73"),
        ({"interactive": rows(2, id="same")}, "two are the same"),
        ({"interactive": Interactive(sections=(Section((Row("a", "b"),)),))}, "opener: empty"),
        ({"media": (Media(id="1"), Media(id="2"))}, "2 files"),
        ({"media": (Media(mime_type="image/png"),)}, "neither an id nor a link"),
        ({"media": (Media(id="1", mime_type="audio/ogg"),)}, "audio goes without text"),
        ({"media": (Media(id="1", mime_type="image/png"),), "text": "x" * 1025}, "caption: 1025"),
        ({"template": Template("hello", {})}, "language"),
        ({"template": Template("", {}, "en_US")}, "template: empty"),
        ({"template": Template("hello", {"button.0.novel": "x"}, "en_US")}, "button.0.novel"),
        ({"template": Template("hello", {"button.0": " "}, "en_US")}, "button.0: empty"),
        ({"template": Template("hello", {"header.image": ""}, "en_US")}, "header.image"),
        ({"template": Template("hello", {"header.location": "aquí"}, "en_US")}, "header.location"),
        ({"template": Template("hello", {"header.location": "91, 0"}, "en_US")}, "header.location"),
        ({"template": Template("hello", {"header.location.name": "Tienda"}, "en_US")}, "header.location"),
    ],
)
def test_what_meta_would_refuse_is_refused_before_the_call(changed: dict[str, Any], named: str) -> None:
    assert named in refused(**changed)


def test_the_longest_there_may_be_is_taken() -> None:
    body(text="x" * 4096)
    body(interactive=buttons("x" * 20, "y" * 20, "z" * 20), text="x" * 1024)
    body(interactive=rows(10, description="x" * 72))


def test_another_kind_of_channel_is_not_metas() -> None:
    assert isinstance(body_of(outgoing(channel_kind="sms")), ChannelBroken)
