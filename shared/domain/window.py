"""Decides by WhatsApp's 24-hour window whether a message may be sent, and in what form. No I/O.

WhatsApp lets a business write freely only within 24 hours of the customer's last message; after that, only by an
approved template. The last two minutes count as closed, because a message is sent some time after it is admitted.

The same rule in SQL is in schema/migrations/0009_windows.sql: `is_open` is `window_is_open` (by the statement's clock
`is_within_24_hour_window`), and `check` is `check_whatsapp_24_hour_window`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from shared.domain.model import ChannelKind, Template

LENGTH: Final = timedelta(hours=24)
MARGIN: Final = timedelta(minutes=2)

Policy = Literal["template", "hold", "fail"]


def closes_at(last_user_message_at: datetime | None) -> datetime | None:
    """When free-form messages stop being admitted (margin included), in UTC; None where there never was a window.

    Raises ValueError for a datetime without a time zone.
    """
    if last_user_message_at is None:
        return None
    if last_user_message_at.utcoffset() is None:
        raise ValueError("the window is counted from a moment, which a datetime without a time zone is not")
    # In UTC: with another tzinfo `+` moves the wall clock, which is an hour off on two days of the year.
    return last_user_message_at.astimezone(UTC) + LENGTH - MARGIN


def is_open(last_user_message_at: datetime | None, now: datetime) -> bool:
    """Whether a free-form message may be sent now. Both are aware datetimes.

    A message's time is never after its arrival, so a time in the future comes from a clock slightly ahead: open.
    """
    end = closes_at(last_user_message_at)
    return end is not None and now < end


@dataclass(frozen=True, slots=True)
class WindowStatus:
    """Whether a message may be sent without a template, and until when.

    `open_until` is in the past where the window has closed; it is None where the customer never wrote, and on channels
    without a window (SMS, e-mail), where sending is always allowed.
    """

    can_send_proactive: bool
    open_until: datetime | None
    last_user_message_at: datetime | None


def check(kind: ChannelKind, last_user_message_at: datetime | None, now: datetime) -> WindowStatus:
    """The window of a conversation on a channel of this kind."""
    if kind != "whatsapp":
        return WindowStatus(True, None, last_user_message_at)
    return WindowStatus(is_open(last_user_message_at, now), closes_at(last_user_message_at), last_user_message_at)


@dataclass(frozen=True, slots=True)
class Admit:
    """It may be sent: as this template where one is given, else as it is."""

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
    """The decision on a message that is about to be sent.

    `template` is the message's own, `fallback` the channel's for free-form text outside the window. `refused_at` is
    when the provider reported the window as closed, which counts until the customer writes again.
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
