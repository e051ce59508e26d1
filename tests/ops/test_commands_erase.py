"""`palomar contacts erase`: a person is gone from every table, raw webhooks included, and a search proves it."""

import asyncio
import subprocess

import pytest

from shared.domain.person_pattern import NothingToSearch, pattern
from shared.settings import Settings
from shared.store import erasure as store
from tests.support.commands import palomar
from tests.support.stage import Stage, staged
from workers.persist import worker

ANA = "+5215512345678"
LUIS = "+5215512345679"  # differs in the last digit


async def erase(environment: dict[str, str], *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(palomar, environment, "contacts", "erase", *arguments, given=given)


async def talked(stage: Stage, *customers: str) -> None:
    """Each wrote and was answered, and the receipts came."""
    async with stage.working("all"):
        for customer in customers:
            await stage.deliver(stage.said(f"soy {customer}", sender=customer))
        await stage.until(stage.count, "messages WHERE status = 'sent'", equals=len(customers))
        for customer in customers:
            (sent,) = await stage.accepted(customer)
            await stage.deliver(stage.receipt(sent.sid, "delivered", To=stage.ours.party(customer)))
        await stage.until(stage.count, "messages WHERE status = 'delivered'", equals=len(customers))


async def elsewhere(stage: Stage, customer: str) -> None:
    """A group, a session, a consent, a delivery to the tenant's system and a stored answer of the API."""
    contact = await stage.value("SELECT contact_id FROM conversations WHERE recipient = $1", customer)
    tenant, channel = stage.ours.tenant_id, stage.ours.id
    for statement in (
        "INSERT INTO groups (tenant_id, name) VALUES ($1, 'amigos')",
        "INSERT INTO webhooks (tenant_id, url) VALUES ($1, 'https://tienda.example/hook')",
    ):
        await stage.pool.execute(statement, tenant)
    await stage.pool.execute(
        "INSERT INTO group_contacts (tenant_id, group_id, contact_id) SELECT $1, id, $2 FROM groups LIMIT 1",
        *(tenant, contact),
    )
    await stage.pool.execute(
        "INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source) "
        "VALUES ($1, $2, 'whatsapp', 'opted_in', 'api')",
        *(tenant, contact),
    )
    await stage.pool.execute(
        "INSERT INTO sessions (tenant_id, channel_id, phone_number) VALUES ($1, $2, $3)", tenant, channel, customer
    )
    await stage.pool.execute(
        "INSERT INTO webhook_logs (tenant_id, webhook_id, event, payload) "
        "SELECT $1, id, 'message.received', jsonb_build_object('from', $2::text) FROM webhooks LIMIT 1",
        *(tenant, customer),
    )
    await stage.pool.execute(
        "INSERT INTO idempotency_keys (tenant_id, key, request_hash, response) "
        "VALUES ($1, $2, 'x', jsonb_build_object('to', $3::text))",
        *(tenant, f"key {customer[-1]}", customer),
    )


async def test_nothing_of_a_person_is_left_and_everything_of_the_others(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        await talked(stage, ANA, LUIS)
        for customer in (ANA, LUIS):
            await elsewhere(stage, customer)
        before = await stage.count("inbound_log")
        # Written as the network writes it the other way: the same person.
        erased = await erase(environment, "+525512345678", "--tenant", str(stage.ours.tenant_id), "--yes")
        assert erased.returncode == 0, erased.stdout + erased.stderr
        assert "nothing is left" in erased.stdout
        gone = await store.traces(stage.pool, stage.ours.tenant_id, pattern([("phone", ANA)]))
        assert {name: count for name, count in gone.items() if count} == {}
        luis = await store.traces(stage.pool, stage.ours.tenant_id, pattern([("phone", LUIS)]))
        for table in ("contacts", "contact_addresses", "conversations", "messages", "inbound_log", "sessions",
                      "webhook_logs", "idempotency_keys"):  # fmt: skip
            assert luis[table] > 0, table
        assert 0 < await stage.count("inbound_log") < before
        assert [row["name"] for row in await stage.rows("SELECT name FROM events WHERE name = 'contact.erased'")] == [
            "contact.erased"
        ]


async def test_a_redelivered_webhook_of_an_erased_person_brings_nothing_back(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        webhook = stage.said("hola", sender=ANA)
        await worker.persist([webhook], stage.context)
        assert (await erase(environment, ANA, "--yes")).returncode == 0
        await worker.persist([webhook], stage.context)
        assert await stage.count("contacts") == 0
        assert await stage.count("inbound_log") == 0


async def test_an_unknown_or_unconfirmed_person_is_reported_and_nothing_is_touched(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("hola", sender=ANA)], stage.context)
        stranger = await erase(environment, LUIS, "--yes")
        assert stranger.returncode == 1
        assert "No contacts of this tenant" in stranger.stderr
        assert LUIS not in stranger.stderr, "logs and terminals show no number in clear"
        refused = await erase(environment, ANA, given="n\n")
        assert (refused.returncode, await stage.count("contacts")) == (1, 1)
        await stage.add_channel()
        unsaid = await erase(environment, ANA, "--yes")
        assert unsaid.returncode == 1
        assert "--tenant" in unsaid.stderr


async def test_what_others_say_of_an_erased_person_is_blanked_and_the_rest_of_it_stays(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("hola", sender=ANA)], stage.context)
        await worker.persist([stage.said("llama a 5215512345678, o +52 1 55 1234-5678!", sender=LUIS)], stage.context)
        contact, talk = (await stage.rows("SELECT contact_id, id FROM conversations WHERE recipient = $1", ANA))[0]
        tenant = stage.ours.tenant_id
        await stage.pool.execute("UPDATE messages SET ai_metadata = '{\"friend\": 5215512345678}'")
        await stage.pool.execute("UPDATE conversations SET ai_context_summary = 'amigo de +525512345678, fiel'")
        await stage.pool.execute("INSERT INTO groups (tenant_id, name) VALUES ($1, 'los de 525512345678')", tenant)
        await stage.pool.execute("INSERT INTO webhooks (tenant_id, url) VALUES ($1, 'https://tienda.example')", tenant)
        await stage.pool.execute(
            "INSERT INTO webhook_logs (tenant_id, webhook_id, event, payload) SELECT $1, id, 'message.received', "
            "jsonb_build_object('conversation_id', $2::uuid, 'content', 'un secreto') FROM webhooks",
            *(tenant, talk),
        )
        await stage.pool.execute(
            "INSERT INTO idempotency_keys (tenant_id, key, request_hash, response) VALUES "
            "($1, 'to-5215512345678', 'x', NULL), "
            "($1, 'other', 'x', jsonb_build_object('contact_id', $2::uuid, 'content', 'un secreto'))",
            *(tenant, contact),
        )
        erased = await erase(environment, ANA, "--yes")
        assert erased.returncode == 0, erased.stdout + erased.stderr
        assert await stage.value("SELECT content FROM messages") == "llama a ***, o +***!"
        assert await stage.value("SELECT ai_metadata FROM messages") == {"friend": 0}
        assert await stage.value("SELECT ai_context_summary FROM conversations") == "amigo de +***, fiel"
        assert await stage.value("SELECT name FROM groups") == "los de ***"
        assert await stage.value("SELECT payload FROM webhook_logs") == {}
        assert [row["response"] for row in await stage.rows("SELECT response FROM idempotency_keys ORDER BY key")] == [
            None,
            {},
        ]
        assert await stage.count("contacts") == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("From=whatsapp%3A%2B5215512345678&Body=x", True),
        ("From=whatsapp%3A%2B525512345678&Body=x", True),
        ('{"wa_id":"5215512345678"}', True),
        ("To=%205215512345678", True),
        ('"+5215512345678"', True),
        ("5215512345678", True),
        ("+52 1 (55) 1234-5678", True),
        ("Body=%2B52+55+1234+5678&x", True),
        ("From=%2B52155123456789", False),
        ("id=15215512345678", False),
    ],
)
async def test_the_ways_a_number_is_written(settings: Settings, text: str, found: bool) -> None:
    async with staged(settings) as stage:
        matches = await stage.value("SELECT $1::text ~* $2::text", text, pattern([("phone", ANA)]))
        assert matches is found


def test_somebody_without_a_searchable_address_is_not_said_to_be_gone() -> None:
    with pytest.raises(NothingToSearch, match="no address"):
        pattern([("phone", "123")])
