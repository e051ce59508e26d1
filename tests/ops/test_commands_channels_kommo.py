"""`palomar channels` with Kommo: from a channel's ids to two URLs, credentials that are tried, and their rotation."""

import asyncio
import json
from typing import Any

import pytest

from ops.sandbox.kommo_forms import ACCOUNT_ID, BOT_ID, CHANNEL_ID, CHANNEL_SECRET, SCOPE_ID
from shared import database
from shared.crypto import KeyRing
from shared.providers.kommo.endpoint import KommoSecrets
from shared.settings import Settings
from shared.store import endpoints
from tests.support.commands import palomar
from tests.support.sandbox_stage import playing

ADD = (
    "channels", "add", "--provider", "kommo", "--channel-id", CHANNEL_ID, "--account-id", ACCOUNT_ID,
    "--bot-id", BOT_ID,
)  # fmt: skip
NEW = (*ADD, "--tenant", "Taller", "--new-tenant")


@pytest.fixture
def shop(environment: dict[str, str]) -> dict[str, str]:
    """The environment of an operator with a channel at Kommo and a public address."""
    return {
        **environment,
        "KOMMO_CHANNEL_SECRET": CHANNEL_SECRET,
        "PALOMAR_PUBLIC_URL": "https://hooks.example.com",
    }


def listed(environment: dict[str, str]) -> list[dict[str, Any]]:
    result = palomar(environment, "channels", "list", "--json")
    assert result.returncode == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


async def secrets(settings: Settings) -> KommoSecrets:
    """What ingress checks at the one endpoint there is."""
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    connection = await database.connect(settings, process="test")
    try:
        (row,) = await endpoints.live(connection)
    finally:
        await connection.close()
    return KommoSecrets.model_validate_json(keys.open(row.secrets, tenant_id=row.tenant_id, owner=row.id))


async def test_a_new_channel_says_what_to_enter_where_and_lists_it_again(
    shop: dict[str, str], settings: Settings
) -> None:
    result = palomar(shop, *NEW)
    assert result.returncode == 0, result.stderr
    (channel,) = listed(shop)
    kept = await secrets(settings)
    (in_url,) = kept.url_secrets
    base = f"https://hooks.example.com/webhooks/kommo/{channel['endpoint_id']}"
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert f"{base}/{in_url}" in lines
    assert f"{base}/chats/:scope_id" in lines
    assert CHANNEL_SECRET not in result.stdout
    assert kept.channel_secrets == (CHANNEL_SECRET,)
    facts = ("tenant", "provider", "kind", "address", "webhook_url", "chats_url", "status_url")
    assert [channel[fact] for fact in facts] == [
        "Taller", "kommo", "whatsapp", SCOPE_ID, f"{base}/{in_url}", f"{base}/chats/:scope_id", None,
    ]  # fmt: skip
    assert channel["settings"] == {"manager": {"own_bot": BOT_ID}}
    assert f"{base}/{in_url}" in palomar(shop, "channels", "list").stdout


async def test_credentials_are_tried_and_exchanged_and_the_urls_stay(shop: dict[str, str], settings: Settings) -> None:
    async with playing() as stage:
        shop = {**shop, "PALOMAR_KOMMO_API_URL": stage.base_url}
        palomar({**shop, "KOMMO_CHANNEL_SECRET": "before"}, *NEW)
        (channel,) = listed(shop)
        refused = await asyncio.to_thread(palomar, shop, "channels", "test", channel["id"])
        assert refused.returncode == 1
        assert "Kommo refuses the channel secret (403)" in refused.stderr
        again = palomar(shop, "channels", "set", channel["id"], "--credentials", "--bot-id", "another-bot")
        assert again.returncode == 0, again.stderr
        tried = await asyncio.to_thread(palomar, shop, "channels", "test", channel["id"])
        assert tried.returncode == 0, tried.stderr
        assert "kommo takes the credentials" in tried.stdout
    assert (await secrets(settings)).channel_secrets == (CHANNEL_SECRET, "before")  # while it is rotated, both
    (after,) = listed(shop)
    assert after["webhook_url"] == channel["webhook_url"]
    assert after["settings"]["manager"]["own_bot"] == "another-bot"


@pytest.mark.parametrize(
    ("arguments", "without", "complaint", "remedy"),
    [
        (("--channel-id", "x"), "", "--channel-id: 'x' is none of Kommo's.", "UUID"),
        (("--account-id", "12345"), "", "--account-id: '12345' is none of Kommo's.", "UUID"),
        (("--bot-id", "a b"), "", "Wrong: bot_id.", "Kommo's support"),
        (("--kind", "sms"), "", "--kind: Kommo's channels are whatsapp", "Leave --kind out"),
        ((), "KOMMO_CHANNEL_SECRET", "The channel secret is missing.", "Set KOMMO_CHANNEL_SECRET"),
    ],
)
def test_a_wrong_call_says_what_to_do(
    shop: dict[str, str], arguments: tuple[str, ...], without: str, complaint: str, remedy: str
) -> None:
    shop.pop(without, None)
    result = palomar(shop, *NEW, *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert complaint in result.stderr
    assert remedy in result.stderr
    assert listed(shop) == []


async def test_another_url_leaves_the_one_before_good_and_the_channels_secret_as_it_is(
    shop: dict[str, str], settings: Settings
) -> None:
    palomar(shop, *NEW)
    (channel,) = listed(shop)
    before = await secrets(settings)
    result = palomar(shop, "channels", "set", channel["id"], "--new-url")
    assert result.returncode == 0, result.stderr
    after = await secrets(settings)
    assert after.url_secrets[1:] == before.url_secrets
    assert after.channel_secrets == before.channel_secrets
    assert listed(shop)[0]["webhook_url"].endswith(f"/{after.url_secrets[0]}")
