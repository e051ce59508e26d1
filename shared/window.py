"""WhatsApp's 24-hour window: whether a message may leave, and in what form. Pure.

WhatsApp lets a business write freely only within 24 hours of the customer's last message; after that only an approved
template. Two minutes before the end count as closed, because a message leaves some time after it is admitted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from shared.providers.base import ChannelKind, Template

LENGTH: Final = timedelta(hours=24)
MARGIN: Final = timedelta(minutes=2)

Policy = Literal["template", "hold", "fail"]


def closes_at(last_user_message_at: datetime | None) -> datetime | None:
    """When free-form messages stop being admitted (margin included); None where there never was a window."""
    return None if last_user_message_at is None else last_user_message_at + LENGTH - MARGIN


def is_open(last_user_message_at: datetime | None, now: datetime) -> bool:
    """Whether a free-form message may leave now. Both are aware datetimes."""
    end = closes_at(last_user_message_at)
    return end is not None and now < end


@dataclass(frozen=True, slots=True)
class Admit:
    """It may leave; as this template where one is given, else as it is."""

    template: Template | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """It waits until the customer next writes, or expires."""


@dataclass(frozen=True, slots=True)
class Fail:
    code: str
    reason: str


Decision = Admit | Hold | Fail


def decide(
    *,
    kind: ChannelKind,
    last_user_message_at: datetime | None,
    now: datetime,
    policy: Policy,
    template: Template | None = None,
    fallback: Template | None = None,
    refused_at: datetime | None = None,
) -> Decision:
    """What becomes of a message that is about to leave.

    `template` is the one the message was made with, `fallback` the channel's for free-form text outside the window.
    `refused_at` is when the provider itself said "closed": it knows better, until the customer writes again.
    """
    if template is not None or kind != "whatsapp":
        return Admit(template)
    refused = refused_at is not None and (last_user_message_at is None or last_user_message_at <= refused_at)
    if not refused and is_open(last_user_message_at, now):
        return Admit()
    if policy == "hold":
        return Hold()
    if policy == "template":
        if fallback is not None:
            return Admit(fallback)
        return Fail("window_closed", "outside the 24-hour window, and the channel has no fallback template")
    return Fail("window_closed", "outside the 24-hour window")
