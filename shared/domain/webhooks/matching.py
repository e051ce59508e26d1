"""Which events a webhook gets: by their names, and by the channel, direction and tags that it asks for. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal
from uuid import UUID

Direction = Literal["inbound", "outbound"]

TRIGGERED: Final = "webhook_triggered"
# What we tell of deliveries. A delivery of one of these leads to no other: of two webhooks that get each other's, each
# delivery would lead to the next one for ever.
ABOUT_DELIVERIES: Final = frozenset(
    (TRIGGERED, "webhook_failing", "webhook_exhausted", "webhook_recovered", "webhook_disabled")
)


@dataclass(frozen=True, slots=True)
class WebhookFilter:
    """What a webhook asks for. A member that is empty or None lets everything pass."""

    webhook_id: UUID
    events: tuple[str, ...]  # public names; `message_*` is all that begin so, `*` every event
    channel_ids: frozenset[UUID] = frozenset()
    direction: Direction | None = None
    tags: frozenset[str] = frozenset()  # of the contact: any of them


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What decides who gets an event. None or empty: it is about none."""

    name: str  # the public one
    channel_id: UUID | None = None
    direction: Direction | None = None  # of the message that it is about
    tags: frozenset[str] = frozenset()  # of the contact that it is about
    webhook_id: UUID | None = None  # that a `webhook_…` event is about


def wants(webhook: WebhookFilter, event: EventFacts) -> bool:
    """Whether the webhook gets the event.

    A webhook gets no event about deliveries to itself: each of these would be followed by another one.
    """
    if event.name in ABOUT_DELIVERIES and event.webhook_id == webhook.webhook_id:
        return False
    return (
        names(webhook.events, event.name)
        and (not webhook.channel_ids or event.channel_id in webhook.channel_ids)
        and (webhook.direction is None or event.direction == webhook.direction)
        and (not webhook.tags or not webhook.tags.isdisjoint(event.tags))
    )


def leads_to_events(name: str) -> bool:
    """Whether a delivery of an event of this public name is followed by `webhook_triggered` or `webhook_exhausted`."""
    return name not in ABOUT_DELIVERIES


def tags_of(metadata: Any) -> frozenset[str]:
    """The tags in a contact's `metadata`; whatever else a tenant stored there is none."""
    tags = metadata.get("tags") if isinstance(metadata, Mapping) else None
    return frozenset(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list | tuple) else frozenset()


@lru_cache(maxsize=4096)
def names(patterns: tuple[str, ...], name: str) -> bool:
    """Whether one of the patterns names the event."""
    return any(_names(pattern, name) for pattern in patterns)


def _names(pattern: str, name: str) -> bool:
    if name == TRIGGERED:  # follows every delivery: whoever asks for everything does not mean it
        return pattern == name
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else pattern == name
