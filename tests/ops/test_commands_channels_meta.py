"""`palomar channels` with Meta: from an app to numbers that answer, of several tenants behind one URL."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

import pytest

from ops.sandbox.meta_forms import ACCESS_TOKEN, APP_SECRET, PHONE_NUMBER_ID
from shared import database
from shared.crypto import KeyRing
from shared.providers.meta.endpoint import MetaSecrets
from shared.settings import Settings
from shared.store import channels, endpoints
from tests.support.commands import palomar
from tests.support.sandbox_stage import playing

ACCOUNT = "102290129340398"
ADD = ("channels", "add", "--provider", "meta", "--account-id", ACCOUNT, "--phone-number-id")
UNPROVEN = "its address waits to be proven: palomar channels test"
NEW = (*ADD, PHONE_NUMBER_ID, "--tenant", "Tienda", "--new-tenant")


@pytest.fixture
def shop(environment: dict[str, str]) -> dict[str, str]:
    """The environment of an operator with an app at Meta and a public address."""
    return {
        **environment,
        "META_ACCESS_TOKEN": ACCESS_TOKEN,
        "META_APP_SECRET": APP_SECRET,
        "PALOMAR_PUBLIC_URL": "https://hooks.example.com",
    }


def listed(environment: Mapping[str, str]) -> list[dict[str, Any]]:
    result = palomar(environment, "channels", "list", "--json")
    assert result.returncode == 0, result.stderr
    return cast("list[dict[str, Any]]", json.loads(result.stdout))


async def secrets(settings: Settings) -> dict[str, MetaSecrets]:
    """Endpoint → what ingress checks there. Each belongs to no tenant."""
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    connection = await database.connect(settings, process="test")
    try:
        rows = await endpoints.live(connection)
    finally:
        await connection.close()
    assert [row.tenant_id for row in rows] == [None] * len(rows)
    return {
        str(row.id): MetaSecrets.model_validate_json(keys.open(row.secrets, tenant_id=None, owner=row.id))
        for row in rows
    }


async def test_a_new_channel_says_what_to_enter_where(shop: dict[str, str], settings: Settings) -> None:
    result = palomar(shop, *NEW)
    assert result.returncode == 0, result.stderr
    (channel,) = listed(shop)
    (kept,) = (await secrets(settings)).values()
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert f"https://hooks.example.com/webhooks/meta/{channel['endpoint_id']}" in lines
    assert kept.verify_token in lines
    assert kept.app_secrets == (APP_SECRET,)
    assert f"./palomar channels test {channel['id']}" in result.stdout
    assert ACCESS_TOKEN not in result.stdout
    assert APP_SECRET not in result.stdout
    facts = ("tenant", "provider", "kind", "address", "status", "status_url")
    assert [channel[fact] for fact in facts] == ["Tienda", "meta", "whatsapp", PHONE_NUMBER_ID, "active", None]
    async with database.make_pool(settings, process="test", size=1) as pool:
        assert await pool.fetchval("SELECT business_id FROM channels") == ACCOUNT
    shown = palomar(shop, "channels", "list").stdout
    assert f"/webhooks/meta/{channel['endpoint_id']}" in shown
    assert "receipts" not in shown


async def test_all_numbers_of_an_app_share_one_url_whoever_they_belong_to(
    shop: dict[str, str], settings: Settings
) -> None:
    assert palomar({**shop, "META_VERIFY_TOKEN": "chosen"}, *NEW).returncode == 0
    second = palomar(shop, *ADD, "100000000000009", "--tenant", "Café", "--new-tenant")
    assert "chosen" in second.stdout  # the app's URL has its verify token already
    elsewhere = {**shop, "META_APP_SECRET": "another"}
    assert palomar(elsewhere, *ADD, "100000000000010", "--tenant", "Café").returncode == 0
    by_address = {channel["address"]: channel["endpoint_id"] for channel in listed(shop)}
    assert by_address[PHONE_NUMBER_ID] == by_address["100000000000009"] != by_address["100000000000010"]
    kept = await secrets(settings)
    assert kept[by_address[PHONE_NUMBER_ID]].app_secrets == (APP_SECRET,)
    assert kept[by_address["100000000000010"]].app_secrets == ("another",)


def test_a_number_of_one_tenant_can_be_no_other_tenants_too(shop: dict[str, str]) -> None:
    palomar(shop, *NEW)
    result = palomar(shop, *ADD, PHONE_NUMBER_ID, "--tenant", "Café", "--new-tenant")
    assert result.returncode == 1
    assert "is a channel of Tienda already" in result.stderr
    assert [channel["tenant"] for channel in listed(shop)] == ["Tienda"]


async def test_credentials_are_tried_exchanged_and_a_stopped_channel_resumes(
    shop: dict[str, str], settings: Settings
) -> None:
    async with playing() as stage:
        shop = {**shop, "PALOMAR_META_API_URL": stage.base_url}
        palomar({**shop, "META_ACCESS_TOKEN": "expired", "META_APP_SECRET": "before"}, *NEW)
        (channel,) = listed(shop)
        name = channel["id"]
        refused = await asyncio.to_thread(palomar, shop, "channels", "test", name)
        assert refused.returncode == 1
        assert "Meta refuses the access token (190)" in refused.stderr
        async with database.make_pool(settings, process="test") as pool, pool.acquire() as connection:
            await channels.stop(connection, UUID(channel["tenant_id"]), UUID(name), "190: expired")
        before = (await secrets(settings))[channel["endpoint_id"]]
        again = palomar(shop, "channels", "set", name, "--credentials", "--account-id", ACCOUNT)
        assert again.returncode == 0, again.stderr
        tried = await asyncio.to_thread(palomar, shop, "channels", "test", name)
        assert tried.returncode == 0, tried.stderr
        assert "It was stopped (190: expired) and sends again" in tried.stdout
    after = (await secrets(settings))[channel["endpoint_id"]]
    assert after.app_secrets == (APP_SECRET, "before")  # while the secret is being rotated, both
    assert after.verify_token == before.verify_token


async def test_a_channel_that_came_without_an_endpoint_gets_one_with_its_credentials(
    shop: dict[str, str], settings: Settings
) -> None:
    palomar(shop, *NEW)
    async with database.make_pool(settings, process="test", size=1) as pool:
        await pool.execute("UPDATE channels SET endpoint_id = NULL")
    (channel,) = listed(shop)
    assert channel["webhook_url"] is None
    assert palomar(shop, "channels", "set", channel["id"], "--credentials", "--account-id", ACCOUNT).returncode == 0
    (served,) = listed(shop)
    assert served["webhook_url"] is not None
    assert (served["status"], served["status_reason"]) == ("stopped", UNPROVEN)


async def test_an_address_that_came_by_sql_is_tried_at_meta_before_anything_comes_in(
    shop: dict[str, str], settings: Settings
) -> None:
    """Another tenant's number, written into a row of one's own on the app's URL that both share."""
    async with playing() as stage, database.make_pool(settings, process="test", size=1) as pool:
        shop = {**shop, "PALOMAR_META_API_URL": stage.base_url}
        await asyncio.to_thread(palomar, shop, *NEW)
        await asyncio.to_thread(palomar, shop, *ADD, "100000000000009", "--tenant", "Café", "--new-tenant")
        victim, ours = sorted(
            await asyncio.to_thread(listed, shop), key=lambda channel: str(channel["tenant"]) == "Café"
        )
        await pool.execute("UPDATE channels SET address = $1 WHERE id = $2", PHONE_NUMBER_ID, UUID(ours["id"]))
        endpoint = UUID(ours["endpoint_id"])
        assert [str(one.id) for one in await channels.of_endpoints(pool, [endpoint])] == [victim["id"]]
        refused = await asyncio.to_thread(palomar, shop, "channels", "test", ours["id"])  # the token sees the number
        assert refused.returncode == 1
        assert "is another tenant's channel already" in refused.stderr
        await pool.execute("UPDATE channels SET deleted_at = now() WHERE id = $1", UUID(victim["id"]))
        proven = await asyncio.to_thread(palomar, shop, "channels", "test", ours["id"])
        assert f"It was stopped ({UNPROVEN}) and sends again" in proven.stdout
        assert [str(one.id) for one in await channels.of_endpoints(pool, [endpoint])] == [ours["id"]]


@pytest.mark.parametrize(
    ("arguments", "without", "complaint", "remedy"),
    [
        ((*ADD, "+14155238886"), "", "--phone-number-id: '+14155238886' is none.", "not the number itself"),
        ((*ADD, PHONE_NUMBER_ID, "--kind", "sms"), "", "--kind: Meta's channels are whatsapp", "Leave --kind out"),
        ((*ADD, PHONE_NUMBER_ID, "--account-id", "x"), "", "--account-id", "API Setup"),
        (ADD[:4], "", "--phone-number-id is missing.", "Add --phone-number-id"),
        ((*ADD, PHONE_NUMBER_ID), "META_ACCESS_TOKEN", "The access token is missing.", "Set META_ACCESS_TOKEN"),
        ((*ADD, PHONE_NUMBER_ID), "META_APP_SECRET", "The app secret is missing.", "Set META_APP_SECRET"),
    ],
)
def test_a_wrong_call_says_what_to_do(
    shop: dict[str, str], arguments: tuple[str, ...], without: str, complaint: str, remedy: str
) -> None:
    shop.pop(without, None)
    result = palomar(shop, *arguments, "--tenant", "Tienda", "--new-tenant")
    assert (result.returncode, result.stdout) == (1, "")
    assert complaint in result.stderr
    assert remedy in result.stderr
    assert listed(shop) == []
