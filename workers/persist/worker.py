"""WebhookReceived → PostgreSQL: contact, conversation, message, receipts → ReplyWanted, SendRequested.

A transaction holds many webhooks. Order does not matter: a webhook that comes twice, late or out of order leads to the
same rows.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from shared import database
from shared.actions import consents, delivery_receipts, messaging_limit, template_updates
from shared.process import metrics
from shared.queue import topology
from shared.queue.jobs import Job, MediaWanted, ReplyWanted, SendRequested, WebhookReceived
from shared.queue.outcomes import Retry
from shared.queue.worker import Context, Worker
from shared.store import channels, contacts, webhook_log
from shared.store.events import record
from workers.persist import inbound_rates, messages
from workers.persist.parsing import ParsedWebhook, deduplicated, in_order, parse_all
from workers.persist.provider_events import limit_changes, notices, provider_consents, template_changes
from workers.persist.raw import persist_raw
from workers.persist.routing import assign_channels
from workers.persist.tenant_locks import beside_locks

worker: Worker[WebhookReceived, None] = Worker(
    name="persist",
    queues=(topology.PERSIST, topology.PERSIST_RECEIPTS, topology.PERSIST_LARGE),
    consumes=(WebhookReceived,),
    publishes=(ReplyWanted, SendRequested, MediaWanted),
    concurrency=2,  # one waits for PostgreSQL while the other parses
    batch=400,  # more webhooks share the cost of a transaction; it still ends within some 50 ms
)


@worker.handle_batch
async def persist(webhooks: Sequence[WebhookReceived], ctx: Context[None]) -> None:
    for _ in range(contacts.JOINS):
        try:
            return await persist_batch(webhooks, ctx)
        except contacts.SplitError as split:
            # In a short transaction of its own that locks few rows, so that no batch waits for another one's contacts.
            async with ctx.transaction() as tx:
                await contacts.join(tx, split)
        except Exception as error:
            if len(webhooks) > 1 or database.is_conflict(error) or not database.is_unstorable(error):
                raise
            return await persist_raw(webhooks[0], error, ctx)
    raise Retry("contacts of one person are being joined")


async def persist_batch(webhooks: Sequence[WebhookReceived], ctx: Context[None]) -> None:
    """Store a batch of webhooks in one transaction; publish the jobs that follow from it."""
    parsed_by_id = await parse_all(deduplicated(webhooks))
    async with ctx.transaction() as tx:
        fresh = await webhook_log.remember(tx, webhooks)
        wanted = [
            parsed for parsed in parsed_by_id.values() if parsed.webhook.inbound_id in fresh or parsed.webhook.replayed
        ]
        if not wanted:
            return
        endpoints = sorted({parsed.webhook.endpoint_id for parsed in wanted})
        assign_channels(wanted, await channels.of_endpoints(tx, endpoints))
        await webhook_log.log(tx, [parsed.logged for parsed in wanted if parsed.webhook.inbound_id in fresh])
        for parsed in wanted:
            if parsed.webhook.inbound_id not in fresh:
                logged = parsed.logged
                await webhook_log.set_outcome(tx, logged.webhook.inbound_id, logged.outcome, logged.error)
        with beside_locks(wanted, ctx.locks):
            jobs = await persist_parsed(tx, wanted, timedelta(seconds=ctx.settings.handoff_lease))
    _count(wanted)
    for parsed in wanted:
        if parsed.logged.error:
            ctx.log.warning("webhook not fully read", inbound_id=parsed.webhook.inbound_id, problems=len(parsed.errors))
    await ctx.publish(*jobs)
    await inbound_rates.count(wanted, ctx)


async def persist_parsed(tx: database.Connection, wanted: Sequence[ParsedWebhook], handoff: timedelta) -> list[Job]:
    """Store the content of parsed webhooks; returns the jobs that follow from it."""
    await consents.record_provider_consents(tx, provider_consents(wanted))
    jobs = await messages.persist(tx, in_order(wanted), handoff)
    jobs += await delivery_receipts.apply(
        tx,
        [
            delivery_receipts.IncomingReceipt(
                channel.tenant_id,
                channel.id,
                channel.provider,
                receipt,
                parsed.webhook.received_at,
                parsed.webhook.inbound_id,
            )
            for parsed in wanted
            for channel, receipt in parsed.receipts
        ],
        handoff,
    )
    await template_updates.apply(tx, template_changes(wanted))
    await messaging_limit.apply(tx, limit_changes(wanted))
    await record(tx, *notices(wanted))
    return jobs


def _count(webhooks: Sequence[ParsedWebhook]) -> None:
    held: Counter[tuple[str, str]] = Counter()
    for parsed in webhooks:
        provider = parsed.webhook.provider
        held[provider, "message"] += len(parsed.messages)
        held[provider, "receipt"] += len(parsed.receipts)
        held[provider, "manager"] += len(parsed.agent_messages)
        held[provider, "notice"] += len(parsed.content.notices)
        held[provider, "error"] += len(parsed.content.errors) + len(parsed.errors)
    for labels, count in held.items():
        if count:
            metrics.WEBHOOKS_PARSED.labels(*labels).inc(count)
