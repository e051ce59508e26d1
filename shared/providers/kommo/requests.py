"""Writes a call of Kommo's Chats API: its path, its body, and its signed headers. No I/O.

https://developers.kommo.com/reference/send-import-messages, …/update-delivery-status; …/connect-channel for the
headers.
"""

import hmac
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from hashlib import md5
from urllib.parse import quote

from shared.domain.media import name_of
from shared.domain.model import Media, Outgoing
from shared.providers.base import ContentRejected, Report

LONGEST_TEXT = 4096  # characters; not documented: the least that the messengers behind Kommo accept
SENDER_NAME = "Palomar"  # the chat shows the name that the integration's bot has in Kommo
DELIVERED, NOT_DELIVERED = 1, -1  # Kommo's delivery_status; 2 would be `read`, which we don't learn
OTHER_ERROR = 905  # the code that needs a sentence of ours
_LONGEST_PROBLEM = 200  # characters; not documented
_KINDS = {"image": "picture", "video": "video", "audio": "audio"}

Body = dict[str, object]


@dataclass(frozen=True, slots=True)
class Call:
    """One POST. `path` is below /v2/origin/custom/{scope id}."""

    path: str
    body: Body


def call_of(message: Outgoing, bot_id: str, now: datetime) -> Call | ContentRejected:
    """The call that sends a message as the integration's bot; or why Kommo would refuse it. Raises nothing."""
    chat_id, _, participant_id = message.recipient.partition(" ")
    if (rejected := _rejected(message)) is not None:
        return rejected
    if message.reaction is not None:
        return Call("/react", _reaction(message, chat_id, bot_id))
    receiver = {"id": participant_id or chat_id, "name": message.recipient_name or "Customer"}
    if participant_id:
        receiver["ref_id"] = participant_id
    payload: Body = {
        "timestamp": int(now.timestamp()),
        "msec_timestamp": int(now.timestamp() * 1000),
        "msgid": str(message.message_id),
        "conversation_id": chat_id,
        "conversation_ref_id": chat_id,
        "sender": {"id": bot_id, "name": SENDER_NAME, "ref_id": bot_id},
        "receiver": receiver,
        "message": _content(message),
        "silent": True,  # no notification to the tenant's agents
    }
    if message.reply_to:
        payload["reply_to"] = {"message": {"id": message.reply_to}}
    return Call("", {"event_type": "new_message", "payload": payload})


def content_problem(message: Outgoing) -> str | None:
    """As Provider.content_problem."""
    rejected = _rejected(message)
    return None if rejected is None else f"{rejected.code}: {rejected.detail}"


def _rejected(message: Outgoing) -> ContentRejected | None:
    """Why Kommo would refuse the content; the code names the part."""
    if message.template is not None:
        return ContentRejected("template", "Kommo's Chats API sends no templates; choose the policy hold or fail")
    if message.interactive is not None:
        return ContentRejected("interactive", "Kommo's Chats API sends no buttons or lists; send them as text")
    if message.reaction is not None:
        return None
    if len(message.media) > 1:
        return ContentRejected("media", f"{len(message.media)} files; Kommo takes one a message")
    if message.media and not message.media[0].url:
        return ContentRejected("media", "a file is sent by its link; this one has none")
    if not message.media and not message.text.strip():
        return ContentRejected("text", "there is nothing to send")
    if len(message.text) > LONGEST_TEXT:
        return ContentRejected("text", f"{len(message.text)} characters; at most {LONGEST_TEXT}")
    return None


def _content(message: Outgoing) -> Body:
    if not message.media:
        return {"type": "text", "text": message.text}
    file = message.media[0]
    # A size is required, and not known here; Kommo fetches the file and finds it out.
    return {"type": _kind(file), "text": message.text, "media": file.url, "file_name": _name(file), "file_size": 0}


def _kind(file: Media) -> str:
    mime_type = file.mime_type or mimetypes.guess_type(_name(file))[0] or ""
    return _KINDS.get(mime_type.partition("/")[0], "file")


def _name(file: Media) -> str:
    return file.filename or name_of(file.url, file.mime_type)


def _reaction(message: Outgoing, chat_id: str, bot_id: str) -> Body:
    assert message.reaction is not None, "the caller has checked it"
    reaction: Body = {
        "conversation_ref_id": chat_id,
        "id": message.reaction.external_id,
        "user": {"id": bot_id, "ref_id": bot_id},
        "type": "react" if message.reaction.emoji else "unreact",
    }
    return {**reaction, "emoji": message.reaction.emoji} if message.reaction.emoji else reaction


def report_of(report: Report) -> Call:
    """The call that reports the delivery status of an agent's message."""
    body: Body = {"msgid": report.external_id, "delivery_status": DELIVERED}
    if report.problem:  # a report of a delivered message must not have an error
        error = {"error_code": OTHER_ERROR, "error": report.problem[:_LONGEST_PROBLEM]}
        body = {**body, "delivery_status": NOT_DELIVERED, **error}
    return Call(f"/{quote(report.external_id, safe='')}/delivery_status", body)


def scope_path(scope_id: str) -> str:
    """The path below which a channel's calls in one account are made."""
    return f"/v2/origin/custom/{quote(scope_id, safe='')}"


def signed(method: str, path: str, body: bytes, secret: str, now: datetime) -> Mapping[str, str]:
    """The four headers of a call: its date (good for 15 minutes), type, MD5 in lower hex, and HMAC-SHA1 over all."""
    date, content_type = format_datetime(now), "application/json"
    digest = md5(body, usedforsecurity=False).hexdigest()
    text = "\n".join((method.upper(), digest, content_type, date, path))
    return {
        "Date": date,
        "Content-Type": content_type,
        "Content-MD5": digest,
        "X-Signature": hmac.new(secret.encode(), text.encode(), "sha1").hexdigest(),
    }
