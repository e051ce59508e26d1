"""Writes the body of a call that sends a message, and checks the lengths that Meta would refuse. No I/O.

https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages and …/templates.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from shared.domain import addresses
from shared.domain.media import name_of, plain_type
from shared.domain.model import Interactive, Media, Outgoing, Template
from shared.providers.base import ChannelBroken, ContentRejected
from shared.providers.template_values import on_one_line

LONGEST_TEXT = 4096  # characters, as all lengths here
LONGEST_BODY = 1024  # of an interactive message; of a caption too
MOST_BUTTONS = 3
MOST_ROWS = 10
_TITLE, _ROW_TITLE, _DESCRIPTION, _OPENER, _HEADER, _FOOTER = 20, 24, 72, 20, 60, 60
_BUTTON_ID, _ROW_ID = 256, 200
_CAPTIONED = ("image", "video", "document")
_HEADER_MEDIA = ("image", "video", "document")
# By the kind of a template's button: the type of its parameter.
_BUTTON_PARAMETERS = {"url": "text", "quick_reply": "payload", "copy_code": "coupon_code", "flow": "action"}
# MIME types that Meta shows as a picture, a video or a sound, with other common names of the same. It accepts any
# other type, also other sounds and videos (webm, wav, quicktime), as a document. …/business-phone-numbers/media
_TYPES = {
    **dict.fromkeys(("image/jpeg", "image/jpg", "image/png"), "image"),
    **dict.fromkeys(("video/mp4", "video/3gpp", "video/3gp"), "video"),
    **dict.fromkeys(("audio/aac", "audio/amr", "audio/mpeg", "audio/mp3", "audio/mp4", "audio/m4a", "audio/x-m4a",
                     "audio/ogg"), "audio"),
    "image/webp": "sticker",
}  # fmt: skip
_EXTENSIONS = {
    **dict.fromkeys(("jpg", "jpeg", "png"), "image"),
    **dict.fromkeys(("mp4", "3gp"), "video"),
    **dict.fromkeys(("aac", "amr", "mp3", "m4a", "ogg"), "audio"),
    "webp": "sticker",
}

Body = dict[str, object]


class _Wrong(Exception):
    """Meta would refuse the message. The text names the part and what Meta accepts."""


def body_of(message: Outgoing) -> Body | ContentRejected | ChannelBroken:
    """The JSON of `POST /{phone number id}/messages`, or why Meta would refuse it. Raises nothing."""
    if message.channel_kind != "whatsapp":
        return ChannelBroken("channel_kind", f"Meta sends WhatsApp; this channel's kind is {message.channel_kind}")
    try:
        kind, part = _content(message)
    except _Wrong as wrong:
        return ContentRejected("content", str(wrong))
    context = {"context": {"message_id": message.reply_to}} if message.reply_to and kind != "reaction" else {}
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **_recipient(message.recipient),
        **context,
        "type": kind,
        kind: part,
        "biz_opaque_callback_data": str(message.message_id),
    }


def content_problem(message: Outgoing) -> str | None:
    """As Provider.content_problem."""
    try:
        _content(message)
    except _Wrong as wrong:
        return str(wrong)
    return None


def _recipient(given: str) -> Body:
    """A number is `to`, written without `+` as in Meta's own webhooks; a user id is `recipient`."""
    _, bare = addresses.split_scheme(given)
    number = addresses.phone(bare)
    return {"to": number.given.removeprefix("+")} if number is not None else {"recipient": bare}


def _content(message: Outgoing) -> tuple[str, object]:
    """Type and part of the message. Raises _Wrong."""
    if message.template is not None:
        return "template", _template(message.template)
    if message.reaction is not None:
        if not message.reaction.external_id:
            raise _Wrong("reaction: it needs the id of the message that it is on")
        return "reaction", {"message_id": message.reaction.external_id, "emoji": message.reaction.emoji}
    if message.interactive is not None:
        if message.media:
            raise _Wrong("media: buttons and lists go without; send the file before them")
        return "interactive", _interactive(message.interactive, message.text)
    if message.media:
        return _media(message.media, message.text)
    _within("text", message.text, LONGEST_TEXT)
    return "text", {"body": message.text, "preview_url": "https://" in message.text or "http://" in message.text}


def _within(name: str, text: str, longest: int) -> str:
    """The text, where it is neither empty nor too long. Raises _Wrong."""
    if not text.strip():
        raise _Wrong(f"{name}: empty")
    if len(text) > longest:
        raise _Wrong(f"{name}: {len(text)} characters; Meta takes at most {longest}")
    return text


# -- media -------------------------------------------------------------------------------------------------------------


def _media(media: tuple[Media, ...], caption: str) -> tuple[str, object]:
    if len(media) > 1:
        raise _Wrong(f"media: {len(media)} files; Meta takes one a message")
    file = media[0]
    if not file.id and not file.url:
        raise _Wrong("media: neither an id nor a link")
    kind = media_kind(file)
    part: Body = {"id": file.id} if file.id else {"link": file.url}
    if caption.strip():
        if kind not in _CAPTIONED:
            raise _Wrong(f"media: {kind} goes without text; send the text by itself")
        part["caption"] = _within("caption", caption, LONGEST_BODY)
    if kind == "document":
        # Without a name the customer sees "Untitled", and the phone can't choose a program for it.
        part["filename"] = file.filename or name_of(file.url, file.mime_type)
    return kind, part


def media_kind(file: Media) -> str:
    """image, video, audio, sticker or document: by the MIME type, else by the extension of the name or link."""
    if mime_type := plain_type(file.mime_type):
        return _TYPES.get(mime_type, "document")
    name = file.filename or _path(file.url or "")
    return _EXTENSIONS.get(name.rpartition(".")[2].lower(), "document")


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


# -- buttons and lists -------------------------------------------------------------------------------------------------


def _interactive(asked: Interactive, text: str) -> Body:
    if bool(asked.buttons) == bool(asked.sections):
        raise _Wrong("interactive: it needs either buttons or sections")
    frame: Body = {"body": {"text": _within("text", text, LONGEST_BODY)}}
    if asked.header:
        frame["header"] = {"type": "text", "text": _within("header", asked.header, _HEADER)}
    if asked.footer:
        frame["footer"] = {"text": _within("footer", asked.footer, _FOOTER)}
    action = _buttons(asked) if asked.buttons else _sections(asked)
    return {"type": "button" if asked.buttons else "list", **frame, "action": action}


def _buttons(asked: Interactive) -> Body:
    if len(asked.buttons) > MOST_BUTTONS:
        raise _Wrong(f"buttons: {len(asked.buttons)}; Meta takes at most {MOST_BUTTONS}")
    _distinct("buttons", [button.id for button in asked.buttons])
    _distinct("buttons", [button.title for button in asked.buttons])
    replies = (
        {
            "id": _within(f"buttons.{number}.id", button.id, _BUTTON_ID),
            "title": _within(f"buttons.{number}.title", button.title, _TITLE),
        }
        for number, button in enumerate(asked.buttons)
    )
    return {"buttons": [{"type": "reply", "reply": reply} for reply in replies]}


def _sections(asked: Interactive) -> Body:
    rows = [row for section in asked.sections for row in section.rows]
    if not 0 < len(rows) <= MOST_ROWS:
        raise _Wrong(f"sections: {len(rows)} rows in all; Meta takes 1 to {MOST_ROWS}")
    _distinct("rows", [row.id for row in rows])
    sections: list[Body] = []
    for number, section in enumerate(asked.sections):
        place = f"sections.{number}"
        if not section.rows:
            raise _Wrong(f"{place}: no rows; leave the section out")
        part: Body = {"rows": [_row(f"{place}.rows.{index}", row.id, row.title, row.description)
                               for index, row in enumerate(section.rows)]}  # fmt: skip
        if section.title or len(asked.sections) > 1:
            part["title"] = _within(f"{place}.title", section.title, _ROW_TITLE)
        sections.append(part)
    return {"button": _within("opener", asked.opener, _OPENER), "sections": sections}


def _row(place: str, row_id: str, title: str, description: str) -> Body:
    row: Body = {"id": _within(f"{place}.id", row_id, _ROW_ID), "title": _within(f"{place}.title", title, _ROW_TITLE)}
    if description:
        row["description"] = _within(f"{place}.description", description, _DESCRIPTION)
    return row


def _distinct(name: str, values: list[str]) -> None:
    if len(set(values)) < len(values):
        raise _Wrong(f"{name}: two are the same; Meta takes each id and title once")


# -- templates ---------------------------------------------------------------------------------------------------------

_LOCATION = ("location", "location.name", "location.address")
_COORDINATES = re.compile(r"([+-]?[0-9]{1,3}(?:\.[0-9]{1,15})?)\s*[,;]\s*([+-]?[0-9]{1,3}(?:\.[0-9]{1,15})?)", re.ASCII)
_BUTTON_VARIABLE = re.compile(r"button\.([0-9])(?:\.([a-z_]+))?", re.ASCII)


def _template(asked: Template) -> Body:
    """A template with its variables, which have these names:

    - `1`, `2`, … or the parameters' own names for the body;
    - `header.1` or `header.NAME` for the header's text;
    - `header.image`, `header.video` and `header.document` for a link, or the id of an uploaded file;
    - `button.0` for the first button's URL, or with the kind of button `button.0.quick_reply`, `button.0.copy_code`.
    """
    if not asked.language:
        raise _Wrong("template: Meta needs its language, such as en_US")
    components = list(_components(asked.variables))
    part: Body = {"name": _within("template", asked.name, 512), "language": {"code": asked.language}}
    return {**part, "components": components} if components else part


def _components(variables: Mapping[str, str]) -> Iterator[Body]:
    header = {name.removeprefix("header."): text for name, text in variables.items() if name.startswith("header.")}
    buttons = {found: text for name, text in variables.items() if (found := _BUTTON_VARIABLE.fullmatch(name))}
    of_buttons = {found[0] for found in buttons}
    body = {name: text for name, text in variables.items() if not name.startswith("header.") and name not in of_buttons}
    if header:
        shown = [*_header_media(header), *_header_location(header)]
        yield {"type": "header", "parameters": [*shown, *_texts(header, without=(*_HEADER_MEDIA, *_LOCATION))]}
    if body:
        yield {"type": "body", "parameters": list(_texts(body))}
    for found, text in sorted(buttons.items(), key=lambda one: one[0][1]):
        kind = found[2] or "url"
        if kind not in _BUTTON_PARAMETERS:
            raise _Wrong(f"{found[0]}: no kind of button; there are {', '.join(_BUTTON_PARAMETERS)}")
        if not text.strip():
            raise _Wrong(f"{found[0]}: empty")
        parameter = _BUTTON_PARAMETERS[kind]
        held: object = {"flow_token": text} if kind == "flow" else text
        yield {
            "type": "button",
            "sub_type": kind,
            "index": found[1],
            "parameters": [{"type": parameter, parameter: held}],
        }


def _header_media(header: Mapping[str, str]) -> Iterator[Body]:
    for kind in _HEADER_MEDIA:
        if kind in header:
            if not header[kind].strip():
                raise _Wrong(f"header.{kind}: neither an id nor a link")
            yield {"type": kind, kind: {"id" if header[kind].isdigit() else "link": header[kind]}}


def _header_location(header: Mapping[str, str]) -> Iterator[Body]:
    """`header.location` is `latitude, longitude`; `header.location.name` and `header.location.address` describe it."""
    place, name, address = (header.get(part, "") for part in _LOCATION)
    if not any((place, name, address)):
        return
    found = _COORDINATES.fullmatch(place.strip())
    if found is None or abs(float(found[1])) > 90 or abs(float(found[2])) > 180:
        raise _Wrong("header.location: it needs latitude and longitude in degrees, such as 19.4326, -99.1332")
    location = {"latitude": found[1], "longitude": found[2]}
    location |= {key: on_one_line(value) for key, value in (("name", name), ("address", address)) if value.strip()}
    yield {"type": "location", "location": location}


def _texts(variables: Mapping[str, str], without: tuple[str, ...] = ()) -> Iterator[Body]:
    """Numbered parameters in their order, then named ones."""
    named = {name: text for name, text in variables.items() if name not in without}
    for name in sorted((name for name in named if name.isdecimal()), key=int):
        yield {"type": "text", "text": on_one_line(named[name])}
    for name, text in named.items():
        if not name.isdecimal():
            yield {"type": "text", "parameter_name": name, "text": on_one_line(text)}
