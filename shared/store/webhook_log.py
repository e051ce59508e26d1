"""inbound_log and inbound_keys: every webhook as it arrived, stored once, for replay."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.database import Connection, Pool
from shared.queue.jobs import WebhookReceived

_REMEMBER = """
INSERT INTO inbound_keys (id, received_at)
SELECT * FROM unnest($1::bytea[], $2::timestamptz[]) ON CONFLICT DO NOTHING RETURNING id
"""

_LOG = """
INSERT INTO inbound_log (id, endpoint_id, tenant_id, provider, receipts, received_at, method, url, content_type,
    headers, body, outcome, error)
SELECT * FROM unnest($1::bytea[], $2::uuid[], $3::uuid[], $4::text[], $5::bool[], $6::timestamptz[], $7::text[],
    $8::text[], $9::text[], $10::jsonb[], $11::bytea[], $12::text[], $13::text[])
"""

_FETCH = """
SELECT encode(log.id, 'hex') AS inbound_id, endpoint_id, tenant_id, provider, receipts, received_at, method, url,
    content_type, headers, body, outcome, error
FROM (SELECT DISTINCT * FROM unnest($1::bytea[])) AS asked (id)
CROSS JOIN LATERAL (SELECT * FROM inbound_log WHERE id = asked.id OFFSET 0) AS log
"""

_SET_OUTCOME = "UPDATE inbound_log SET outcome = $2, error = $3 WHERE id = $1"

_FORGET_KEYS = """
DELETE FROM inbound_keys WHERE id IN (
    SELECT id FROM inbound_keys WHERE received_at < now() - make_interval(days => $1) ORDER BY received_at LIMIT $2)
"""
_DROP = "SELECT drop_partitions('inbound_log', $1)"
_DROP_STRAYS = """
DELETE FROM inbound_log WHERE created_at < now() - make_interval(days => $1 + 1) AND (id, created_at) IN (
    SELECT id, created_at FROM inbound_log WHERE created_at < now() - make_interval(days => $1 + 1) LIMIT $2)
"""

Outcome = Literal["parsed", "partly", "unparsed"]


@dataclass(frozen=True, slots=True)
class Logged:
    """A webhook with the outcome of parsing it."""

    webhook: WebhookReceived
    outcome: Outcome
    error: str | None = None


async def remember(connection: Connection, webhooks: Sequence[WebhookReceived]) -> set[str]:
    """Claim these webhooks by their ids; returns the inbound_ids that were not claimed before.

    A concurrent claim of the same id waits here until the other transaction ends.
    """
    unique = {webhook.inbound_id: webhook.received_at for webhook in webhooks}
    ids = sorted(unique)
    rows = await connection.fetch(_REMEMBER, [bytes.fromhex(i) for i in ids], [unique[i] for i in ids])
    return {row["id"].hex() for row in rows}


async def log(connection: Connection, entries: Sequence[Logged]) -> None:
    """Store raw webhooks exactly as they arrived."""
    if not entries:
        return
    webhooks = [entry.webhook for entry in entries]
    await connection.execute(
        _LOG,
        [bytes.fromhex(webhook.inbound_id) for webhook in webhooks],
        [webhook.endpoint_id for webhook in webhooks],
        [webhook.tenant_id for webhook in webhooks],
        [webhook.provider for webhook in webhooks],
        [webhook.receipts for webhook in webhooks],
        [webhook.received_at for webhook in webhooks],
        [webhook.method for webhook in webhooks],
        [webhook.url.replace("\0", "") for webhook in webhooks],
        [webhook.content_type.replace("\0", "") for webhook in webhooks],
        [dict(webhook.headers) for webhook in webhooks],
        [webhook.raw_body for webhook in webhooks],
        [entry.outcome for entry in entries],
        [entry.error.replace("\0", "") if entry.error else None for entry in entries],
    )


async def fetch(pool: Pool, inbound_ids: Sequence[str]) -> list[Logged]:
    """Raw webhooks by id (hex), marked as replayed; without those that are not stored."""
    rows = await pool.fetch(_FETCH, [bytes.fromhex(i) for i in inbound_ids])
    return [
        Logged(
            WebhookReceived.of(
                row["endpoint_id"],
                row["body"],
                tenant_id=row["tenant_id"],
                provider=row["provider"],
                receipts=row["receipts"],
                received_at=row["received_at"],
                method=row["method"],
                url=row["url"],
                content_type=row["content_type"],
                headers=row["headers"],
                replayed=True,
            ),
            row["outcome"],
            row["error"],
        )
        for row in rows
    ]


async def set_outcome(connection: Connection, inbound_id: str, outcome: Outcome, error: str | None) -> None:
    """Record the outcome of a replay."""
    await connection.execute(_SET_OUTCOME, bytes.fromhex(inbound_id), outcome, error)


_IDS_BETWEEN = """
SELECT encode(id, 'hex') FROM inbound_log
WHERE created_at >= $1 AND created_at < $2 AND ($3::uuid IS NULL OR endpoint_id = $3)
    AND (NOT $4 OR outcome <> 'parsed')
ORDER BY created_at LIMIT $5
"""


async def ids_between(
    pool: Pool, since: datetime, until: datetime, *, endpoint_id: UUID | None, only_failed: bool, limit: int
) -> list[str]:
    """Ids of the webhooks that came in a span of time, oldest first."""
    rows = await pool.fetch(_IDS_BETWEEN, since, until, endpoint_id, only_failed, limit)
    return [row[0] for row in rows]


_BEGINNING = """
SELECT DISTINCT encode(id, 'hex') AS inbound_id FROM inbound_log WHERE id BETWEEN $1 AND $2 ORDER BY inbound_id LIMIT $3
"""


async def ids_beginning(pool: Pool, beginning: str, limit: int) -> list[str]:
    """Ids (hex) with this beginning, at most `limit` of them."""
    first, last = (bytes.fromhex(beginning.ljust(64, end)) for end in "0f")
    return [row["inbound_id"] for row in await pool.fetch(_BEGINNING, first, last, limit)]


async def forget(connection: Connection, days: int) -> int:
    """Drop the raw webhooks older than so many days; returns how many days' partitions."""
    dropped: int = await connection.fetchval(_DROP, days)
    return dropped


async def forget_strays(connection: Connection, days: int, limit: int) -> int:
    """Delete old webhooks of days that had no partition, at most `limit` of them; returns how many."""
    return int((await connection.execute(_DROP_STRAYS, days, limit)).split()[-1])


async def forget_keys(connection: Connection, days: int, limit: int) -> int:
    """Forget ids older than so many days, at most `limit` of them; returns how many."""
    return int((await connection.execute(_FORGET_KEYS, days, limit)).split()[-1])
