"""Reads webhooks of Kommo's Chats API, version 2: agents' messages to customers, typing, reactions. No I/O.

A message with a `receiver` goes to a customer; one without is a customer's.
https://developers.kommo.com/reference/receiving-chat-webhooks
"""

from shared.providers.json_fields import Fields, fields_of, instant, plain, printable_word, text_of
from shared.providers.kommo.fields import Found, chat_address, content, id_of, media_of, message_type


def is_chats(root: Fields) -> bool:
    """Whether a webhook's JSON is the Chats API's."""
    message = fields_of(root, "message")
    return "add" not in message and (
        isinstance(root.get("action"), dict)
        or isinstance(message.get("message"), dict)
        or ("account_id" in root and isinstance(root.get("message"), dict))
    )


def read_chats(root: Fields, scope_id: str, found: Found) -> None:
    """Read all of a webhook into `found`. `scope_id` is our channel's address."""
    message = root.get("message")
    if isinstance(message, dict):
        problem = _read_message(message, root, scope_id, found)
        if problem:
            found.errors.append(f"message.{problem}")
    for name, value in fields_of(root, "action").items():
        data = value if isinstance(value, dict) else {"action": value}
        found.add_notice(printable_word(name), data, scope_id)
    if not isinstance(message, dict) and not fields_of(root, "action"):
        found.errors.append("body: a message or an action is needed")


def _read_message(item: Fields, root: Fields, scope_id: str, found: Found) -> str | None:
    """Read one message into `found`; returns None, or a sentence that begins with the wrong field."""
    said, conversation = fields_of(item, "message"), fields_of(item, "conversation")
    sender, receiver = fields_of(item, "sender"), fields_of(item, "receiver")
    external_id = id_of(said, "id")
    if not external_id:
        return "message.id: missing or too long; the message cannot be identified"
    customer = receiver or sender
    address = chat_address(text_of(conversation, "id") or text_of(conversation, "client_id"), text_of(customer, "id"))
    if address is None:
        return "conversation.id: missing or unreadable, and so is client_id; the customer cannot be answered"
    media = media_of(text_of(said, "media"), said)
    rest = {name: part for name, part in said.items() if name not in ("id", "text", "media", "file_name")}
    extra = plain(
        {
            "message": plain(rest),
            "sender": sender,
            "receiver": receiver,
            "conversation": conversation,
            "source": fields_of(item, "source"),
            "account_id": text_of(root, "account_id"),
        }
    )
    found.add_message(
        external_id,
        to_customer=bool(receiver),
        chat=address,
        channel_address=scope_id,
        message_type=message_type(text_of(said, "type"), "file" if media else "text"),
        readable=content(said),
        media=media,
        timestamp=instant(item.get("msec_timestamp")) or instant(item.get("timestamp")) or instant(root.get("time")),
        author=sender,
        customer=customer,
        extra=extra,
        reply_to=text_of(fields_of(fields_of(item, "reply_to"), "message"), "id") or None,
        awaits_report=True,  # we deliver what agents write in our channel's chats
    )
    return None
