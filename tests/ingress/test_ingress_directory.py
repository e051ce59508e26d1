"""The owner and the secret of each endpoint are held in memory: fresh within moments, and through an outage."""

import json
import stat
import time
from pathlib import Path

import aiohttp
import asyncpg

from ingress.endpoint_directory import COPY
from ops.local.stack import Stack
from shared import database
from shared.settings import Settings
from tests.support.ingress import Hook, add_endpoint, health, ingress, ingress_process, keys_of, metric, post, until

FIELDS = {"MessageSid": "SM1", "Body": "hola"}
MOMENT = 10.0  # seconds; a few ms, but for the wait between two connects and a busy machine


async def turns(client: aiohttp.ClientSession, hook: Hook, status: int) -> None:
    """Post until the answer is the wanted one."""

    async def answered() -> bool:
        return await post(client, hook, FIELDS) == status

    await until(answered, MOMENT)


async def change(settings: Settings, statement: str, *arguments: object) -> None:
    connection = await database.connect(settings, process="test")
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


def nowhere(settings: Settings) -> Settings:
    """The same, with a database that refuses connections."""
    return settings.model_copy(
        update={"database_url": type(settings.database_url)("postgresql://nobody@127.0.0.1:1/none")}
    )


async def readiness(client: aiohttp.ClientSession) -> tuple[int, dict[str, str]]:
    async with client.get(health(client, "/readyz")) as answer:
        return answer.status, (await answer.json()).get("missing", {})


def sealed_copy(settings: Settings) -> str:
    return (settings.state_dir / COPY).read_text()


def spoil(path: Path) -> None:
    text = path.read_text()
    path.write_text(text[:-4] + ("AAAA" if text[-4:] != "AAAA" else "BBBB"))


async def test_an_endpoint_is_taken_up_changed_and_dropped_within_moments(settings: Settings) -> None:
    # The poll would come too late for this test: what is seen is NOTIFY.
    async with ingress(settings.model_copy(update={"directory_poll": 600.0})) as client:
        hook = await add_endpoint(settings)
        await turns(client, hook, 200)

        both = json.dumps({"auth_tokens": ["new", hook.token]})
        sealed = keys_of(settings).seal(both, tenant_id=hook.tenant_id, owner=hook.id)
        await change(settings, "UPDATE endpoints SET secrets = $2 WHERE id = $1", hook.id, sealed)
        await turns(client, Hook(hook.id, hook.tenant_id, "new"), 200)
        assert await post(client, hook, FIELDS) == 200  # while a token is rotated, both count

        await change(settings, "UPDATE endpoints SET deleted_at = now() WHERE id = $1", hook.id)
        await turns(client, hook, 404)


async def test_a_deleted_tenants_endpoints_are_unknown_until_it_is_there_again(settings: Settings) -> None:
    async with ingress(settings.model_copy(update={"directory_poll": 600.0})) as client:
        hook, other = await add_endpoint(settings), await add_endpoint(settings, spanning=True)
        await turns(client, hook, 200)
        await change(settings, "UPDATE tenants SET deleted_at = now() WHERE id = $1", hook.tenant_id)
        await turns(client, hook, 404)
        assert await post(client, other, FIELDS) == 200
        await change(settings, "UPDATE tenants SET deleted_at = NULL WHERE id = $1", hook.tenant_id)
        await turns(client, hook, 200)


async def test_many_changes_are_read_together(settings: Settings) -> None:
    async with ingress(settings.model_copy(update={"directory_poll": 600.0})) as client:
        hook = await add_endpoint(settings)
        await turns(client, hook, 200)
        before, started = await loads(client), time.monotonic()
        connection = await database.connect(settings, process="test")
        while time.monotonic() - started < 2.5:
            await connection.execute("UPDATE endpoints SET name = name WHERE id = $1", hook.id)
        await connection.execute("UPDATE endpoints SET deleted_at = now() WHERE id = $1", hook.id)
        await connection.close()
        await turns(client, hook, 404)  # the last change is not lost among them
        assert 1 <= await loads(client) - before <= time.monotonic() - started + 1


async def loads(client: aiohttp.ClientSession) -> float:
    return await metric(client, "palomar_directory_loads_total")


async def test_the_poll_finds_a_change_without_a_notification(settings: Settings, database_url: str) -> None:
    async with ingress(settings.model_copy(update={"directory_poll": 0.1})) as client:
        await change(settings, "SELECT 1")
        owner = await asyncpg.connect(database_url)
        await owner.execute("ALTER TABLE endpoints DISABLE TRIGGER endpoints_changed")
        await owner.close()
        hook = await add_endpoint(settings)
        await turns(client, hook, 200)


async def test_an_endpoint_may_be_written_in_capitals(settings: Settings) -> None:
    hook = await add_endpoint(settings)
    async with ingress(settings) as client:
        path = f"/webhooks/twilio/{str(hook.id).upper()}"
        headers = hook.signed(FIELDS, url="https://hooks.example.com/palomar" + path)
        async with client.post(path, data=FIELDS, headers=headers) as answer:
            assert answer.status == 200


async def test_secrets_that_do_not_open_spoil_nothing_but_their_own_endpoint(settings: Settings) -> None:
    sound = await add_endpoint(settings)
    unreadable = [await add_endpoint(settings, secrets=text) for text in ("no json", "{}", '{"auth_tokens": []}')]
    moved = await add_endpoint(settings)
    await change(
        settings, "UPDATE endpoints SET secrets = (SELECT secrets FROM endpoints WHERE id = $1) WHERE id = $2",
        sound.id, moved.id,
    )  # fmt: skip
    async with ingress(settings) as client:
        for hook in (*unreadable, moved):
            async with client.post(hook.path(), data=FIELDS, headers=hook.signed(FIELDS)) as answer:
                assert answer.status == 503
                assert "Retry-After" in answer.headers
                assert "PALOMAR_SECRET_KEYS" in await answer.text()
        assert await post(client, sound, FIELDS) == 200
        assert await metric(client, 'palomar_directory_endpoints{state="sealed"}') == 4
        assert await metric(client, 'palomar_directory_endpoints{state="open"}') == 1
        assert (await readiness(client))[0] == 200


async def test_without_the_database_a_start_uses_the_sealed_copy(settings: Settings) -> None:
    hook = await add_endpoint(settings)
    async with ingress(settings):
        pass
    copy = sealed_copy(settings)
    assert copy.startswith("v1.")
    assert str(hook.id) not in copy
    assert stat.S_IMODE((settings.state_dir / COPY).stat().st_mode) == 0o600
    async with ingress(nowhere(settings)) as client:
        assert await post(client, hook, FIELDS) == 200
        assert (await readiness(client))[0] == 200
        assert await metric(client, "palomar_directory_age_seconds") < 60


async def test_the_copy_follows_every_change(settings: Settings) -> None:
    async with ingress(settings) as client:
        before = sealed_copy(settings)
        hook = await add_endpoint(settings)
        await turns(client, hook, 200)

        async def written() -> bool:
            return sealed_copy(settings) != before

        await until(written, MOMENT)
    async with ingress(nowhere(settings)) as client:
        assert await post(client, hook, FIELDS) == 200


async def test_with_neither_every_webhook_is_refused_with_a_reason(settings: Settings) -> None:
    hook = await add_endpoint(settings)
    async with ingress(nowhere(settings)) as client:
        async with client.post(hook.path(), data=FIELDS, headers=hook.signed(FIELDS)) as answer:
            assert answer.status == 503
            assert "database" in await answer.text()
        status, missing = await readiness(client)
        assert status == 503
        assert "PostgreSQL does not answer" in missing["directory"]
        async with client.get(health(client, "/healthz")) as answer:
            assert answer.status == 200


async def test_a_copy_that_was_tampered_with_is_not_believed(settings: Settings) -> None:
    hook = await add_endpoint(settings)
    async with ingress(settings):
        pass
    spoil(settings.state_dir / COPY)
    async with ingress(nowhere(settings)) as client:
        assert await post(client, hook, FIELDS) == 503


async def test_a_database_that_restarts_is_found_again_and_the_directory_kept_meanwhile(
    stack: Stack, settings: Settings, environment: dict[str, str]
) -> None:
    hook = await add_endpoint(settings)
    async with ingress_process({**environment, "PALOMAR_DIRECTORY_POLL": "600"}) as running:
        client = running.client
        assert await post(client, hook, FIELDS) == 200
        stack.postgres.stop("immediate")
        try:
            started = time.monotonic()
            while time.monotonic() - started < 1:
                assert await post(client, hook, FIELDS) == 200
        finally:
            stack.postgres.start()
        late = await add_endpoint(settings)
        await turns(client, late, 200)
        assert (await readiness(client))[0] == 200
