"""Reads Kommo's CRM webhooks: one POST holds any number of messages, leads, tasks and so on of an account. No I/O.

`message[add]` holds customers' messages and, in some accounts, messages to customers (type `outgoing`); newer webhooks
have those in `outgoing_message[add]`. Some accounts' webhooks have customers' messages in `add[0][…]` alone. https://developers.kommo.com/docs/webhooks-general
"""

from collections.abc import Iterator

from shared.providers.base import SOLE_CHANNEL
from shared.providers.json_fields import Fields, fields_of, instant, plain, printable_word, text_of
from shared.providers.kommo.fields import Found, chat_address, content, id_of, is_own, media_of, message_type

_MESSAGES = ("message", "outgoing_message")
_READ = frozenset(("id", "text", "created_at", "message_type"))


def read_crm(root: Fields, found: Found) -> None:
    """Read all of a webhook into `found`."""
    account = fields_of(root, "account")
    others: dict[str, object] = {}
    for entity, actions in root.items():
        if entity == "account":
            continue
        if entity == "add" and isinstance(actions, dict | list):
            _read_messages(actions, entity, account, found)
        elif not isinstance(actions, dict):
            others[entity] = actions
        else:
            for action, items in actions.items():
                if entity in _MESSAGES and action == "add":
                    _read_messages(items, f"{entity}.{action}", account, found)
                else:
                    found.add_notice(
                        printable_word(f"{entity}_{action}"), {entity: {action: items}, "account": account}
                    )
    if others:
        found.add_notice("other", {**others, "account": account})
    if not (found.messages or found.agent_messages or found.notices or found.errors):
        found.add_notice("empty", {"account": account})


def _read_messages(items: object, group: str, account: Fields, found: Found) -> None:
    """Read one group of messages into `found`."""
    for place, item in _items(items, group, found.errors):
        problem = _read_message(item, account, group.startswith("outgoing"), found)
        if problem:
            found.errors.append(f"{place}.{problem}")


def _items(items: object, place: str, errors: list[str]) -> Iterator[tuple[str, Fields]]:
    """(place, object) of each entry. The entries have numbers in a form, and are a list in JSON."""
    every = items.items() if isinstance(items, dict) else enumerate(items) if isinstance(items, list) else None
    if every is None:
        errors.append(f"{place}: numbered entries are needed")
        return
    for number, item in every:
        here = f"{place}.{printable_word(str(number)) or '?'}"
        if isinstance(item, dict):
            yield here, item
        else:
            errors.append(f"{here}: a group of fields is needed")


def _read_message(item: Fields, account: Fields, outgoing: bool, found: Found) -> str | None:
    """Read one message into `found`; returns None, or a sentence that begins with the wrong field."""
    external_id = id_of(item, "id")
    if not external_id:
        return "id: missing or too long; the message cannot be identified"
    author, recipient = fields_of(item, "author"), fields_of(item, "recipient")
    direction = text_of(item, "type").strip().lower()
    outgoing = outgoing or direction == "outgoing" or (not direction and is_own(author))
    customer = recipient if outgoing else author
    address = chat_address(text_of(item, "chat_id"), text_of(customer, "id"))
    if address is None:
        return "chat_id: missing or unreadable; the sender cannot be answered"
    attachment = fields_of(item, "attachment")
    media = media_of(text_of(attachment, "link") or text_of(item, "media"), attachment)
    extra = plain(
        {name: part for name, part in item.items() if name not in _READ}
        | {"account": {name: account[name] for name in ("id", "subdomain") if name in account}}
    )
    found.add_message(
        external_id,
        to_customer=outgoing,
        chat=address,
        channel_address=SOLE_CHANNEL,
        message_type=message_type(
            text_of(item, "message_type") or text_of(attachment, "type"), "file" if media else "text"
        ),
        readable=content(item),
        media=media,
        timestamp=instant(item.get("created_at")),
        author=author,
        customer=customer,
        extra=extra,
    )
    return None
