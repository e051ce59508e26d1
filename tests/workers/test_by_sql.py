"""What a tenant's own code does by SQL meets what the workers do: one session, one conversation, one template sent."""

from datetime import timedelta

from shared import database
from shared.settings import Settings
from shared.store import templates
from tests.support.meta_payloads import CUSTOMER, entry, said, value
from tests.support.meta_stage import add_app, add_number, posted
from tests.support.stage import CUSTOMER as SPANISH
from tests.support.stage import Ours, Stage, staged
from workers.persist import worker

HERS = "106540352242922"


async def by_sql(stage: Stage, ours: Ours, statement: str) -> list[tuple[object, ...]]:
    """Run a statement as the API's role in a transaction of this tenant."""
    async with (
        database.ApiPool(stage.settings, process="test api", size=1) as api,
        api.tenant_transaction(ours.tenant_id) as connection,
    ):
        return [tuple(row) for row in await connection.fetch(statement)]


async def test_a_session_made_before_the_first_webhook_shows_its_message(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        ours = await add_number(stage, app, HERS)
        await by_sql(stage, ours, f"INSERT INTO whatsapp_sessions (phone_number) VALUES ('{CUSTOMER}')")
        await worker.persist([posted(stage, app, entry(value(said(id="1"), phone_number_id=HERS)))], stage.context)
        shown = await by_sql(
            stage,
            ours,
            "SELECT phone_number, content FROM whatsapp_messages m JOIN whatsapp_sessions s ON s.id = session_id",
        )
        assert shown == [(f"+{CUSTOMER}", "hola")]
        assert await stage.count("contacts") == 1


async def test_a_conversation_of_metas_is_found_by_its_number_with_plus(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        ours = await add_number(stage, app, HERS)
        await worker.persist([posted(stage, app, entry(value(said(id="1"), phone_number_id=HERS)))], stage.context)
        found = "SELECT phone FROM kommo_conversations WHERE provider = 'meta' AND phone = '{}'"
        assert await by_sql(stage, ours, found.format(f"+{CUSTOMER}")) == [(f"+{CUSTOMER}",)]
        assert await by_sql(stage, ours, "SELECT phone_number FROM customers") == [(f"+{CUSTOMER}",)]


async def test_a_webhook_brings_a_deleted_conversation_back(settings: Settings) -> None:
    async with staged(settings) as stage:
        await worker.persist([stage.said("before")], stage.context)
        await by_sql(stage, stage.ours, "UPDATE conversations SET deleted_at = now()")
        assert await by_sql(stage, stage.ours, "SELECT 1 FROM kommo_conversations") == []
        await worker.persist([stage.said("again")], stage.context)
        assert await by_sql(stage, stage.ours, "SELECT phone, unread_count FROM kommo_conversations") == [(SPANISH, 2)]


async def test_a_template_queued_by_sql_leaves_though_the_window_is_closed(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("clock", "window", "send"):
        conversation = await stage.converse(last_message_ago=timedelta(days=3))
        async with (
            database.ApiPool(stage.settings, process="test api", size=1) as api,
            api.tenant_transaction(stage.ours.tenant_id) as connection,
        ):
            message = await templates.queue_template_message(
                connection, conversation, "HX" + "1" * 32, {"1": "Ana"}, dedupe_key="order 7"
            )
        await stage.until(stage.status, message, equals="sent")
        (seen,) = await stage.accepted()
        assert (seen.content_sid, seen.content_variables) == ("HX" + "1" * 32, '{"1": "Ana"}')
