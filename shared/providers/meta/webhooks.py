"""Parses the webhooks of Meta's WhatsApp Cloud API: messages, delivery receipts, consents and all else.

Sources: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference (fields), and
…/whatsapp/business-scoped-user-ids (customers without a phone number).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from shared.domain import addresses
from shared.domain.model import AgentMessage, Consent, ConsentState, InboundMessage, Receipt
from shared.providers.base import Notice, Parsed, RawWebhook
from shared.providers.json_fields import (
    Fields,
    fields_of,
    instant,
    items_of,
    loaded,
    own_id,
    plain,
    printable_word,
    text_of,
)
from shared.providers.meta.messages import ECHOES, Around, read_echo, read_message

ACCOUNTS = "whatsapp_business_account"  # what `object` says of all WhatsApp webhooks
MOST_UPDATES = 4000
"""Entries, changes and what they hold, of one webhook: Meta documents 1000 updates, each perhaps in an entry and a
change of its own. Whoever has an app secret of their own could sign a million of them in 3 MB."""
_LONGEST_ACCOUNT = 100  # characters of an account's id, of which each update has a copy
_CONSENT: dict[str, tuple[str, ConsentState]] = {
    "stop": ("opt_out", "opted_out"),
    "resume": ("opt_in", "opted_in"),
    "signup": ("opt_in", "opted_in"),
}
_READ_OF_STATUS = frozenset(("id", "status", "timestamp", "recipient_id", "biz_opaque_callback_data"))


@dataclass(slots=True)
class _Found:
    """What a webhook holds, as far as it has been read."""

    messages: list[InboundMessage] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    agent_messages: list[AgentMessage] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    left: int = MOST_UPDATES
    cut: bool = False

    def items(self, holder: Fields, name: str, prefix: str, *, needed: bool = False) -> Iterator[tuple[str, Fields]]:
        """As `items_of`, until the webhook has had all that one may hold."""
        for place, item in items_of(holder, name, prefix, self.errors, needed=needed):
            if not self.left:
                self.cut = True
                return
            self.left -= 1
            yield place, item

    @property
    def place(self) -> int:
        """Of the next message."""
        return len(self.messages) + len(self.agent_messages)

    @property
    def count(self) -> int:
        return len(self.messages) + len(self.receipts) + len(self.notices) + len(self.agent_messages) + len(self.errors)


@dataclass(frozen=True, slots=True)
class _Change:
    """One change of one entry: `place` says where it stands, for sentences."""

    place: str
    account: str  # WhatsApp business account id
    field: str
    value: Fields

    @property
    def phone_number_id(self) -> str:
        return text_of(fields_of(self.value, "metadata"), "phone_number_id")


def parse(raw: RawWebhook) -> Parsed:
    """All a webhook says: every message, status and event of every change of every entry. Never raises.

    What cannot be read is a sentence in `errors` that names its place; everything beside it is read all the same.
    """
    found = _Found()
    root, problem = loaded(raw.body)
    if problem:
        found.errors.append(f"body: {problem}")
    if not isinstance(root, dict):
        found.errors.append('body: an object such as {"object": "whatsapp_business_account", "entry": […]} is needed')
    elif text_of(root, "object") not in ("", ACCOUNTS):
        found.notices.append(Notice(printable_word(text_of(root, "object")) or "other", plain(root)))
    else:
        for change in _changes(root, found):
            _read_change(change, found)
        if found.cut:
            found.errors.append(
                f"body: more than {MOST_UPDATES} updates, of which Meta sends 1000; the rest is not read"
            )
        if not found.count:
            found.notices.append(Notice("empty", plain(root)))
    return Parsed(
        tuple(found.messages),
        tuple(found.receipts),
        tuple(found.notices),
        tuple(found.errors),
        tuple(found.agent_messages),
    )


def _changes(root: Fields, found: _Found) -> Iterator[_Change]:
    if "entry" not in root and isinstance(root.get("value"), dict):  # one change by itself, as Meta's samples show it
        yield _Change("value", "", text_of(root, "field"), fields_of(root, "value"))
        return
    if "entry" not in root and ("messages" in root or "statuses" in root):  # a value by itself: the On-Premises API's
        yield _Change("body", "", "", root)
        return
    for place, entry in found.items(root, "entry", "", needed=True):
        for inner, change in found.items(entry, "changes", f"{place}.", needed=True):
            value = change.get("value")
            if isinstance(value, dict):
                yield _Change(
                    f"{inner}.value", text_of(entry, "id")[:_LONGEST_ACCOUNT], text_of(change, "field"), value
                )
            else:
                found.errors.append(f"{inner}.value: an object is needed")


def _read_change(change: _Change, found: _Found) -> None:
    """Messages, statuses, errors and preferences of a change; a change with none of them is an event of its own."""
    before = found.count
    value, prefix = change.value, f"{change.place}."
    # Under `standby` and the like stand messages that are another system's to answer.
    if change.field in ("messages", ""):
        _read_messages(change, found)
        for place, item in found.items(value, "statuses", prefix):
            status = _receipt(item, change)
            if isinstance(status, str):
                found.errors.append(f"{place}.{status}")
            else:
                found.receipts.append(status)
        for _, item in found.items(value, "errors", prefix):
            found.notices.append(_notice("error", item, change))
    elif change.field == "smb_message_echoes":
        _read_echoes(change, found)
    for _, item in found.items(value, "user_preferences", prefix):
        found.notices.append(_preference(item, change))
    if found.count == before and not found.cut:
        found.notices.append(_notice(printable_word(change.field) or "other", value, change))


def _read_messages(change: _Change, found: _Found) -> None:
    around = Around.of(change.value, change.account)
    for place, item in found.items(change.value, "messages", f"{change.place}."):
        if text_of(item, "group_id"):
            found.notices.append(_notice("group_message", item, change))
            continue
        read = read_message(item, around, found.place)
        if not isinstance(read, str):
            found.messages.append(read)
            if notice := _marketing(read, change.phone_number_id):
                found.notices.append(notice)
        elif item.get("type") == "system":  # of somebody's new user id, for instance, where no number is left
            found.notices.append(_notice("system", item, change))
        else:
            found.errors.append(f"{place}.{read}")


def _read_echoes(change: _Change, found: _Found) -> None:
    around = Around.of(change.value, change.account)
    for place, item in found.items(change.value, ECHOES, f"{change.place}."):
        if text_of(item, "group_id"):
            found.notices.append(_notice("group_message", item, change))
            continue
        read = read_echo(item, around, found.place)
        if isinstance(read, str):
            found.errors.append(f"{place}.{read}")
        else:
            found.agent_messages.append(read)


def _receipt(item: Fields, change: _Change) -> Receipt | str:
    """One of `statuses`, or a sentence that begins with the field that is wrong."""
    external_id, status = text_of(item, "id"), text_of(item, "status").strip().lower()
    if not external_id:
        return "id: missing; nothing says which message it is about"
    if not status:
        return "status: missing; nothing says what happened to the message"
    _, error = next(items_of(item, "errors", "", []), ("", {}))
    given = text_of(item, "recipient_id") or text_of(item, "recipient_user_id")
    person = addresses.person(given)
    details = text_of(fields_of(error, "error_data"), "details")
    extra = {name: value for name, value in item.items() if name not in _READ_OF_STATUS}
    if (opaque := item.get("biz_opaque_callback_data")) and own_id(opaque) is None:
        extra["biz_opaque_callback_data"] = opaque  # of another system on the same number
    return Receipt(
        external_id=external_id,
        status=status,
        message_id=own_id(item.get("biz_opaque_callback_data")),
        channel_kind="whatsapp",
        error_code=text_of(error, "code") or None,
        error_message=details or text_of(error, "message") or text_of(error, "title") or None,
        timestamp=instant(item.get("timestamp")),
        recipient=(person.canonical if person else given) or None,
        channel_address=change.phone_number_id,
        extra=plain({**extra, "waba_id": change.account}),
    )


def _preference(item: Fields, change: _Change) -> Notice:
    """`user_preferences`: whether a customer takes marketing messages, from any number of the business."""
    told, state = _CONSENT.get(text_of(item, "value").lower(), ("", None))
    given = text_of(item, "wa_id") or text_of(item, "user_id") or text_of(item, "parent_user_id")
    person = addresses.person(given)
    if state is None or person is None:
        return _notice("user_preferences", item, change)
    consent = Consent(state, "marketing", "whatsapp", person, instant(item.get("timestamp")))
    notice = _notice("consent", {**item, "change": told, "address": person.canonical}, change)
    return replace(notice, consent=consent)


def _marketing(message: InboundMessage, phone_number_id: str) -> Notice | None:
    """The older form of the same: a system message `user_preference_changed` with `marketing`."""
    system, person = message.extra.get("system"), message.sender[0]
    if not isinstance(system, dict):
        return None
    told, state = _CONSENT.get(text_of(system, "marketing").lower(), ("", None))
    if state is None:
        return None
    consent = Consent(state, "marketing", "whatsapp", person, message.timestamp)
    return Notice("consent", {"change": told, "address": person.canonical}, phone_number_id, consent)


def _notice(name: str, data: Fields, change: _Change) -> Notice:
    return Notice(name, plain({**data, "waba_id": change.account}), change.phone_number_id)
