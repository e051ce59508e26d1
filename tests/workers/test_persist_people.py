"""One person is one contact and one conversation, whatever addresses a message carries."""

import asyncio

from shared.settings import Settings
from tests.support.stage import CUSTOMER, Stage, staged
from workers.persist import worker

USER_ID = "ES.13491208655302741918"
BOTH = {"ExternalUserId": f"whatsapp:{USER_ID}"}


async def people(stage: Stage) -> tuple[int, int]:
    return await stage.count("contacts"), await stage.count("conversations")


async def test_somebody_without_a_phone_number_is_kept_and_answered(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("all"):
        await stage.deliver(stage.said("hola", sender=USER_ID))
        await stage.until(stage.statuses, equals=["sent"])
        (sent,) = await stage.accepted(USER_ID)
        assert sent.to == f"whatsapp:{USER_ID}"
        conversation = await stage.row("SELECT * FROM conversations")
        assert (conversation["address"], conversation["phone"]) == (USER_ID, None)
        assert await stage.value("SELECT kind FROM contact_addresses") == "user_id"


async def test_number_and_user_id_together_then_each_alone_are_one_conversation(settings: Settings) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("1", extra=BOTH)], stage.context)
        await worker.persist([stage.said("2", sender=USER_ID)], stage.context)
        await worker.persist([stage.said("3")], stage.context)
        assert await people(stage) == (1, 1)
        assert await stage.value("SELECT unread_count FROM conversations") == 3


async def test_a_user_id_that_later_shows_its_number_stays_one_conversation(settings: Settings) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("1", sender=USER_ID)], stage.context)
        await worker.persist([stage.said("2", extra=BOTH)], stage.context)
        await worker.persist([stage.said("3")], stage.context)
        await worker.persist([stage.said("4", sender=USER_ID)], stage.context)
        assert await people(stage) == (1, 1)


async def test_all_of_them_in_one_batch_are_one_conversation(settings: Settings) -> None:
    async with staged(settings) as stage:
        batch = [stage.said("1", extra=BOTH), stage.said("2", sender=USER_ID), stage.said("3")]
        await worker.persist(batch, stage.context)
        assert await people(stage) == (1, 1)


async def test_two_spellings_of_mexico_are_one_conversation_answered_as_it_wrote_last(
    settings: Settings,
) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("1", sender="+5215512345678")], stage.context)
        await worker.persist([stage.said("2", sender="+525512345678")], stage.context)
        assert await people(stage) == (1, 1)
        conversation = await stage.row("SELECT address, recipient FROM conversations")
        assert tuple(conversation) == ("+525512345678", "+525512345678")
        await worker.persist([stage.said("3", sender="+5215512345678")], stage.context)
        assert await stage.value("SELECT recipient FROM conversations") == "+5215512345678"


async def test_a_stranger_met_by_many_workers_at_once_is_one_contact_and_leaves_no_other(settings: Settings) -> None:
    """Each round is a stranger whose messages race: alone by number, with both addresses, alone by user id."""
    async with staged(settings, database_pool=6) as stage:
        for number in range(25):
            phone, user_id = f"+3460000{number:04}", f"ES.{number:020}"
            both = {"ExternalUserId": f"whatsapp:{user_id}"}
            await asyncio.gather(
                worker.persist([stage.said("1", sender=phone, extra=both)], stage.context),
                worker.persist([stage.said("2", sender=phone)], stage.context),
                worker.persist([stage.said("3", sender=phone, extra=both)], stage.context),
            )
        assert await people(stage) == (25, 25)
        assert await stage.count("contact_addresses") == 50
        orphans = "contacts c WHERE NOT EXISTS (SELECT FROM conversations v WHERE v.contact_id = c.id)"
        assert await stage.count(orphans) == 0
        assert await stage.value("SELECT sum(unread_count) FROM conversations") == 75


async def test_the_same_customer_of_two_tenants_is_two_people(settings: Settings) -> None:
    async with staged(settings) as stage:
        other = await stage.add_channel()
        await worker.persist([stage.said("1"), stage.said("1", to=other)], stage.context)
        assert await people(stage) == (2, 2)
        assert (
            await stage.count("contacts c JOIN conversations v ON v.contact_id = c.id AND v.tenant_id = c.tenant_id")
            == 2
        )


async def test_the_same_customer_at_two_channels_is_one_contact_with_two_conversations(settings: Settings) -> None:
    async with staged(settings) as stage:
        sms = await stage.add_channel(kind="sms", address="+15005550006", beside=stage.ours)
        await worker.persist([stage.said("1"), stage.said("2", to=sms)], stage.context)
        assert await people(stage) == (1, 2)


async def test_the_newest_name_a_customer_gave_is_kept(settings: Settings) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("1", sender=CUSTOMER, extra={"ProfileName": "Ana"})], stage.context)
        await worker.persist([stage.said("2", sender=CUSTOMER, extra={"ProfileName": "Ana María"})], stage.context)
        await worker.persist([stage.said("3", sender=CUSTOMER, extra={"ProfileName": None})], stage.context)
        assert await stage.value("SELECT contact_name FROM conversations") == "Ana María"


async def test_a_new_person_is_kept_with_the_number_as_it_was_given(settings: Settings) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("1", sender="+5215512345678")], stage.context)
        assert await stage.value("SELECT phone_number FROM contacts") == "+5215512345678"
        assert await stage.value("SELECT phone FROM conversations") == "+5215512345678"


async def test_a_conversation_made_by_hand_under_an_odd_address_is_the_one_of_its_number(settings: Settings) -> None:
    async with staged(settings) as stage:
        conversation_id = await stage.converse()
        await stage.pool.execute("UPDATE conversations SET address = 'odd', phone = $1, contact_id = NULL", CUSTOMER)
        await worker.persist([stage.said("1"), stage.said("2")], stage.context)
        assert await stage.value("SELECT id FROM conversations") == conversation_id
        assert await stage.count("messages WHERE direction = 'inbound'") == 2


async def test_a_deleted_contact_who_writes_again_is_there_as_their_conversation_is(settings: Settings) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("hola")], stage.context)
        await stage.pool.execute("UPDATE contacts SET deleted_at = now()")
        await stage.pool.execute("UPDATE conversations SET deleted_at = now()")
        await worker.persist([stage.receipt("SM1", "delivered")], stage.context)
        assert await stage.count("contacts WHERE deleted_at IS NULL") == 0, "no contact wrote"
        await worker.persist([stage.said("otra vez")], stage.context)
        assert await stage.count("contacts WHERE deleted_at IS NULL") == 1
        assert await stage.count("contacts") == 1
        assert await stage.count("conversations WHERE deleted_at IS NULL") == 1
