"""Parses the webhooks of Meta's WhatsApp Cloud API: messages, delivery receipts, consents and all else.

Sources: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference (fields), and
…/whatsapp/business-scoped-user-ids (customers without a phone number).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from shared.domain import addresses
from shared.domain.model import AgentMessage, Consent, ConsentState, InboundMessage, Pricing, Receipt
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
from shared.providers.meta.messaging_limit import messaging_limit
from shared.providers.meta.template_updates import pause_title, template_change

ACCOUNTS = "whatsapp_business_account"  # what `object` says of all WhatsApp webhooks
MOST_UPDATES = 4000
"""Entries, changes and what they hold, of one webhook: Meta documents 1000 updates, each perhaps in an entry and a
change of its own. A tenant with its own app secret could sign a million of them in 3 MB."""
_LONGEST_ACCOUNT = 100  # characters of an account's id, which is copied to each update
_CONSENT: dict[str, tuple[str, ConsentState]] = {
    "stop": ("opt_out", "opted_out"),
    "resume": ("opt_in", "opted_in"),
    "signup": ("opt_in", "opted_in"),
}
_READ_OF_STATUS = frozenset(("id", "status", "timestamp", "recipient_id", "biz_opaque_callback_data"))


@dataclass(slots=True)
class _Found:
    """The parts of a webhook that have been read so far."""

    messages: list[InboundMessage] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    agent_messages: list[AgentMessage] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    left: int = MOST_UPDATES
    cut: bool = False

    def items(self, holder: Fields, name: str, prefix: str, *, needed: bool = False) -> Iterator[tuple[str, Fields]]:
        """As `items_of`, until MOST_UPDATES are read."""
        for place, item in items_of(holder, name, prefix, self.errors, needed=needed):
            if not self.left:
                self.cut = True
                return
            self.left -= 1
            yield place, item

    @property
    def place(self) -> int:
        """The place of the next message in the webhook."""
        return len(self.messages) + len(self.agent_messages)

    @property
    def count(self) -> int:
        return len(self.messages) + len(self.receipts) + len(self.notices) + len(self.agent_messages) + len(self.errors)


@dataclass(frozen=True, slots=True)
class _Change:
    """One change of one entry. `place` names it in sentences."""

    place: str
    account: str  # WhatsApp business account id
    field: str
    value: Fields

    @property
    def phone_number_id(self) -> str:
        return text_of(fields_of(self.value, "metadata"), "phone_number_id")


def parse(raw: RawWebhook) -> Parsed:
    """Parse all of a webhook: each message, status and event of each change of each entry. Never raises.

    What cannot be read is a sentence in `errors` that names its place, and costs nothing else.
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
    if "entry" not in root and isinstance(root.get("value"), dict):  # a single change, as in Meta's samples
        yield _Change("value", "", text_of(root, "field"), fields_of(root, "value"))
        return
    if "entry" not in root and ("messages" in root or "statuses" in root):  # a single value, of the On-Premises API
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
    """Read the messages, statuses, errors and preferences of a change; a change without any is a notice."""
    before = found.count
    value, prefix = change.value, f"{change.place}."
    # Messages under `standby` and similar fields are for another system to answer.
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
        notice = _notice(printable_word(change.field) or "other", {**value, **pause_title(value)}, change)
        news = (change.field, value, change.account)
        found.notices.append(replace(notice, template=template_change(*news), limit=messaging_limit(*news)))


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
        elif item.get("type") == "system":  # such as a customer's new user id, without a number
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
        extra["biz_opaque_callback_data"] = opaque  # another system on the same number has set it
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
        pricing=_pricing(fields_of(item, "pricing")),
        extra=plain({**extra, "waba_id": change.account}),
    )


def _pricing(given: Fields) -> Pricing | None:
    """`pricing` of a status: a message is charged when it is delivered, by its category. None where it names none.

    https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status
    """
    category, billable = printable_word(text_of(given, "category")), given.get("billable")
    if not category:
        return None
    return Pricing(category, printable_word(text_of(given, "type")), billable if isinstance(billable, bool) else None)


def _preference(item: Fields, change: _Change) -> Notice:
    """`user_preferences`: whether a customer wants marketing messages, from any number of the business."""
    change_name, state = _CONSENT.get(text_of(item, "value").lower(), ("", None))
    given = text_of(item, "wa_id") or text_of(item, "user_id") or text_of(item, "parent_user_id")
    person = addresses.person(given)
    if state is None or person is None:
        return _notice("user_preferences", item, change)
    consent = Consent(state, "marketing", "whatsapp", person, instant(item.get("timestamp")))
    notice = _notice("consent", {**item, "change": change_name, "address": person.canonical}, change)
    return replace(notice, consent=consent)


def _marketing(message: InboundMessage, phone_number_id: str) -> Notice | None:
    """The older form of a preference: a system message `user_preference_changed` with `marketing`."""
    system, person = message.extra.get("system"), message.sender[0]
    if not isinstance(system, dict):
        return None
    change_name, state = _CONSENT.get(text_of(system, "marketing").lower(), ("", None))
    if state is None:
        return None
    consent = Consent(state, "marketing", "whatsapp", person, message.timestamp)
    return Notice("consent", {"change": change_name, "address": person.canonical}, phone_number_id, consent)


def _notice(name: str, data: Fields, change: _Change) -> Notice:
    return Notice(name, plain({**data, "waba_id": change.account}), change.phone_number_id)
