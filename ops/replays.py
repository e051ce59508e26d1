"""Publishes raw webhooks from `inbound_log` to the persist queue again."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from ops import connections
from ops.errors import Problem
from shared.database import Pool
from shared.settings import Settings
from shared.store import webhook_log

SHORT_ID = 8  # characters of an id that name a webhook, if only one begins so
MOST = 100_000  # webhooks of one call
AT_ONCE = 100  # fetched and published together

_ID = re.compile(rf"[0-9a-f]{{{SHORT_ID},64}}")
_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Advance = Callable[[int, int], None]  # (done, of all)


@dataclass(frozen=True, slots=True)
class Span:
    """Webhooks by when they were stored: from `since` on, before `until`."""

    since: datetime
    until: datetime
    endpoint_id: UUID | None = None
    only_failed: bool = False


def moment(option: str, given: str, now: datetime) -> datetime:
    """`90m`, `2h`, `3d` ago, or an ISO date and time (of this machine's zone unless it says). Raises Problem."""
    try:
        if ago := _AGO.fullmatch(given.strip()):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(given.strip()).astimezone()
    except (ValueError, OverflowError):
        raise Problem(
            f"{option}: {given!r} is no moment.", "Write 2026-03-14T09:30, or 90m, 2h, 3d for so long ago."
        ) from None


async def replay(settings: Settings, asked: Sequence[str] | Span, advance: Advance) -> tuple[int, list[str]]:
    """Put webhooks into their queue, confirmed; returns how many, and which ids of those asked for are not in the log.

    Raises Problem for an id that is none or means several, before anything is published.
    """
    named = () if isinstance(asked, Span) else [_beginning(given) for given in asked]
    async with (
        connections.database(settings, "replay") as pool,
        connections.publisher(settings, "palomar replay") as publisher,
    ):
        ids, unknown = await _between(pool, asked) if isinstance(asked, Span) else await _named(pool, named)
        done = 0
        for start in range(0, len(ids), AT_ONCE):
            chunk = ids[start : start + AT_ONCE]
            found = {entry.webhook.inbound_id: entry.webhook for entry in await webhook_log.fetch(pool, chunk)}
            await publisher.publish(*found.values())
            unknown += [one for one in chunk if one not in found]
            done += len(found)
            advance(done, len(ids))
    return done, unknown


async def _between(pool: Pool, span: Span) -> tuple[list[str], list[str]]:
    ids = await webhook_log.ids_between(
        pool, span.since, span.until, endpoint_id=span.endpoint_id, only_failed=span.only_failed, limit=MOST + 1
    )
    if len(ids) > MOST:
        raise Problem(f"More than {MOST} webhooks came in then.", "Replay a shorter span at a time.")
    return ids, []


def _beginning(given: str) -> str:
    beginning = given.strip().lower()
    if not _ID.fullmatch(beginning):
        raise Problem(
            f"{given!r} is no id of a webhook.", f"An id is 64 hexadecimal digits; the first {SHORT_ID} are enough."
        )
    return beginning


async def _named(pool: Pool, beginnings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Whole ids of whole and shortened ones, and those that nothing in the log begins with."""
    ids: dict[str, None] = {}
    unknown: list[str] = []
    for beginning in beginnings:
        found = [beginning] if len(beginning) == 64 else await webhook_log.ids_beginning(pool, beginning, 2)
        if len(found) > 1:
            raise Problem(f"Several webhooks begin with {beginning}.", "Give more of the id.")
        ids.update(dict.fromkeys(found))
        if not found:
            unknown.append(beginning)
    return list(ids), unknown
