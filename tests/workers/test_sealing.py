"""Secrets that a tenant writes by SQL: the clock seals them, no session reads them in between, and webhooks come in by
them."""

from uuid import UUID

import orjson
from pydantic import SecretStr

from shared import database
from shared.crypto import KeyRing
from shared.providers.meta.endpoint import MetaSecrets
from shared.queue.worker import Context
from shared.settings import Settings
from shared.store import channel_secrets
from tests.support.meta_stage import add_app
from tests.support.stage import Stage, staged
from workers.clock import sealing, tasks, worker

WRITE = """
INSERT INTO whatsapp_settings (api_key, phone_number_id, business_id, access_token, webhook_token)
VALUES ('key', $1, 'business', 'access', 'webhook')
"""
GIVEN = {"api_key": "key", "access_token": "access", "webhook_token": "webhook"}
SHOWN = "SELECT is_active, status_reason FROM whatsapp_settings WHERE phone_number_id = '1065403'"


async def by_sql(stage: Stage, *statements: str) -> None:
    """Run each in a transaction of the stage's tenant, as the API's role."""
    async with database.ApiPool(stage.settings, process="test api", size=1) as api:
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
        database.ApiPool(stage.settings, process="test api", size=1) as api,
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
        await worker.run_task("credentials", tasks.TASKS["credentials"], context)
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
            (waiting,) = await channel_secrets.unsealed(connection, 10)
            await channel_secrets.seal(connection, waiting, "sealed")
        assert await stage.count("messages WHERE id = $1 AND due_at <= now()", request.message_id) == 1


# -- where Meta's webhooks come in -------------------------------------------------------------------------------------


async def served(stage: Stage, number: str = "1065403") -> tuple[UUID, MetaSecrets]:
    """The endpoint of a number, with its secrets as ingress reads them."""
    row = await stage.row(
        "SELECT e.id, e.tenant_id, e.secrets FROM channels c JOIN endpoints e ON e.id = c.endpoint_id "
        "WHERE c.address = $1",
        number,
    )
    keys = KeyRing.parse(stage.settings.secret_keys.get_secret_value())
    opened = keys.open(row["secrets"], tenant_id=row["tenant_id"], owner=row["id"])
    return row["id"], MetaSecrets.model_validate_json(opened)


async def webhook_url(stage: Stage, number: str = "1065403") -> object:
    return await stage.value("SELECT webhook_url FROM channels WHERE address = $1", number)


async def test_settings_get_an_endpoint_that_knows_their_token_and_say_its_address(settings: Settings) -> None:
    async with staged(settings) as stage:
        await by_sql(stage, writing())
        async with stage.working("clock"):
            await stage.until(status, stage, equals="active")
        endpoint, secrets = await served(stage)
        assert (secrets.verify_token, secrets.app_secrets) == ("webhook", ("key",))
        url = f"{stage.settings.public_url}/webhooks/meta/{endpoint}"
        assert await webhook_url(stage) == url
        # What a tenant writes there is no address that Meta could call.
        await by_sql(stage, "UPDATE whatsapp_settings SET webhook_url = 'https://elsewhere.example'")
        assert await webhook_url(stage) == url


async def test_a_new_token_holds_and_the_app_secret_before_stays_good(settings: Settings) -> None:
    async with staged(settings) as stage:
        await by_sql(stage, writing())
        async with stage.working("clock"):
            await stage.until(status, stage, equals="active")
            endpoint, _ = await served(stage)
            await by_sql(stage, "UPDATE whatsapp_settings SET webhook_token = 'newer', api_key = 'other'")
            await stage.until(status, stage, equals="active")
        assert await served(stage) == (endpoint, MetaSecrets(app_secrets=("other", "key"), verify_token="newer"))


async def test_numbers_of_one_app_share_its_address_and_no_other_tenants(settings: Settings) -> None:
    async with staged(settings) as stage:
        await by_sql(stage, writing(), writing("1065404"))
        stage.ours = await stage.add_channel()
        await by_sql(stage, writing("1065405"))
        async with stage.working("clock"):
            for number in ("1065403", "1065404", "1065405"):
                await stage.until(status, stage, number, equals="active")
        first, second, others = [(await served(stage, number))[0] for number in ("1065403", "1065404", "1065405")]
        assert first == second != others


async def test_an_endpoint_that_tenants_share_is_not_one_of_theirs_to_change(settings: Settings) -> None:
    async with staged(settings) as stage:
        shared_endpoint = await add_app(stage)
        await by_sql(stage, writing())
        await stage.pool.execute("UPDATE channels SET endpoint_id = $1 WHERE address = '1065403'", shared_endpoint)
        before = await served(stage)
        async with stage.working("clock"):
            await stage.until(opened, stage, equals=GIVEN)
        assert await shown(stage) == (False, "its address waits to be proven: palomar channels test")
        assert await served(stage) == before
        assert before[1].verify_token != "webhook"


async def test_a_number_whose_secrets_were_sealed_before_gets_its_endpoint_too(settings: Settings) -> None:
    """One of an earlier version, or of an import."""
    async with staged(settings) as stage:
        await by_sql(stage, writing(), writing("broken"))
        async with stage.pool.acquire() as connection, connection.transaction():
            for channel in await channel_secrets.unsealed(connection, 10):
                sealed = stage.sealed(channel.secrets, channel.tenant_id, channel.id)
                await channel_secrets.seal(connection, channel, sealed)
            await connection.execute("UPDATE channels SET credentials = 'v1.lost.AAAA' WHERE address = 'broken'")
            assert await sealing.serve_channels(connection, stage.settings, "meta") == (1, None)
        endpoint, secrets = await served(stage)
        assert secrets.verify_token == "webhook"
        assert await webhook_url(stage) == f"{stage.settings.public_url}/webhooks/meta/{endpoint}"
        elsewhere = stage.settings.model_copy(update={"public_url": "https://new.example"})
        async with stage.pool.acquire() as connection:
            assert await sealing.serve_channels(connection, elsewhere, "meta") == (0, None)
        assert await webhook_url(stage) == f"https://new.example/webhooks/meta/{endpoint}"


# -- what signs the calls to a tenant's own webhooks -------------------------------------------------------------------


async def test_a_webhooks_secret_is_sealed_and_the_newest_holds(settings: Settings) -> None:
    async with staged(settings) as stage:
        add = "INSERT INTO webhooks (url, secret) VALUES ('https://shop.example/{0}', '{0}')"
        await by_sql(stage, add.format("first"), add.format("other"))
        await by_sql(stage, "UPDATE webhooks SET secret = 'second' WHERE url LIKE '%first'")
        await by_sql(stage, "UPDATE webhooks SET secret = '' WHERE url LIKE '%other'")
        async with stage.working("clock"):
            await stage.until(stage.count, "unsealed_webhook_secrets", equals=0)
        keys = KeyRing.parse(stage.settings.secret_keys.get_secret_value())
        rows = await stage.rows("SELECT tenant_id, id, secret, sealed_secret FROM webhooks ORDER BY url")
        first, other = rows
        assert keys.open(first["sealed_secret"], tenant_id=first["tenant_id"], owner=first["id"]) == "second"
        assert (first["secret"], other["secret"], other["sealed_secret"]) == ("••••••••", "", "")
