"""rate_limits: how fast a channel sends, over all processes. One row a channel says when its next message may leave.

The row is a virtual clock (GCRA): a reservation moves it on by what it takes, and gets the moments before. Two lanes
share the channel's rate. What a campaign reserves moves `bulk_free_at` on too, and by more: so it leaves a part of the
rate to replies. A reply need not wait for the slots that a campaign has reserved shortly before it: it goes ahead of
them, and takes its slot on the line all the same.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain.campaigns import pace
from shared.domain.campaigns.pace import Slowed
from shared.queue.jobs import Lane

LATE: Final = 0.02  # seconds: a slot may have begun so long ago where the channel is busy; its call is still in time
CATCH_UP: Final = 0.05  # seconds of its own rate that a campaign makes up for where something delayed it
IN_USE: Final = timedelta(seconds=10)  # after its last reservation, a campaign is taken to use the channel
AHEAD_OF: Final = 0.125  # seconds of a campaign's slots that a reply may go ahead of: more are not a campaign's alone
MOST_INBOUND: Final = timedelta(seconds=2)  # by which what customers write delays one reservation of a campaign

# As pace.share and pace.refused, of a row `r` and the moment p.now.
SHARE: Final = f"""CASE WHEN r.slowed_at IS NULL THEN 1 ELSE least(1, r.share + {pace.GROWTH} * greatest(0, floor(
    extract(epoch FROM p.now - r.slowed_at)::float8 / {pace.QUIET.total_seconds()}))) END"""
_TOGETHER = f"r.slowed_at IS NOT NULL AND p.now - r.slowed_at < interval '{pace.COUNTED_ONCE.total_seconds()} s'"
REPLY_SHARE: Final = f"greatest({pace.SLOWER}, {SHARE})"  # as pace.reply_share
REFUSED_SHARE: Final = f"""CASE WHEN {_TOGETHER} THEN r.share
    ELSE greatest({pace.SLOWEST}, ({SHARE}) * {pace.SLOWER}) END"""
REFUSED_AT: Final = f"CASE WHEN {_TOGETHER} THEN r.slowed_at ELSE p.now END"

# The moment when the next slot begins: on a busy channel that is where the last one ended, even if that was just now.
# An idle channel's begins after $6 seconds, which the caller needs to make use of it: no unused rate is saved up.
_BEGINS = f"""CASE WHEN r.free_at >= p.now - interval '{LATE} s' THEN r.free_at
    ELSE p.now + make_interval(secs => $6) END"""
_BULK_BEGINS = f"greatest({_BEGINS}, r.bulk_free_at)"
_BULK_MOVED = f"""greatest(r.bulk_free_at, {_BULK_BEGINS} - interval '{CATCH_UP} s')
    + make_interval(secs => p.slots * p.spacing / (1 - $7))"""


# A reply goes ahead: at most one each $9 seconds (0: none), where nothing but a campaign's next slots is before it.
_AHEAD = f"""($9::float8 > 0 AND $4::float8 = 1 AND ({SHARE}) >= 1
    AND r.bulk_at > p.now - interval '{IN_USE.total_seconds()} s' AND (r.ahead_at IS NULL OR r.ahead_at <= p.now)
    AND r.free_at > p.now + make_interval(secs => $6) AND r.free_at < p.now + interval '{AHEAD_OF} s')"""
_REPLY_BEGINS = f"CASE WHEN {_AHEAD} THEN p.now + make_interval(secs => $6) ELSE {_BEGINS} END"
_AHEAD_AT = f"CASE WHEN {_AHEAD} THEN p.now + make_interval(secs => $9) ELSE r.ahead_at END"
_LINE_BEGAN = "r.free_at - make_interval(secs => p.slots * p.spacing)"
_REPLY_BEGAN = f"""CASE WHEN $9::float8 > 0 AND r.ahead_at = p.now + make_interval(secs => $9)
    THEN p.now + make_interval(secs => $6) ELSE {_LINE_BEGAN} END"""


def _reservation(begins: str, share: str, *, on_line: str, began: str = _LINE_BEGAN, moved: str) -> str:
    """The statement that reserves, where the next slot `begins` so, of this `share` of the rate.

    `on_line` is where its slot lies on the channel's line, `began` its beginning once the row is written; `moved` is
    what else is written. A reservation need not outlive a crash of the database, which takes longer than what is
    reserved: its commit does not wait for the disk.
    """
    return f"""
WITH now AS MATERIALIZED (SELECT clock_timestamp() AS now, set_config('synchronous_commit', 'off', true)),
p AS MATERIALIZED (
    SELECT now, begins, spacing, least($4::float8, greatest(1, floor($8::float8 * (1 - $7::float8) / spacing))) AS slots
    FROM (SELECT p.now, {begins} AS begins, 1 / ($3::float8 * {share}) AS spacing
        FROM rate_limits r, now p WHERE r.tenant_id = $1 AND r.channel_id = $2) AS found
),
reserved AS (
    UPDATE rate_limits r SET free_at = {on_line} + make_interval(secs => p.slots * p.spacing), {moved}
    FROM p WHERE r.tenant_id = $1 AND r.channel_id = $2 AND {begins} <= p.now + make_interval(secs => $5)
    RETURNING {began} AS begins
)
SELECT extract(epoch FROM p.now)::float8 AS now, p.spacing,
    extract(epoch FROM coalesce(reserved.begins, p.begins))::float8 AS begins,
    CASE WHEN reserved.begins IS NULL THEN 0 ELSE p.slots END::int AS slots
FROM p LEFT JOIN reserved ON true
"""


_RESERVE_REPLY = _reservation(
    _REPLY_BEGINS, REPLY_SHARE, on_line=_BEGINS, began=_REPLY_BEGAN, moved=f"ahead_at = {_AHEAD_AT}"
)
_RESERVE_BULK = _reservation(
    _BULK_BEGINS, SHARE, on_line=_BULK_BEGINS, moved=f"bulk_free_at = {_BULK_MOVED}, bulk_at = p.now"
)

_ADD = """
INSERT INTO rate_limits (tenant_id, channel_id, free_at) VALUES ($1, $2, now() - interval '1 second')
ON CONFLICT (tenant_id, channel_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What a process asks of a channel's rate."""

    tenant_id: UUID
    channel_id: UUID
    lane: Lane
    rate: float  # messages a second: the channel's setting
    bulk_reserve: float  # share of the rate that campaigns leave to replies
    slots: int = 1  # at most so many, and
    slice: float = 1.0  # at most what these seconds of the rate hold, but at least one
    ahead: float = (
        0.0  # only where the first one begins within so many seconds: later, it would be lost while the row waits
    )
    notice: float = 0.0  # seconds that the caller needs before the first slot of an idle channel
    ahead_every: float = 0.0  # of a reply: one in so many seconds may go ahead of a campaign's slots; 0: none may


@dataclass(frozen=True, slots=True)
class Reservation:
    """So many slots of a channel's rate, from `begins` on. None were reserved where `slots` is 0: that is too far off.

    Times are seconds of the database's clock.
    """

    now: float  # when the database answered
    begins: float
    spacing: float
    slots: int


async def reserve(pool: Pool, request: Request) -> Reservation:
    """Reserve the next slots of a channel's rate, unless they are too far off."""
    key = (request.tenant_id, request.channel_id)
    is_bulk = request.lane == "bulk"
    values = [
        *key, request.rate, request.slots, request.ahead, request.notice, request.bulk_reserve if is_bulk else 0.0,
        request.slice,
    ]  # fmt: skip
    while True:
        if is_bulk:
            row = await pool.fetchrow(_RESERVE_BULK, *values)
        else:
            row = await pool.fetchrow(_RESERVE_REPLY, *values, request.ahead_every)
        if row is not None:
            return Reservation(row["now"], row["begins"], row["spacing"], row["slots"])
        await pool.execute(_ADD, *key)


_SLOW = f"""
INSERT INTO rate_limits AS r (tenant_id, channel_id, free_at, share, slowed_at)
VALUES ($1, $2, clock_timestamp() + $3::interval, {pace.SLOWER}, clock_timestamp())
ON CONFLICT (tenant_id, channel_id) DO UPDATE
SET free_at = greatest(r.free_at, excluded.free_at), share = {REFUSED_SHARE}, slowed_at = {REFUSED_AT}
""".replace("p.now", "excluded.slowed_at")


async def slow(connection: Connection, tenant_id: UUID, channel_id: UUID, wait: timedelta) -> None:
    """The provider throttles the channel: nothing leaves until `wait` has passed, and less of its rate from then on."""
    await connection.execute(_SLOW, tenant_id, channel_id, wait)


_SLOWED = "SELECT share, slowed_at FROM rate_limits WHERE tenant_id = $1 AND channel_id = $2 AND slowed_at IS NOT NULL"


async def slowed(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID) -> Slowed | None:
    """How the provider has slowed the channel, for `pace.share`; None where it never did."""
    row = await connection.fetchrow(_SLOWED, tenant_id, channel_id)
    return None if row is None else Slowed(row["share"], row["slowed_at"])


# A row that another session holds is left out: persist waits for no lock, and the next messages are counted again.
_COUNT_INBOUND = f"""
WITH p AS MATERIALIZED (
    SELECT r.tenant_id, r.channel_id, c.now, c.messages / (c.rate * {SHARE}) AS seconds
    FROM (
        SELECT clock_timestamp() AS now, set_config('synchronous_commit', 'off', true), asked.*
        FROM unnest($1::uuid[], $2::uuid[], $3::float8[], $4::float8[])
            AS asked (tenant_id, channel_id, messages, rate)
    ) AS c JOIN rate_limits r ON r.tenant_id = c.tenant_id AND r.channel_id = c.channel_id
    WHERE r.bulk_at > c.now - interval '{IN_USE.total_seconds()} s'
    FOR NO KEY UPDATE OF r SKIP LOCKED
)
UPDATE rate_limits r SET bulk_free_at = greatest(r.bulk_free_at, least(
    greatest(r.bulk_free_at, p.now) + make_interval(secs => p.seconds),
    r.bulk_at + interval '{MOST_INBOUND.total_seconds()} s'))
FROM p WHERE r.tenant_id = p.tenant_id AND r.channel_id = p.channel_id
""".replace("p.now - r.slowed_at", "c.now - r.slowed_at")


@dataclass(frozen=True, slots=True)
class Inbound:
    """So many messages that customers wrote to a channel; `rate` is the channel's setting."""

    tenant_id: UUID
    channel_id: UUID
    messages: int
    rate: float


async def count_inbound(pool: Pool, written: Collection[Inbound]) -> None:
    """Let campaigns leave room for what customers wrote to these channels just now, where one is sending.

    However much that is, a campaign reserves a slice each MOST_INBOUND.
    """
    await pool.execute(
        _COUNT_INBOUND,
        [one.tenant_id for one in written],
        [one.channel_id for one in written],
        [float(one.messages) for one in written],
        [one.rate for one in written],
    )
