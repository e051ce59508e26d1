"""Keeps the webhooks of tenants that hold locks apart from those of other tenants."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shared import database
from shared.resilience.lock_waits import PAUSE, Locked, LockWaits
from workers.persist.parsing import ParsedWebhook


@contextmanager
def beside_locks(wanted: Sequence[ParsedWebhook], locks: LockWaits) -> Iterator[None]:
    """Keep the webhooks of tenants that hold locks apart from the others of a shared endpoint.

    The runner does so by the tenant that a webhook names. Where it names none, its channels tell the tenants, and they
    are known only here. Raises Locked: these webhooks are tried again alone, or later.
    """
    tenants = {
        channel.tenant_id
        for parsed in wanted
        if parsed.webhook.tenant is None
        for channel, _ in (*parsed.messages, *parsed.receipts, *parsed.agent_messages)
    }
    holding = [tenant for tenant in tenants if tenant in locks]
    if holding and len(wanted) > 1:
        raise Locked(PAUSE.first)
    if (wait := max(map(locks.wait, holding), default=0.0)) > 0:
        raise Locked(wait)
    try:
        yield
    except database.LockTimeout as error:
        if len(wanted) == 1 and tenants:
            raise Locked(max(map(locks.in_vain, tenants))) from error
        raise
    for tenant in tenants:
        locks.went_through(tenant)
