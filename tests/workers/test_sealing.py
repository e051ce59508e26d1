"""Secrets that a tenant writes by SQL: the clock seals them, and nobody reads them in between."""

import orjson
from pydantic import SecretStr

from shared import db
from shared.crypto import KeyRing
from shared.settings import Settings
from shared.store import channels
from shared.worker import Context
from tests.workers.stage import Stage, staged
from workers import clock

WRITE = """
INSERT INTO whatsapp_settings (api_key, phone_number_id, business_id, access_token, webhook_token)
VALUES ('key', $1, 'business', 'access', 'webhook')
"""
GIVEN = {"api_key": "key", "access_token": "access", "webhook_token": "webhook"}
SHOWN = "SELECT is_active, status_reason FROM whatsapp_settings WHERE phone_number_id = '1065403'"


async def by_sql(stage: Stage, *statements: str) -> None:
    """Run each in a transaction of the stage's tenant, as the API's role."""
    async with db.ApiPool(stage.settings, process="test api", size=1) as api:
        for statement in statements:
            async with api.tenant_transaction(stage.ours.tenant_id) as connection:
                await connection.execute(statement)


def writing(number: str = "1065403") -> str:
    return WRITE.replace("$1", f"'{number}'")


async def opened(stage: Stage, number: str = "1065403") -> object:
    """The channel's credentials in clear; None while there are none."""
    row = await stage.pool.fetchrow("SELECT id, credentials FROM channels WHERE address = $1", number)
    assert row is not None
    keys = KeyRing.parse(stage.settings.secret_keys.get_secret_value())
    sealed = row["credentials"]
    return orjson.loads(keys.open(sealed, tenant_id=stage.ours.tenant_id, owner=row["id"])) if sealed else None


async def shown(stage: Stage) -> tuple[object, ...]:
    async with (
        db.ApiPool(stage.settings, process="test api", size=1) as api,
        api.tenant_transaction(stage.ours.tenant_id) as connection,
    ):
        row = await connection.fetchrow(SHOWN)
        assert row is not None
        return tuple(row)


async def status(stage: Stage, number: str = "1065403") -> str:
    return str(await stage.pool.fetchval("SELECT status FROM channels WHERE address = $1", number))


async def test_what_comes_by_sql_is_sealed_and_the_channel_sends(settings: Settings) -> None:
    async with staged(settings) as stage:
        await by_sql(stage, writing())
        assert await shown(stage) == (True, "its credentials wait to be sealed")
        assert (await status(stage), await opened(stage)) == ("stopped", None)
        async with stage.working("clock"):
            await stage.until(status, stage, equals="active")
        assert await opened(stage) == GIVEN
        assert await stage.count("unsealed_credentials") == 0
        assert await shown(stage) == (True, None)


async def test_one_secret_that_changes_leaves_the_others_and_the_newest_holds(settings: Settings) -> None:
    async with staged(settings) as stage:
        await by_sql(stage, writing())
        async with stage.working("clock"):
            await stage.until(status, stage, equals="active")
        change = "UPDATE whatsapp_settings SET access_token = '{}'"
        await by_sql(stage, change.format("second"), change.format("third"))
        async with stage.working("clock"), stage.working("clock"):
            await stage.until(status, stage, equals="active")
        assert await opened(stage) == GIVEN | {"access_token": "third"}
        assert await stage.count("unsealed_credentials") == 0


async def test_a_channel_that_its_tenant_switched_off_stays_off(settings: Settings) -> None:
    async with staged(settings) as stage:
        await by_sql(stage, writing(), "UPDATE whatsapp_settings SET is_active = false")
        async with stage.working("clock"):
            await stage.until(stage.count, "unsealed_credentials", equals=0)
        assert await opened(stage) == GIVEN
        assert await shown(stage) == (False, "switched off in whatsapp_settings")
        await by_sql(stage, "UPDATE whatsapp_settings SET is_active = true")
        assert await status(stage) == "active"


async def test_without_keys_the_secrets_wait(settings: Settings) -> None:
    async with staged(settings) as stage:
        await by_sql(stage, writing())
        keyless = stage.settings.model_copy(update={"secret_keys": SecretStr("")})
        context: Context[None] = Context(keyless, stage.pool, stage.publisher, None)
        await clock.run_task("credentials", clock.TASKS["credentials"], context)
        assert await stage.count("unsealed_credentials") == 1
        assert await shown(stage) == (True, "its credentials wait to be sealed")
        async with stage.working("clock"):
            await stage.until(status, stage, equals="active")


async def test_a_channel_whose_old_secrets_do_not_open_keeps_no_other_waiting(settings: Settings) -> None:
    async with staged(settings) as stage:
        await by_sql(stage, writing("broken"), writing())
        await stage.pool.execute("UPDATE channels SET credentials = 'v1.lost.AAAA' WHERE address = 'broken'")
        async with stage.working("clock"):
            await stage.until(status, stage, equals="active")
        assert await status(stage, "broken") == "stopped"
        assert await stage.count("unsealed_credentials") == 1


async def test_what_was_put_off_meanwhile_is_due_at_once(settings: Settings) -> None:
    async with staged(settings) as stage:
        await by_sql(stage, writing())
        conversation = await stage.converse()
        request = await stage.requested(conversation, "hola")
        meta = await stage.pool.fetchval("SELECT id FROM channels WHERE address = '1065403'")
        await stage.pool.execute(
            "UPDATE messages SET status = 'ready', due_at = now() + interval '1 hour', channel_id = $1", meta
        )
        await stage.pool.execute("UPDATE conversations SET channel_id = $1", meta)
        async with stage.pool.acquire() as connection, connection.transaction():
            (waiting,) = await channels.unsealed(connection, 10)
            await channels.seal(connection, waiting, "sealed")
        assert await stage.count("messages WHERE id = $1 AND due_at <= now()", request.message_id) == 1
