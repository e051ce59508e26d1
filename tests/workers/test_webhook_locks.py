"""A tenant's session may lock its webhooks, their health or their log for as long as it likes: nobody else waits."""

import pytest

from shared.settings import Settings
from tests.support.webhook_receiver import OK, Answer
from tests.support.webhook_stage import WORKERS, hooked

LOCKS = {
    "its webhook": "SELECT FROM webhooks WHERE id = $1 FOR UPDATE",
    "its health": "SELECT FROM webhook_health WHERE webhook_id = $1 FOR UPDATE",
    "its log": "SELECT FROM webhook_logs WHERE webhook_id = $1 FOR UPDATE",
}


@pytest.mark.parametrize("what", LOCKS)
async def test_others_get_their_events_while_a_tenant_locks(settings: Settings, what: str) -> None:
    """What happens after the lock began is matched after its end, as the relay publishes it then."""
    async with hooked(settings) as hooks:
        other = await hooks.stage.add_channel(address="+14155550000")
        locking = await hooks.add("/locking")
        free = await hooks.add("/free", tenant_id=other.tenant_id)
        async with hooks.stage.working(*WORKERS):
            await hooks.happen(1)
            await locking.until(delivered=1)
        for number in range(2, 6):
            await hooks.happen(1, first=number)
            await hooks.happen(1, first=number, tenant_id=other.tenant_id)
        async with hooks.stage.pool.acquire() as session, session.transaction():
            await session.execute(LOCKS[what], locking.id)
            async with hooks.stage.working(*WORKERS):
                await free.until(delivered=4, within=8)
        async with hooks.stage.working(*WORKERS):
            await hooks.stage.pool.execute("UPDATE webhook_behind SET retry_at = now()")
            await hooks.stage.pool.execute("UPDATE webhook_health SET held_until = NULL, due_at = now()")
            await locking.until(delivered=5)
            assert sorted(set(locking.numbers())) == [1, 2, 3, 4, 5]
            await hooks.stage.until(hooks.stage.count, "webhook_behind", equals=0)


async def test_what_waits_for_a_delivery_that_its_tenant_deletes_goes_on(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop", in_order=True)
        hooks.receiver.answers("/shop", Answer(500), OK)
        talk = await hooks.stage.converse()
        await hooks.happen(2, conversation_id=talk)
        await shop.until(pending=1, waiting=1)
        await shop.rests()
        await hooks.stage.pool.execute("DELETE FROM webhook_logs WHERE webhook_id = $1 AND held IS NULL", shop.id)
        await hooks.happen(1, first=3)
        await shop.until(delivered=2)
        assert shop.numbers()[1:] in ([3, 2], [2, 3])
