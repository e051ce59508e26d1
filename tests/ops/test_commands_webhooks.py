"""palomar webhooks: a webhook is added, tested, looked at, sent to again, switched and given new keys."""

import asyncio
import json
import re
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from shared.database import new_id
from shared.queue import topology
from shared.settings import Settings
from tests.support import webhooks
from tests.support.commands import depth_reaches, palomar
from tests.support.stage import ADDRESS, Stage, staged

URL = "https://shop.example/palomar"


async def run(environment: dict[str, str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """Run `palomar webhooks …`; its output and what it says of errors."""
    ran = await asyncio.to_thread(palomar, environment, "webhooks", *arguments)
    assert ran.returncode == code, (arguments, ran.stdout, ran.stderr)
    return ran.stdout, ran.stderr


async def added(environment: dict[str, str], *more: str) -> UUID:
    out, _ = await run(environment, "add", URL, "--event", "message_*", "--name", "Web shop", *more)
    assert re.search(r"^secret \(v1\) +whsec_", out, re.M)
    assert re.search(r"^public key \(v1a\) +whpk_", out, re.M)
    return UUID(out.split()[2].rstrip("."))


async def delivered(stage: Stage, webhook_id: UUID, **columns: Any) -> UUID:
    log_id = new_id()
    given = {"event": "message_received", "success": False, **columns}
    places = ", ".join(f"${n}" for n in range(4, 4 + len(given)))
    await stage.pool.execute(
        f"INSERT INTO webhook_logs (tenant_id, webhook_id, id, {', '.join(given)}) VALUES ($1, $2, $3, {places})",
        *(stage.ours.tenant_id, webhook_id, log_id, *given.values()),
    )
    return log_id


async def test_a_webhook_is_added_tested_and_shown(environment: dict[str, str], settings: Settings) -> None:
    async with staged(settings) as stage:
        webhook_id = await added(
            environment, "--channel", ADDRESS, "--direction", "inbound", "--tag", "vip", "--in-order"
        )
        row = await stage.pool.fetchrow("SELECT * FROM webhooks WHERE id = $1", webhook_id)
        assert row is not None
        assert (row["channel_ids"], row["direction"]) == ([stage.ours.id], "inbound")
        assert (row["tags"], row["in_order"]) == (["vip"], True)
        assert "Web shop" in (await run(environment, "list"))[0]
        out, _ = await run(environment, "test", "Web shop", "--event", "contact_created")
        log_id = UUID(out.split()[-1])
        await depth_reaches(settings, topology.WEBHOOK.name, 1)
        assert "contact_created" in (await run(environment, "logs", "Web shop"))[0]
        shown, _ = await run(environment, "log", str(webhook_id), str(log_id))
        assert '"type": "contact_created"' in shown
        shown, _ = await run(environment, "show", str(webhook_id))
        assert "whpk_" in shown
        assert "whsec_" not in shown


async def test_a_program_gets_what_the_api_shows(environment: dict[str, str], settings: Settings) -> None:
    async def found(*arguments: str) -> Any:
        return json.loads((await run(environment, *arguments, "--json"))[0])

    async with staged(settings) as stage:
        made = await found("add", URL, "--event", "message_*", "--name", "Web shop")
        assert (made["url"], made["secret"][:6], made["publicKey"][:5]) == (URL, "whsec_", "whpk_")
        attempts = [
            {"number": 1, "kind": "delivery", "at": "2026-11-28T12:00:00Z", "sent_again_at": "2026-11-28T12:00:01Z"}
        ]
        log_id = await delivered(stage, UUID(made["id"]), attempts=attempts, payload={"type": "x"})
        del made["secret"]
        assert await found("list") == [made]
        assert await found("show", "Web shop") == made
        (logged,) = await found("logs", "Web shop")
        assert (logged["id"], logged["state"]) == (str(log_id), "failed")
        shown = await found("log", "Web shop", str(log_id))
        assert shown | logged == shown
        assert (shown["payload"], shown["attempts"][0]["sentAgainAt"]) == ({"type": "x"}, "2026-11-28T12:00:01Z")


async def test_the_sandbox_shows_what_is_sent_to_a_webhook_and_verifies_it(
    environment: dict[str, str], settings: Settings
) -> None:
    """As after `palomar up`: two commands, and a delivery is on the sandbox's page."""

    async def signatures(client: aiohttp.ClientSession) -> list[str]:
        async with client.get("/sandbox/webhooks") as answer:
            return [one["signature"] for one in await answer.json()]

    async with staged(settings) as stage, stage.working("webhook", "clock"):
        sandbox = stage.settings.sandbox_url
        local = environment | {"PALOMAR_SANDBOX_URL": sandbox, "PALOMAR_TRUSTED_ORIGINS": json.dumps([sandbox])}
        url = f"{sandbox}/webhooks/shop"
        await run(environment, "add", url, "--event", "other", code=1)
        await run(local, "add", url, "--event", "other", "--name", "Shop")
        async with aiohttp.ClientSession(sandbox) as client:
            await webhooks.happen(stage.pool, stage.ours.tenant_id)
            await stage.until(signatures, client, equals=["verified: v1, v1a"])
            await run(local, "rotate", "Shop", "--overlap", "0")
            await webhooks.happen(stage.pool, stage.ours.tenant_id, first=2)
            await stage.until(signatures, client, equals=["verified: v1, v1a"] * 2)


async def test_what_is_wrong_is_said_with_its_remedy(environment: dict[str, str], settings: Settings) -> None:
    async with staged(settings):
        wrong: list[tuple[tuple[str, ...], str]] = [
            (("add", URL, "--event", "message_recieved"), "#/events/0: There is no such event"),
            (("add", URL, "--event", "order_*"), "No event's name begins so"),
            (("add", "https://10.0.0.8/x", "--event", "*"), "not of the public network"),
            (("add", URL, "--event", "*", "--direction", "up"), "#/direction"),
            (("show", "nothing"), "See palomar webhooks list"),
            (("events", "message_recieved"), "See palomar webhooks events"),
        ]
        webhook_id = str(await added(environment))
        wrong += [
            (("replay", webhook_id), "or --since"),
            (("replay", webhook_id, str(new_id())), "has no delivery"),
            (("log", webhook_id, str(new_id())), "has no delivery"),
            (("logs", webhook_id, "--state", "lost"), "Give one of: pending"),
            (("recover", webhook_id, "--since", "yesterday"), "is no time"),
        ]
        for arguments, said in wrong:
            _, refused = await run(environment, *arguments, code=1)
            assert said in refused, refused


async def test_deliveries_are_sent_again(environment: dict[str, str], settings: Settings) -> None:
    async with staged(settings) as stage:
        webhook_id = await added(environment)
        one, missed = (
            await delivered(stage, webhook_id),
            await delivered(stage, webhook_id, success=None, held="missed"),
        )
        assert str(one) in (await run(environment, "logs", str(webhook_id), "--state", "failed"))[0]
        await run(environment, "replay", str(webhook_id), str(one))
        rows = await stage.pool.fetch("SELECT id FROM webhook_logs WHERE replay_at IS NOT NULL")
        assert [row["id"] for row in rows] == [one]
        assert "2 deliveries are sent again" in (await run(environment, "recover", str(webhook_id), "--since", "1h"))[0]
        await run(environment, "replay", str(webhook_id), "--since", "2h")
        ranges = await stage.pool.fetch("SELECT only_failed FROM webhook_replays ORDER BY created_at")
        assert [row["only_failed"] for row in ranges] == [True, False]
        assert str(missed) in (await run(environment, "logs", str(webhook_id), "--state", "missed"))[0]


async def test_a_disabled_webhook_is_enabled_and_status_tells_of_it(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        webhook_id = await added(environment)
        await delivered(stage, webhook_id, success=None, due_at=None, held="missed")
        await stage.pool.execute(
            "INSERT INTO webhook_health (tenant_id, webhook_id, failures, disabled_at, disabled_reason) "
            "VALUES ($1, $2, 10, now(), 'exhausted') ON CONFLICT (tenant_id, webhook_id) DO UPDATE "
            "SET failures = 10, disabled_at = now(), disabled_reason = 'exhausted'",
            *(stage.ours.tenant_id, webhook_id),
        )
        assert "disabled: exhausted" in (await run(environment, "list"))[0]
        status = await asyncio.to_thread(palomar, environment, "status", "--json")
        assert f"Once it answers: ./palomar webhooks enable {webhook_id}" in status.stdout
        assert json.loads(status.stdout)["rows"]["webhooks"]["disabled"] == [str(webhook_id)]
        assert "is on: ok" in (await run(environment, "enable", str(webhook_id)))[0]
        assert await stage.count("webhook_health WHERE disabled_at IS NOT NULL") == 0
        assert "is off: inactive" in (await run(environment, "disable", str(webhook_id)))[0]


@pytest.mark.parametrize("overlap", [0, 3600])
async def test_new_keys_are_shown_once(environment: dict[str, str], settings: Settings, overlap: int) -> None:
    async with staged(settings) as stage:
        webhook_id = await added(environment)
        out, _ = await run(environment, "rotate", str(webhook_id), "--overlap", str(overlap))
        assert "whsec_" in out
        keys = await stage.pool.fetchrow("SELECT * FROM webhook_keys WHERE webhook_id = $1", webhook_id)
        assert keys is not None
        assert keys["public_key"] in out
        assert keys["sealed_previous_secret"]
        assert (keys["previous_until"] - keys["updated_at"]).total_seconds() == pytest.approx(overlap, abs=1)


async def test_the_events_are_listed_with_a_sample_each(environment: dict[str, str]) -> None:
    assert "message_received" in (await run(environment, "events"))[0]
    sample = json.loads((await run(environment, "events", "message_received"))[0])
    assert sample["type"] == "message_received"
    assert sample["data"]["message"]["direction"] == "inbound"
