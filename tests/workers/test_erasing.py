"""The clock erases contacts that tenants have asked to be erased."""

from shared.actions import erasure
from shared.domain.person_pattern import pattern
from shared.settings import Settings
from shared.store import contact_records, erasure_requests
from shared.store import erasure as store
from tests.support.stage import Stage, staged
from workers.clock.erasing import LEASE, erase_next
from workers.persist import worker

ANA, LUIS = "+5215512345678", "+5215512345679"


async def requested(stage: Stage, customer: str) -> None:
    contact_id = await stage.value("SELECT contact_id FROM conversations WHERE recipient = $1", customer)
    async with stage.pool.acquire() as connection, connection.transaction():
        contact = await contact_records.get(connection, stage.ours.tenant_id, contact_id)
        assert contact is not None
        await erasure.request(connection, contact)
        await erasure.request(connection, contact)  # asked for twice, done once


async def test_nothing_is_left_of_who_is_to_be_erased(settings: Settings) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("hola", sender=ANA), stage.said("hola", sender=LUIS)], stage.context)
        await stage.pool.execute(
            "INSERT INTO campaigns (tenant_id, whatsapp_instance_id, name, message, recipient_type, recipient_ids) "
            "SELECT $1, $2, 'Navidad', 'hola', 'contacts', array_agg(id) FROM contacts",
            *(stage.ours.tenant_id, stage.ours.id),
        )
        await requested(stage, ANA)
        assert await erase_next(stage.context)
        assert await stage.value("SELECT cardinality(recipient_ids) FROM campaigns") == 1, "LUIS is left"
        assert not await erase_next(stage.context), "nothing is due any more"
        for customer, gone in ((ANA, True), (LUIS, False)):
            traces = await store.traces(stage.pool, stage.ours.tenant_id, pattern([("phone", customer)]))
            assert (not any(traces.values())) is gone
        assert await stage.count("erasure_requests") == 0
        assert await stage.count("events WHERE name = 'contact.erased'") == 1


async def test_a_request_whose_clock_was_killed_is_due_again(settings: Settings) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("hola", sender=ANA)], stage.context)
        await requested(stage, ANA)
        assert await erasure_requests.take(stage.pool, LEASE) is not None
        assert not await erase_next(stage.context), "it is another one's until the lease ends"
        await stage.pool.execute("UPDATE erasure_requests SET due_at = now()")
        assert await erase_next(stage.context)
