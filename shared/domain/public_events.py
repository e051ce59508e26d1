"""The events as clients know them: public name, meaning, JSON Schema and sample, and which of ours each stands for.

No I/O. The table `events` has names such as `message.sent`. Clients get the names of this table, which is the only
place that maps one to the other. A name without a line of its own falls to its family's (`message.*`), and whatever a
tenant records by SQL to `other`: no event is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d"
_LOG_ID: Final = "019ac2f0-9e1c-8a35-b1c7-5d0e7a44f210"
_TEXT: Final = "string"
_NUMBER: Final = "integer"
_DECIMAL: Final = "number"
_ANY: Final = ["string", "number", "boolean", "null"]

# What an event may be about, in the members of the public event.
CHANNEL: Final = "channelId"
CONVERSATION: Final = "conversationId"
MESSAGE: Final = "messageId"
CONTACT: Final = "contactId"


@dataclass(frozen=True, slots=True)
class PublicEvent:
    """An event as clients know it."""

    name: str
    meaning: str
    sources: tuple[str, ...]  # names in the table `events`; `message.*` is every other one of that family
    about: tuple[str, ...] = ()  # the ids that its sample has
    rest: str | None = None  # the member of `data` that gets what `*` stands for: `sent` of `message.sent`
    facts: Mapping[str, str] = field(default_factory=dict)  # members of `data` → their JSON type
    data: Mapping[str, Any] = field(default_factory=dict)  # of the sample

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of this event."""
        members = {name: {"type": kind} for name, kind in self.facts.items()}
        if self.rest is not None:
            members[self.rest] = {"type": _TEXT}
        id_or_null = {"type": [_TEXT, "null"], "format": "uuid"}
        properties: dict[str, Any] = {
            "id": {"type": _TEXT, "description": "Its place in the order: give it as `after` to go on behind it."},
            "name": {"const": self.name},
            "occurredAt": {"type": _TEXT, "format": "date-time"},
            "tenantId": {"type": _TEXT, "format": "uuid"},
            **dict.fromkeys((CHANNEL, CONVERSATION, MESSAGE, CONTACT), id_or_null),
            "data": {
                "type": "object",
                "properties": members,
                "required": [] if self.rest is None else [self.rest],
                "additionalProperties": {"type": _ANY},
            },
        }
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.name,
            "description": self.meaning,
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def sample(self) -> dict[str, Any]:
        """An event of this kind, as clients get it."""
        ids = {name: _ID if name in self.about else None for name in (CHANNEL, CONVERSATION, MESSAGE, CONTACT)}
        return {
            "id": "Dh6zIp1tUFcAAAAAAA8sgAAAAAAAAEJo",
            "name": self.name,
            "occurredAt": "2026-11-28T16:00:00Z",
            "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
            **ids,
            "data": dict(self.data),
        }


_TALK: Final = (CHANNEL, CONVERSATION)
_MESSAGE: Final = (CHANNEL, CONVERSATION, MESSAGE)
_ERROR: Final = {"errorCode": _TEXT}
_CHANGED: Final = {"change": "updated"}
_DELIVERY: Final = {"webhookId": _TEXT, "logId": _TEXT, "event": _TEXT, "status": _NUMBER}
_DELIVERED: Final = {"webhookId": _ID, "logId": _LOG_ID, "event": "message_received"}
_URL: Final = {"error": _TEXT, "failures": _NUMBER}
_RECIPIENTS: Final = (
    "pending", "queued", "held", "sent", "delivered", "read", "replied", "failed", "skipped", "optedOut", "unknown",
    "canceled",
)  # fmt: skip

OTHER: Final = PublicEvent(
    "other", "What has no other name here, such as an event that you recorded by SQL; `data.event` is that name.",
    ("*",), rest="event", data={"event": "shop.order_paid", "orders": 1},
)  # fmt: skip

EVENTS: Final[tuple[PublicEvent, ...]] = (
    PublicEvent("contact_created", "A contact was created, or wrote first.", ("contact.created",), (CONTACT,)),
    PublicEvent("contact_updated", "A contact was changed.", ("contact.*",), (CONTACT,), "change", data=_CHANGED),
    PublicEvent("contact_deleted", "A contact was deleted.", ("contact.deleted",), (CONTACT,)),
    PublicEvent("contact_restored", "A deleted contact was restored.", ("contact.restored",), (CONTACT,)),
    PublicEvent("contact_erased", "All that was stored of a person was erased.", ("contact.erased",), (CONTACT,)),
    PublicEvent(
        "contact_joined", "Two contacts turned out to be one person; `data.joined` is the id that is gone.",
        ("contact.joined",), (CONTACT,), facts={"joined": _TEXT}, data={"joined": _ID},
    ),
    PublicEvent(
        "group_created", "A group was created.", ("group.created",), facts={"groupId": _TEXT}, data={"groupId": _ID}
    ),
    PublicEvent(
        "group_updated", "A group or its members changed.", ("group.*",), (), "change", {"groupId": _TEXT},
        {**_CHANGED, "groupId": _ID},
    ),
    PublicEvent(
        "group_deleted", "A group was deleted.", ("group.deleted",), facts={"groupId": _TEXT}, data={"groupId": _ID}
    ),
    PublicEvent(
        "campaign_created", "A campaign was created.", ("campaign.created",), facts={"campaignId": _TEXT},
        data={"campaignId": _ID},
    ),
    PublicEvent(
        "campaign_updated", "A campaign was changed.", ("campaign.updated",), facts={"campaignId": _TEXT},
        data={"campaignId": _ID},
    ),
    PublicEvent(
        "campaign_deleted", "A campaign was deleted.", ("campaign.deleted",), facts={"campaignId": _TEXT},
        data={"campaignId": _ID},
    ),
    PublicEvent(
        "campaign_progress",
        "How far a running campaign is, every two seconds at most: its recipients by state, how many more become "
        "messages each second, and when all will have.",
        ("campaign.progress",), (CHANNEL,),
        facts={"campaignId": _TEXT, "rate": _DECIMAL, "eta": _TEXT, "waitingFor": _TEXT,
               **dict.fromkeys(_RECIPIENTS, _NUMBER)},
        data={"campaignId": _ID, "rate": 64.0, "eta": "2026-11-28T16:25:00+00:00", "pending": 96000, "delivered": 4000},
    ),
    PublicEvent(
        "campaign_status_changed", "A campaign began, paused or ended.", ("campaign.*",), (CHANNEL,), "status",
        {"campaignId": _TEXT, **_ERROR}, {"status": "paused", "campaignId": _ID},
    ),
    PublicEvent(
        "template_created", "A message template was created.", ("template.created", "message_template.created"),
        facts={"templateId": _TEXT}, data={"templateId": _ID},
    ),
    PublicEvent(
        "template_updated", "A message template, or its approval, changed.", ("template.*", "message_template.*"), (),
        "change", {"templateId": _TEXT}, {**_CHANGED, "templateId": _ID},
    ),
    PublicEvent(
        "template_deleted", "A message template was deleted.", ("template.deleted", "message_template.deleted"),
        facts={"templateId": _TEXT}, data={"templateId": _ID},
    ),
    PublicEvent(
        "webhook_created", "A webhook was created.", ("webhook.created",), facts={"webhookId": _TEXT},
        data={"webhookId": _ID},
    ),
    PublicEvent(
        "webhook_updated", "A webhook was changed.", ("webhook.*",), (), "change", {"webhookId": _TEXT},
        {**_CHANGED, "webhookId": _ID},
    ),
    PublicEvent(
        "webhook_deleted", "A webhook was deleted.", ("webhook.deleted",), facts={"webhookId": _TEXT},
        data={"webhookId": _ID},
    ),
    PublicEvent(
        "webhook_triggered",
        "An event was delivered to a webhook: `data.event` is its name, `data.status` is that of HTTP. Only a "
        "webhook that names this event gets it, and none of its own deliveries.",
        ("webhook.triggered",), facts=_DELIVERY, data={**_DELIVERED, "status": 200},
    ),
    PublicEvent(
        "webhook_failing", "A webhook's URL failed four times in a row. We go on trying.", ("webhook.failing",),
        facts=_DELIVERY | _URL, data={**_DELIVERED, "status": 503, "error": "status", "failures": 4},
    ),
    PublicEvent(
        "webhook_exhausted", "All attempts of a delivery failed. You can replay it.", ("webhook.exhausted",),
        facts=_DELIVERY | _URL, data={**_DELIVERED, "error": "timeout"},
    ),
    PublicEvent(
        "webhook_recovered", "A webhook's URL that was failing answers again. What waits follows, oldest first.",
        ("webhook.recovered",), facts=_DELIVERY | _URL, data={**_DELIVERED, "status": 200, "failures": 12},
    ),
    PublicEvent(
        "webhook_disabled",
        "A webhook gets no more, as its URL failed for five days (`exhausted`) or answered 410 (`gone`). What happens "
        "meanwhile is kept as missed; enable it again, and replay that.",
        ("webhook.disabled",), facts={"webhookId": _TEXT, "reason": _TEXT, "failures": _NUMBER},
        data={"webhookId": _ID, "reason": "exhausted", "failures": 412},
    ),
    PublicEvent(
        "message_received", "A customer wrote.", ("message.received",), (*_MESSAGE, CONTACT), facts={"type": _TEXT},
        data={"type": "text"},
    ),
    PublicEvent(
        "message_recorded", "An agent or a bot of yours wrote elsewhere, and we recorded it.", ("message.recorded",),
        _MESSAGE, facts={"by": _TEXT, "type": _TEXT}, data={"by": "manager", "type": "text"},
    ),
    PublicEvent(
        "message_status_changed",
        "A message that you send is queued, sent, delivered, read, failed, canceled, unknown, …",
        ("message.*",), _MESSAGE, "status", _ERROR, {"status": "delivered"},
    ),
    PublicEvent("message_held", "A message waits until its customer writes again.", ("message.held",), _MESSAGE),
    PublicEvent(
        "message_decision_wanted", "Whether a message left is unknown, and a person has to decide.",
        ("message.decision_wanted",), _MESSAGE, facts=_ERROR,
    ),
    PublicEvent(
        "conversation_updated", "A conversation was opened, escalated, assigned, closed, …", ("conversation.*",),
        (*_TALK, CONTACT), "change", data={"change": "escalated"},
    ),
    PublicEvent(
        "window_expiring",
        "WhatsApp's 24-hour window of a conversation closes in so many minutes as the channel's setting "
        "`window.expiring_minutes` says (60). It comes once for each window: a customer's message opens another one.",
        ("window.expiring",), _TALK,
        facts={"closesAt": _TEXT}, data={"closesAt": "2026-11-28T17:00:00+00:00"},
    ),
    PublicEvent(
        "channel_stopped", "A channel sends no more until you start it: its provider refuses it.",
        ("channel.stopped",), (CHANNEL,), facts=_ERROR, data={"errorCode": "credentials"},
    ),
    PublicEvent(
        "channel_updated", "A channel was created or changed.", ("channel.*",), (CHANNEL,), "change", data=_CHANGED
    ),
    PublicEvent(
        "consent_changed", "A person opted in or out.", ("consent.*",), (CONTACT,), "state",
        {"channelKind": _TEXT, "scope": _TEXT, "source": _TEXT, "at": _TEXT},
        {"state": "opted_out", "channelKind": "whatsapp", "scope": "all", "source": "keyword",
         "at": "2026-11-28T16:00:00+00:00"},
    ),
    PublicEvent(
        "media_updated", "Our copy of a customer's file is stored, or there is none.", ("media.*",), _MESSAGE,
        "status", {"mediaId": _TEXT, "size": _NUMBER, "reason": _TEXT},
        {"status": "stored", "mediaId": _ID, "size": 48213},
    ),
    PublicEvent(
        "provider_notice", "Your provider says something of its own, such as a changed limit.", ("provider.*",),
        (CHANNEL,), "notice", data={"notice": "account_update"},
    ),
    PublicEvent(
        "api_key_created", "A key of this API was created.", ("api_key.created",), facts={"apiKeyId": _TEXT},
        data={"apiKeyId": _ID},
    ),
    PublicEvent(
        "api_key_revoked", "A key of this API was revoked.", ("api_key.revoked",), facts={"apiKeyId": _TEXT},
        data={"apiKeyId": _ID},
    ),
    PublicEvent("session_updated", "A session began or ended.", ("session.*",), _TALK, "change", data=_CHANGED),
    PublicEvent("tenant_updated", "Your tenant was created or changed.", ("tenant.*",), (), "change", data=_CHANGED),
    OTHER,
)  # fmt: skip

NAMES: Final = tuple(event.name for event in EVENTS)
_BY_SOURCE: Final = {source: event for event in EVENTS for source in event.sources}


@lru_cache(maxsize=1024)
def public_of(source: str) -> tuple[PublicEvent, Mapping[str, str]]:
    """The public event of a name in the table `events`, and what that name adds to `data`."""
    if not source.endswith("*") and (exact := _BY_SOURCE.get(source)) is not None:
        return exact, {}
    family, dot, rest = source.partition(".")
    event = _BY_SOURCE.get(f"{family}.*", OTHER) if dot and rest else OTHER
    assert event.rest is not None, "a family's event says which one of the family happened"
    return event, {event.rest: source if event is OTHER else rest}
