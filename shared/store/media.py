"""media and media_blobs: the files that customers sent, the leases for fetching them, and the copies in the blob store.

A copy is reserved before it is stored and recorded after; a process that is killed in between leaves a row that is due.
A copy to be deleted is marked first: a process that wants to store the same bytes waits until it is deleted. Locks are
taken in one order: the file's row first, then its copy's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.database import Connection, Pool, new_id
from shared.domain.media import Reason, Status, key_of
from shared.domain.model import Media
from shared.queue.jobs import MediaWanted
from shared.store.by_key import only_if

_INSERT = """
INSERT INTO media (id, tenant_id, message_id, position, url, provider_id, mime_type, filename, provider_sha256,
    inbound_id, due_at)
SELECT id, tenant_id, message_id, position, url, provider_id, mime_type, filename, provider_sha256, inbound_id,
    now() + $11::interval
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::bytea[]) AS new (id, tenant_id, message_id, position, url, provider_id, mime_type, filename, provider_sha256,
        inbound_id)
"""


@dataclass(frozen=True, slots=True)
class SentFile:
    """One file of a new message; `position` is its place in the message's list."""

    tenant_id: UUID
    channel_id: UUID
    message_id: UUID
    position: int
    media: Media
    inbound_id: str  # hex
    trace: str = ""


async def want(connection: Connection, files: Sequence[SentFile], handoff: timedelta) -> list[MediaWanted]:
    """Note that these files are to be fetched. The caller publishes the jobs after the commit; the rows are due
    `handoff` later."""
    if not files:
        return []
    ids = [new_id() for _ in files]
    await connection.execute(
        _INSERT,
        ids,
        [file.tenant_id for file in files],
        [file.message_id for file in files],
        [file.position for file in files],
        [file.media.url for file in files],
        [file.media.id for file in files],
        [file.media.mime_type for file in files],
        [file.media.filename for file in files],
        [file.media.sha256 for file in files],
        [bytes.fromhex(file.inbound_id) for file in files],
        handoff,
    )
    return [
        MediaWanted(
            tenant_id=file.tenant_id,
            channel_id=file.channel_id,
            message_id=file.message_id,
            media_id=media_id,
            trace=file.trace,
        )
        for media_id, file in zip(ids, files, strict=True)
    ]


_DUE = """
UPDATE media SET due_at = now() + $1::interval WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM media WHERE due_at <= now() ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING tenant_id, message_id, id AS media_id, (
    SELECT channel_id FROM messages m WHERE m.tenant_id = media.tenant_id AND m.id = media.message_id) AS channel_id
"""


async def due(connection: Connection | Pool, lease: timedelta, limit: int) -> list[MediaWanted]:
    """Files to fetch: new ones whose job was lost, those to be tried again, and those whose worker did not finish."""
    return [MediaWanted(**row) for row in await connection.fetch(_DUE, lease, limit)]


# -- fetching one ------------------------------------------------------------------------------------------------------

_CLAIM = f"""
UPDATE media f
SET lease_id = $3, lease_until = now() + $4::interval, due_at = now() + $4::interval, attempts = f.attempts + 1
FROM messages m
WHERE f.tenant_id = $1 AND f.id = $2 AND {only_if("f.status = 'wanted'")}
    AND (f.lease_until IS NULL OR f.lease_until < now()) AND m.tenant_id = f.tenant_id AND m.id = f.message_id
RETURNING f.message_id, f.url, f.provider_id, f.mime_type, f.filename, f.provider_sha256, f.inbound_id, f.attempts,
    now() - f.created_at AS waited, m.channel_id, m.conversation_id, m.provider
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A file that this process may fetch until the lease ends; `attempts` counts this one."""

    tenant_id: UUID
    id: UUID
    lease_id: UUID
    message_id: UUID
    conversation_id: UUID
    channel_id: UUID
    provider: str
    media: Media
    inbound_id: bytes | None
    attempts: int
    waited: timedelta


async def claim(connection: Connection, tenant_id: UUID, media_id: UUID, lease: timedelta) -> Claim | None:
    """Take the file's lease; None where it is not wanted any more, or another process has the lease."""
    lease_id = new_id()
    row = await connection.fetchrow(_CLAIM, tenant_id, media_id, lease_id, lease)
    if row is None:
        return None
    file = Media(row["url"], row["provider_id"], row["mime_type"], row["filename"], row["provider_sha256"])
    return Claim(
        tenant_id,
        media_id,
        lease_id,
        row["message_id"],
        row["conversation_id"],
        row["channel_id"],
        row["provider"],
        file,
        row["inbound_id"],
        row["attempts"],
        row["waited"],
    )


_RELEASE = """
UPDATE media SET lease_id = NULL, lease_until = NULL, due_at = now() + $4::interval, attempts = attempts - 1
WHERE tenant_id = $1 AND id = $2 AND lease_id = $3
"""

_TRY_AGAIN = """
UPDATE media SET lease_id = NULL, lease_until = NULL, due_at = now() + $4::interval, reason = $5
WHERE tenant_id = $1 AND id = $2 AND lease_id = $3
"""

_END = """
UPDATE media SET lease_id = NULL, lease_until = NULL, due_at = NULL, status = $4, reason = $5
WHERE tenant_id = $1 AND id = $2 AND lease_id = $3 RETURNING id
"""


async def release(connection: Connection | Pool, claim: Claim, wait: timedelta) -> None:
    """Release the lease without an attempt; due again after `wait`."""
    await connection.execute(_RELEASE, claim.tenant_id, claim.id, claim.lease_id, wait)


async def try_again(connection: Connection | Pool, claim: Claim, reason: Reason, wait: timedelta) -> None:
    """Release the lease after a failed attempt; due again after `wait`."""
    await connection.execute(_TRY_AGAIN, claim.tenant_id, claim.id, claim.lease_id, wait, reason)


async def end(connection: Connection, claim: Claim, status: Status, reason: Reason) -> bool:
    """wanted → refused, expired or failed, with the reason. False where another process has the lease by now."""
    args = (claim.tenant_id, claim.id, claim.lease_id, status, reason)
    return await connection.fetchval(_END, *args) is not None


_POSTPONE = f"""
UPDATE media SET due_at = now() + $3::interval WHERE tenant_id = $1 AND id = $2 AND {only_if("status = 'wanted'")}
"""


async def postpone(connection: Connection | Pool, tenant_id: UUID, media_id: UUID, wait: timedelta | None) -> None:
    """Make it due after `wait`; with None park it, never due."""
    await connection.execute(_POSTPONE, tenant_id, media_id, wait)


# -- its copy ----------------------------------------------------------------------------------------------------------

_RESERVE = """
INSERT INTO media_blobs (tenant_id, sha256, key, size, due_at) VALUES ($1, $2, $3, $4, now() + $5::interval)
ON CONFLICT (tenant_id, sha256) DO UPDATE SET due_at = greatest(media_blobs.due_at, excluded.due_at)
    WHERE NOT media_blobs.going
RETURNING stored_at IS NOT NULL
"""

_OURS = "SELECT id FROM media WHERE tenant_id = $1 AND id = $2 AND lease_id = $3 FOR UPDATE"
_THERE = """
UPDATE media_blobs SET stored_at = coalesce(stored_at, now()), due_at = NULL
WHERE tenant_id = $1 AND sha256 = $2 AND NOT going RETURNING key
"""
_STORED = """
UPDATE media SET status = 'stored', reason = NULL, key = $3, sha256 = $4, size = $5, stored_at = now(),
    mime_type = coalesce(mime_type, $6), due_at = NULL, lease_id = NULL, lease_until = NULL
WHERE tenant_id = $1 AND id = $2
"""


async def reserve(
    connection: Connection | Pool, tenant_id: UUID, sha256: bytes, size: int, lease: timedelta
) -> bool | None:
    """Keep a copy from being deleted for `lease`; returns whether its bytes are stored. None: it is being deleted, so
    try again."""
    there: bool | None = await connection.fetchval(_RESERVE, tenant_id, sha256, key_of(tenant_id, sha256), size, lease)
    return there


async def stored(connection: Connection, claim: Claim, sha256: bytes, size: int, mime_type: str | None) -> bool | None:
    """wanted → stored, in the caller's transaction, with its copy.

    False where another process has the lease by now (then the copy's reservation runs out); None where the copy was
    deleted meanwhile: store it again.
    """
    if await connection.fetchval(_OURS, claim.tenant_id, claim.id, claim.lease_id) is None:
        return False
    key = await connection.fetchval(_THERE, claim.tenant_id, sha256)
    if key is None:
        return None
    await connection.execute(_STORED, claim.tenant_id, claim.id, key, sha256, size, mime_type)
    return True


# -- copies that go ----------------------------------------------------------------------------------------------------

# No row can begin to name a marked copy: to do so takes the lock of the copy's row, and checks the mark.
_MARK_UNUSED = """
WITH due AS (
    SELECT tenant_id, sha256 FROM media_blobs WHERE due_at <= now() ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
), checked AS (
    SELECT tenant_id, sha256, EXISTS (
        SELECT FROM media f WHERE f.sha256 = due.sha256 AND f.tenant_id = due.tenant_id) AS named
    FROM due
)
UPDATE media_blobs b SET going = NOT named, due_at = CASE WHEN NOT named THEN now() + $1::interval END
FROM checked WHERE b.tenant_id = checked.tenant_id AND b.sha256 = checked.sha256
RETURNING b.tenant_id, b.sha256, b.key, b.going, b.due_at
"""

_FORGET_COPY = "DELETE FROM media_blobs WHERE tenant_id = $1 AND sha256 = $2 AND going AND due_at = $3"


@dataclass(frozen=True, slots=True)
class UnusedCopy:
    """A copy that no row names, marked to be deleted; another process may delete it once `until` has passed."""

    tenant_id: UUID
    sha256: bytes
    key: str
    until: datetime


async def mark_unused(connection: Connection | Pool, lease: timedelta, limit: int) -> tuple[list[UnusedCopy], int]:
    """Check copies that are due; returns those to delete now, and how many were checked."""
    rows = await connection.fetch(_MARK_UNUSED, lease, limit)
    unused = [UnusedCopy(r["tenant_id"], r["sha256"], r["key"], r["due_at"]) for r in rows if r["going"]]
    return unused, len(rows)


async def forget_copy(connection: Connection | Pool, copy: UnusedCopy) -> None:
    """Delete the row of a copy whose bytes are deleted, unless another process has taken it over."""
    await connection.execute(_FORGET_COPY, copy.tenant_id, copy.sha256, copy.until)


# -- the webhook it came with ------------------------------------------------------------------------------------------

_WEBHOOK = "SELECT content_type, body FROM inbound_log WHERE id = $1 LIMIT 1"


async def webhook(pool: Pool, inbound_id: bytes) -> tuple[str, bytes] | None:
    """Content type and body of the raw webhook; None where it was deleted."""
    row = await pool.fetchrow(_WEBHOOK, inbound_id)
    return None if row is None else (row["content_type"], row["body"])
