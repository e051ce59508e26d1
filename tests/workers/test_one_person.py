"""A customer's STOP holds, by whichever of their addresses they said it and whichever we knew as whose."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared import database
from shared.settings import Settings
from shared.store import consents
from tests.support.meta_payloads import PHONE_NUMBER_ID, entry, said, value
from tests.support.meta_stage import add_app, add_number, posted
from tests.support.stage import Stage, staged
from tests.workers.test_consents import SILENT, customer_writes, ends, ledger, talk
from workers import window
from workers.persist import worker as persist

NUMBER, USER_ID = "+34600000001", "ES.13491208655302741918"
BOTH = {"ExternalUserId": USER_ID}


async def add_contact(stage: Stage, number: str | None = None) -> UUID:
    """A contact as a tenant imports one: by SQL, with the number that its own systems know."""
    contact = database.new_id()
    async with stage.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO contacts (id, tenant_id, phone_number) VALUES ($1, $2, $3)",
            contact, stage.ours.tenant_id, number,
        )  # fmt: skip
        if number is not None:
            await connection.execute(
                "INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) "
                "VALUES ($1, 'phone', $2, $2, $3)",
                stage.ours.tenant_id, number, contact,
            )  # fmt: skip
    return contact


async def add_conversation(stage: Stage, contact: UUID | None, address: str = NUMBER) -> UUID:
    """A conversation as any session may have written it; the customer wrote a moment ago."""
    conversation = database.new_id()
    await stage.pool.execute(
        "INSERT INTO conversations (id, tenant_id, channel_id, contact_id, provider, address, recipient, phone, "
        "last_user_message_at) VALUES ($1, $2, $3, $4, 'twilio', $5, $5, $5, now())",
        conversation, stage.ours.tenant_id, stage.ours.id, contact, address,
    )  # fmt: skip
    return conversation


async def test_stop_by_user_id_holds_for_the_number_once_a_webhook_names_both(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        imported = await add_contact(stage, NUMBER)
        by_number = await add_conversation(stage, imported)
        await customer_writes(stage, "STOP", sender=USER_ID)
        assert await stage.count("contacts") == 2, "nothing shows yet that they are one"
        await customer_writes(stage, "hola", sender=NUMBER, extra=BOTH)
        assert [row["id"] for row in await stage.rows("SELECT id FROM contacts")] == [imported]
        assert await stage.count("conversations WHERE contact_id = $1", imported) == 2
        assert await stage.count("messages") == 2
        assert await ends(stage, by_number) == ("failed", "opted_out")
        assert await stage.count("events WHERE name = 'contact.joined'") == 1
        await customer_writes(stage, "start", sender=NUMBER, extra=BOTH)
        assert await ends(stage, by_number) == ("sent", None)


async def test_stop_that_itself_names_both_is_kept_for_the_one_they_become(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        imported = await add_contact(stage, NUMBER)
        by_number = await add_conversation(stage, imported)
        await customer_writes(stage, "hola", sender=USER_ID)
        await persist.persist(
            [
                stage.said("STOP", sender=NUMBER, extra=BOTH, received_at=datetime.now(UTC)),
                stage.said("otra", sender="+34600000002", received_at=datetime.now(UTC)),
            ],
            stage.context,
        )
        assert await stage.count("contacts") == 2
        assert await stage.count("messages") == 3
        assert await stage.value("SELECT contact_id FROM consents") == imported
        assert await ends(stage, by_number) == ("failed", "opted_out")


async def test_stop_on_another_channel_holds_where_a_conversation_has_another_contact(
    settings: Settings,
) -> None:
    async with staged(settings, SILENT) as stage:
        second = await stage.add_channel(SILENT, beside=stage.ours, address="+14155230000")
        for contact in (None, await add_contact(stage)):
            conversation = await add_conversation(stage, contact)
            assert await ends(stage, conversation) == ("sent", None)
            await customer_writes(stage, "STOP", sender=NUMBER, to=second)
            assert await ends(stage, conversation) == ("failed", "opted_out"), contact
            async with stage.pool.acquire() as connection:
                assert await consents.answer_stopped(connection, stage.ours.tenant_id, conversation)
            await customer_writes(stage, "START", sender=NUMBER, to=second)
            assert await ends(stage, conversation) == ("sent", None)
            await stage.pool.execute("DELETE FROM conversations WHERE id = $1", conversation)


async def test_a_refusal_is_kept_for_whoever_has_the_address(settings: Settings) -> None:
    async with staged(settings, SILENT, kind="sms") as stage:
        owner = await add_contact(stage, NUMBER)
        conversation = await add_conversation(stage, await add_contact(stage))
        await stage.sandbox.faults({"provider": "twilio", "action": "error", "code": 21610, "times": 1})
        assert await ends(stage, conversation) == ("failed", "21610")
        assert await ledger(stage) == [("sms", "all", "opted_out", "provider")]
        assert await stage.value("SELECT contact_id FROM consents") == owner
        assert await ends(stage, conversation) == ("failed", "opted_out")


async def test_a_conversation_without_a_contact_has_one_when_its_customer_writes(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        conversation = await add_conversation(stage, None)
        await customer_writes(stage, "STOP", sender=NUMBER)
        assert await talk(stage) == conversation
        found = await stage.row("SELECT contact_id FROM conversations")
        assert found["contact_id"] == await stage.value("SELECT id FROM contacts")
        request = await stage.requested(conversation)
        await window.admit([request], stage.context)
        assert await stage.status(request.message_id) == "failed"


async def test_people_are_joined_beside_workers_that_write_to_them_and_every_stop_holds(settings: Settings) -> None:
    people = 12
    async with staged(settings, SILENT, database_pool=6) as stage:
        at = datetime.now(UTC) - timedelta(minutes=1)

        def who(number: int) -> tuple[str, str]:
            return f"+346000001{number:02}", f"ES.1349{number:02}"

        await persist.persist([stage.said("hola", sender=s) for n in range(people) for s in who(n)], stage.context)
        assert await stage.count("contacts") == 2 * people
        webhooks = []
        for number in range(people):
            phone, user_id = who(number)
            webhooks += [
                stage.said("STOP", sender=user_id, received_at=at),
                stage.said("hola", sender=phone, extra={"ExternalUserId": user_id}, received_at=at),
                stage.said("¿y?", sender=phone, received_at=at),
            ]
        dice = random.Random(5)
        dice.shuffle(webhooks)

        async def work(batches: list[list[int]]) -> None:
            for batch in batches:
                await database.repeat(lambda batch=batch: persist.persist([webhooks[i] for i in batch], stage.context))  # type: ignore[misc]

        batches = [sorted(dice.sample(range(len(webhooks)), 9)) for _ in range(40)]
        await asyncio.gather(*(work(batches[worker::4]) for worker in range(4)))
        await persist.persist(webhooks, stage.context)
        assert await stage.count("messages") == 2 * people + len(webhooks)
        assert await stage.count("contacts") == people
        assert await stage.count("consents WHERE state = 'opted_out'") == people
        stopped = await stage.value("SELECT count(DISTINCT contact_id) FROM consents")
        assert stopped == await stage.value("SELECT count(DISTINCT contact_id) FROM conversations") == people


async def test_a_new_address_shown_before_whose_it_is_is_stored_and_their_stop_holds(
    settings: Settings,
) -> None:
    async with staged(settings, SILENT) as stage:
        app = await add_app(stage)
        await add_number(stage, app, PHONE_NUMBER_ID, channel=SILENT)
        old, new, fresh = "34600000001", "34600000002", "34600000003"
        stop = value(said(**{"from": old, "id": "wamid.1"}, text={"body": "STOP"}), contacts=None)
        await persist.persist([posted(stage, app, entry(stop))], stage.context)
        changed = {"type": "user_changed_number", "wa_id": new, "body": "Ana changed"}
        together = value(
            said(**{"from": new, "id": "wamid.2"}),
            said(**{"from": old, "id": "wamid.3", "type": "system", "system": changed}, text=None),
            contacts=None,
        )
        await persist.persist([posted(stage, app, entry(together))], stage.context)
        assert await stage.count("messages") == 3
        assert await stage.count("contacts") == await stage.count("consents") == 1
        nobody_knew = value(
            said(**{"from": fresh, "id": "wamid.4"}),
            said(**{"from": None, "from_user_id": USER_ID, "id": "wamid.5"}),
            said(**{"from": fresh, "from_user_id": USER_ID, "id": "wamid.6"}),
            contacts=None,
        )
        await persist.persist([posted(stage, app, entry(nobody_knew))], stage.context)
        assert await stage.count("messages") == 6
        assert await stage.count("contacts") == 2
