"""Counts the rows that wait, by what they wait for: for `palomar status` and the depth of each queue."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from shared.bot import WAITING
from shared.database import Connection, Pool
from shared.domain.channels import ReplySettings
from shared.domain.statuses import RESTORED
from shared.queue import topology
from shared.store import channels, events
from shared.store.messages import parked_receipts
from shared.store.webhook_deliveries import figures
from shared.store.webhook_deliveries.figures import Troubled

_BY_STATE = f"""
SELECT
    (SELECT count(*) FROM messages
        WHERE status IN ('ready', 'unknown') AND due_at < now() - interval '5 seconds')
        + (SELECT count(*) FROM messages
            WHERE status NOT IN ('ready', 'unknown') AND due_at < now() - interval '5 seconds')
        + (SELECT count(*) FROM conversations WHERE reply_due_at < now() - interval '5 seconds')
        + (SELECT count(*) FROM media WHERE due_at < now() - interval '5 seconds') AS overdue,
    (SELECT count(*) FROM messages WHERE status = 'held') AS held,
    (SELECT count(*) FROM messages WHERE status = 'unknown') AS unknown,
    (SELECT count(*) FROM messages WHERE status = 'queued') AS queued,
    (SELECT count(*) FROM messages WHERE status IN ('ready', 'sending')) AS ready,
    (SELECT count(*) FROM conversations WHERE reply_due_at IS NOT NULL) AS replies_owed,
    (SELECT count(*) FROM messages WHERE status IN ('queued', 'ready', 'sending') AND due_at IS NULL)
        + (SELECT count(*) FROM messages m WHERE status = 'unknown' AND due_at IS NULL
            AND error_code IS DISTINCT FROM '{RESTORED}' AND NOT EXISTS (
            SELECT FROM channels c
            WHERE c.tenant_id = m.tenant_id AND c.id = m.channel_id AND c.settings ->> 'unknown' = 'ask'))
        + (SELECT count(*) FROM conversations WHERE reply_due_at IS NULL AND reply_wanted_since IS NOT NULL)
        + (SELECT count(*) FROM media WHERE status = 'wanted' AND due_at IS NULL) AS parked,
    (SELECT count(*) FROM messages WHERE status = 'unknown' AND error_code = '{RESTORED}')
        + (SELECT count(*) FROM conversations WHERE reply_restored_at IS NOT NULL) AS restored
"""


async def by_state(pool: Connection | Pool) -> dict[str, int]:
    """Rows by the state that `palomar status` shows.

    `parked` are unfinished rows without a due time, whose job was dead-lettered: they wait for its replay. `restored`
    ones wait for a person.
    """
    row = await pool.fetchrow(_BY_STATE)
    assert row is not None
    return dict(row)


_UNFINISHED = """
SELECT status, provider, lane, count(*) AS messages FROM messages WHERE status IN ('queued', 'ready', 'sending')
GROUP BY status, provider, lane
"""


_REPLIES_OWED = """
SELECT coalesce(ch.settings #>> '{reply,engine}', $2) = ANY($1::text[]) AS waits, count(*) AS replies
FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
WHERE c.reply_due_at IS NOT NULL GROUP BY 1
"""


_FILES_WANTED = "SELECT count(*) FROM media WHERE status = 'wanted'"
_WEBHOOKS_DUE = "SELECT count(*) FROM webhook_health WHERE due_at <= now()"


async def by_queue(pool: Connection | Pool) -> dict[str, int]:
    """Queue → rows that wait for the step of this queue, whether or not their job is queued or in progress."""
    waiting: Counter[str] = Counter()
    for row in await pool.fetch(_UNFINISHED):
        queue = topology.WINDOW if row["status"] == "queued" else topology.send_queue(row["provider"], row["lane"])
        waiting[queue.name] += row["messages"]
    for row in await pool.fetch(_REPLIES_OWED, list(WAITING), ReplySettings().engine):
        waiting[(topology.REPLY_LLM if row["waits"] else topology.REPLY).name] += row["replies"]
    if wanted := await pool.fetchval(_FILES_WANTED):
        waiting[topology.MEDIA.name] = wanted
    if due := await pool.fetchval(_WEBHOOKS_DUE):
        waiting[topology.WEBHOOK.name] = due
    return dict(waiting)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the database says about the system. Times are seconds."""

    overdue: int
    set_aside: int  # parked: unfinished, without a due time, because their jobs are dead letters
    restored: int  # messages and replies that a restore put to a person
    held: int
    unknown: int
    replies_owed: int
    parked_receipts: int
    relay_lag: float
    stopped_channels: tuple[str, ...]  # ids
    waiting: Mapping[str, int]  # queue → rows
    webhooks: Troubled  # of tenants' own


async def rows(pool: Connection | Pool) -> Rows:
    """Count all that waits, of every tenant."""
    counts = await by_state(pool)
    waiting = await by_queue(pool)
    every = await channels.listed(pool)
    return Rows(
        overdue=counts["overdue"],
        set_aside=counts["parked"],
        restored=counts["restored"],
        held=counts["held"],
        unknown=counts["unknown"],
        replies_owed=counts["replies_owed"],
        parked_receipts=await parked_receipts.count(pool),
        relay_lag=await events.lag(pool),
        stopped_channels=tuple(str(channel.id) for channel in every if channel.status == "stopped"),
        waiting=waiting,
        webhooks=await figures.troubled(pool),
    )
