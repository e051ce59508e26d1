"""`palomar channels`: from a Twilio account to a number that answers, and what to do where it does not."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode
from uuid import UUID

import pytest

from ops import connections
from ops.errors import Problem
from ops.local.postgres import OWNER
from ops.local.stack import Stack
from ops.onboarding.twilio import sender_address
from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN
from shared import database
from shared.actions.channels import merged
from shared.crypto import KeyRing
from shared.domain.model import ChannelKind
from shared.providers.twilio.endpoint import TwilioSecrets
from shared.queue.jobs import WebhookReceived
from shared.settings import Settings
from shared.store import channels, endpoints
from tests.support.commands import ROOT, palomar
from tests.support.sandbox_stage import playing
from workers.__main__ import Process

ADD = ("channels", "add", "--kind", "whatsapp", "--address", "+1 415 523 8886", "--account-sid", ACCOUNT_SID)
NEW = (*ADD, "--tenant", "Café Paloma", "--new-tenant")


@pytest.fixture
def shop(environment: dict[str, str]) -> dict[str, str]:
    """The environment of an operator with a Twilio account and a public address."""
    return {**environment, "TWILIO_AUTH_TOKEN": AUTH_TOKEN, "PALOMAR_PUBLIC_URL": "https://hooks.example.com"}


def listed(environment: dict[str, str]) -> list[dict[str, Any]]:
    result = palomar(environment, "channels", "list", "--json")
    assert result.returncode == 0, result.stderr
    return cast("list[dict[str, Any]]", json.loads(result.stdout))


async def tokens(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Endpoint → the auth tokens that ingress accepts there."""
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    connection = await database.connect(settings, process="test")
    try:
        return {
            str(row.id): TwilioSecrets.model_validate_json(
                keys.open(row.secrets, tenant_id=row.tenant_id, owner=row.id)
            ).auth_tokens
            for row in await endpoints.live(connection)
        }
    finally:
        await connection.close()


@asynccontextmanager
async def working(settings: Settings, *names: str) -> AsyncIterator[None]:
    """These workers, inside the test."""
    stop = asyncio.Event()
    task = asyncio.create_task(Process(settings, names).run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def reaches(pool: database.Pool, count: str) -> None:
    """Return once this query counts one row."""
    async with asyncio.timeout(20):
        while True:
            if await pool.fetchval(count) == 1:
                return
            await asyncio.sleep(0.02)


async def test_a_new_channel_says_what_to_enter_where(shop: dict[str, str], settings: Settings) -> None:
    result = palomar(shop, *NEW)
    assert result.returncode == 0, result.stderr
    (channel,) = listed(shop)
    base = f"https://hooks.example.com/webhooks/twilio/{channel['endpoint_id']}"
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert f"{base}#rc=5&rp=all" in lines
    assert f"{base}/status#rc=5&rp=all" in lines
    assert "WhatsApp senders" in result.stdout
    assert f"./palomar channels test {channel['id']}" in result.stdout
    assert AUTH_TOKEN not in result.stdout
    facts = ("tenant", "kind", "address", "engine", "window_policy", "status")
    assert [channel[fact] for fact in facts] == ["Café Paloma", "whatsapp", "+14155238886", "rules", "hold", "active"]
    assert await tokens(settings) == {channel["endpoint_id"]: (AUTH_TOKEN,)}
    table = palomar(shop, "channels", "list").stdout
    assert all(word in table for word in ("Café Paloma", "+14155238886", "rules", "hold", "active", f"{base}#rc=5"))


async def test_the_channels_of_an_account_share_one_address_for_webhooks(
    shop: dict[str, str], settings: Settings
) -> None:
    palomar(shop, *NEW)
    rotated = {**shop, "TWILIO_AUTH_TOKEN": "5e" * 16}
    sms = ("channels", "add", "--kind", "sms", "--tenant", "Café Paloma", "--account-sid")
    assert palomar(rotated, *sms, ACCOUNT_SID, "--address", "+14155238886").returncode == 0
    assert palomar(shop, *sms, "AC" + "77" * 16, "--messaging-service", "MG" + "0a" * 16).returncode == 0
    first, second, elsewhere = listed(shop)
    assert first["endpoint_id"] == second["endpoint_id"] != elsewhere["endpoint_id"]
    assert elsewhere["address"] == "MG" + "0a" * 16
    accepted = await tokens(settings)
    assert accepted[first["endpoint_id"]] == ("5e" * 16, AUTH_TOKEN)  # while the token is being rotated, both


def test_a_tenant_s_settings_come_from_a_file_and_change_by_one(shop: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"reply": {"greeting": "Hi", "debounce": 2}, "window": {"policy": "fail"}}')
    assert palomar(shop, *NEW, "--settings", str(file)).returncode == 0
    (channel,) = listed(shop)
    assert channel["window_policy"] == "fail"
    file.write_text('{"reply": {"engine": "llm", "debounce": null}, "rate": 5}')
    assert palomar(shop, "channels", "set", channel["id"][:18], "--settings", str(file)).returncode == 0
    assert listed(shop)[0]["settings"] == {
        "reply": {"greeting": "Hi", "engine": "llm"},
        "window": {"policy": "fail"},
        "rate": 5,
    }
    assert palomar(shop, "channels", "set", channel["id"], "--settings", str(file), "--replace").returncode == 1
    file.write_text('{"rate": 5}')
    assert palomar(shop, "channels", "set", channel["id"], "--settings", str(file), "--replace").returncode == 0
    assert listed(shop)[0]["settings"] == {"rate": 5}


async def test_after_resealing_the_old_key_may_go(shop: dict[str, str], settings: Settings) -> None:
    palomar(shop, *NEW)
    (channel,) = listed(shop)
    old = shop["PALOMAR_SECRET_KEYS"]
    new = "fresh:" + b64encode(b"n" * 32).decode()
    both = {**shop, "PALOMAR_SECRET_KEYS": f"{new},{old}"}
    only_new = {**shop, "PALOMAR_SECRET_KEYS": new}
    assert "2 sealed anew with key 'fresh', 0 had it already" in palomar(both, "channels", "reseal").stdout
    assert "0 sealed anew with key 'fresh', 2 had it already" in palomar(only_new, "channels", "reseal").stdout
    keys = KeyRing.parse(new)
    async with database.make_pool(settings, process="test", size=1) as pool:
        sealed = await channels.credentials(pool, UUID(channel["tenant_id"]), UUID(channel["id"]))
        assert sealed is not None
        opened = keys.open(sealed, tenant_id=UUID(channel["tenant_id"]), owner=UUID(channel["id"]))
    assert AUTH_TOKEN in opened
    lost = palomar({**shop, "PALOMAR_SECRET_KEYS": "other:" + b64encode(b"o" * 32).decode()}, "channels", "reseal")
    assert lost.returncode == 1
    assert "PALOMAR_SECRET_KEYS" in lost.stderr


async def test_credentials_are_tried_and_a_stopped_channel_resumes(shop: dict[str, str], settings: Settings) -> None:
    async with playing() as stage:
        shop = {**shop, "PALOMAR_TWILIO_API_URL": stage.base_url}
        palomar({**shop, "TWILIO_AUTH_TOKEN": "00" * 16}, *NEW)
        (channel,) = listed(shop)
        name = channel["id"]
        refused = await asyncio.to_thread(palomar, shop, "channels", "test", name)
        assert refused.returncode == 1
        assert "Twilio refuses the credentials" in refused.stderr
        assert f"./palomar channels set {name} --credentials" in refused.stderr

        async with database.make_pool(settings, process="test") as pool, pool.acquire() as connection:
            await channels.stop(connection, UUID(channel["tenant_id"]), UUID(name), "20003: Authenticate")
        assert listed(shop)[0]["status_reason"] == "20003: Authenticate"
        again = palomar(shop, "channels", "set", name, "--credentials", "--account-sid", ACCOUNT_SID)
        assert again.returncode == 0, again.stderr
        tried = await asyncio.to_thread(palomar, shop, "channels", "test", name)
        assert tried.returncode == 0, tried.stderr
        assert "takes the credentials" in tried.stdout
        assert "It was stopped (20003: Authenticate) and sends again" in tried.stdout
        assert listed(shop)[0]["status"] == "active"
    assert (await tokens(settings))[channel["endpoint_id"]] == (AUTH_TOKEN, "00" * 16)


async def test_a_message_from_before_its_channel_is_replayed_once_that_is_there(
    shop: dict[str, str], settings: Settings
) -> None:
    palomar(shop, *NEW)
    endpoint_id = UUID(listed(shop)[0]["endpoint_id"])
    early = WebhookReceived.of(
        endpoint_id,
        urlencode({"MessageSid": "SM1", "From": "+5215512345678", "To": "+14155550100", "Body": "hola"}).encode(),
        provider="twilio",
        received_at=datetime.now(UTC),
    )
    async with (
        database.make_pool(settings, process="test") as pool,
        connections.publisher(settings, "test") as publisher,
        working(settings, "persist"),
    ):
        await publisher.publish(early)
        await reaches(pool, "SELECT count(*) FROM inbound_log WHERE outcome = 'unparsed'")
        sms = ("channels", "add", "--kind", "sms", "--tenant", "Café Paloma", "--address", "+14155550100")
        assert palomar(shop, *sms, "--account-sid", ACCOUNT_SID).returncode == 0
        assert "1 replayed." in palomar(shop, "replay", "--failed").stdout
        await reaches(pool, "SELECT count(*) FROM messages WHERE content = 'hola'")
        await reaches(pool, "SELECT count(*) FROM inbound_log WHERE outcome = 'parsed'")


def test_what_is_missing_is_asked_for_in_a_terminal(shop: dict[str, str]) -> None:
    del shop["TWILIO_AUTH_TOKEN"]
    ours, theirs = pty.openpty()
    answers = ["sms", "+1 (415) 555-0100", "Tienda", ACCOUNT_SID, AUTH_TOKEN]
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "channels", "add", "--new-tenant"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=shop["PALOMAR_STATE_DIR"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **shop},
        start_new_session=True,  # or it would ask for the token at the terminal that runs the tests
    )
    os.close(theirs)
    seen = b""
    try:
        with suppress(OSError):  # which is how a terminal says that its other end is closed
            while chunk := os.read(ours, 4096):
                seen += chunk
                if chunk.endswith(b" ") and answers:  # a question ends with a blank
                    os.write(ours, answers.pop(0).encode() + b"\n")
        assert process.wait(30) == 0, seen
    finally:
        os.close(ours)
        process.kill()
        process.wait()
    assert [channel["address"] for channel in listed(shop)] == ["+14155550100"]
    assert AUTH_TOKEN.encode() not in seen  # typed, but not shown


@pytest.mark.parametrize(
    ("arguments", "complaint", "remedy"),
    [
        ((*ADD, "--tenant", "Nobody"), "There is no tenant 'Nobody'.", "Add --new-tenant to make it. There are: Shop."),
        ((*ADD, "--tenant", "Shop", "--new-tenant"), "a tenant 'Shop' already", "Leave --new-tenant out"),
        (ADD, "--tenant is missing.", "Add --tenant"),
        ((*ADD, "--tenant", "Shop", "--kind", "fax"), "--kind: 'fax' is none.", "whatsapp, sms"),
        ((*ADD, "--tenant", "Shop", "--address", "hello"), "--address: 'hello' is no phone number.", "+14155238886"),
        ((*ADD, "--tenant", "Shop", "--account-sid", "XX1"), "Wrong: account_sid.", "begins with AC"),
        ((*ADD, "--tenant", "Shop", "--provider", "fax"), "There is no provider 'fax'.", "twilio"),
        ((*ADD, "--tenant", "Shop", "--messaging-service", "MG1"), "A channel has one sender.", "not both"),
        ((*ADD, "--tenant", "Shop", "--settings", "none.json"), "none.json can't be read", "Name a JSON file"),
        ((*ADD, "--tenant", "Shop", "--settings", "broken.json"), "broken.json is no JSON", "an object"),
        ((*ADD, "--tenant", "Shop", "--settings", "wrong.json"), "reply.engine: Input should be", "Mend wrong.json"),
        (("channels", "test", "0190"), "There is no channel '0190'.", "channels list"),
        (("channels", "set", "0190"), "Say what to change.", "--settings FILE.json"),
    ],
)
def test_a_wrong_call_says_what_to_do_and_changes_nothing(
    shop: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], complaint: str, remedy: str
) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "wrong.json").write_text('{"reply": {"engine": "magic"}}')
    sms = ("channels", "add", "--kind", "sms", "--address", "+14155550100", "--tenant", "Shop", "--new-tenant")
    assert palomar(shop, *sms, "--account-sid", ACCOUNT_SID).returncode == 0
    before = listed(shop)
    result = palomar(shop, *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert complaint in result.stderr
    assert remedy in result.stderr
    assert listed(shop) == before


def test_a_number_is_one_channel_however_it_is_written(shop: dict[str, str]) -> None:
    mexican = ("channels", "add", "--kind", "whatsapp", "--account-sid", ACCOUNT_SID, "--tenant", "Tienda")
    assert palomar(shop, *mexican, "--address", "+5215512345678", "--new-tenant").returncode == 0
    result = palomar(shop, *mexican, "--address", "+52 55 1234 5678")
    assert result.returncode == 1
    assert "The whatsapp number +5215512345678 is channel" in result.stderr


def test_the_auth_token_is_no_argument(shop: dict[str, str]) -> None:
    del shop["TWILIO_AUTH_TOKEN"]
    result = palomar(shop, *NEW)
    assert result.returncode == 1
    assert "The auth token is missing." in result.stderr
    assert "Set TWILIO_AUTH_TOKEN" in result.stderr
    assert "--auth-token" not in palomar(shop, "channels", "add", "--help").stdout


def test_a_database_without_tables_says_how_to_make_them(shop: dict[str, str], stack: Stack) -> None:
    result = palomar({**shop, "DATABASE_URL": stack.postgres.url(OWNER, "postgres")}, "channels", "list")
    assert (result.returncode, result.stdout) == (1, "")
    assert "./palomar migrate" in result.stderr


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        ("whatsapp", "+52 1 55 1234 5678", "+5215512345678"),  # as the provider knows it, not folded
        ("whatsapp", "whatsapp:+14155238886", "+14155238886"),
        ("sms", "14155238886", "+14155238886"),
        ("sms", "12345", "12345"),
    ],
)
def test_a_channel_s_address_is_kept_as_the_provider_knows_it(kind: ChannelKind, given: str, kept: str) -> None:
    assert sender_address(kind, given) == kept


@pytest.mark.parametrize(("kind", "given"), [("whatsapp", "12345"), ("sms", "Tienda"), ("sms", ""), ("sms", "+1" * 20)])
def test_what_is_no_address(kind: ChannelKind, given: str) -> None:
    with pytest.raises(Problem, match="--address"):
        sender_address(kind, given)


@pytest.mark.parametrize(
    ("old", "changes", "whole"),
    [
        ({}, {"rate": 5}, {"rate": 5}),
        ({"rate": 5}, {}, {"rate": 5}),
        ({"rate": 5}, {"rate": None}, {}),
        ({"reply": {"menu": ["a", "b"]}}, {"reply": {"menu": ["c"]}}, {"reply": {"menu": ["c"]}}),
        (
            {"reply": {"engine": "llm"}},
            {"reply": {"llm": {"model": "m"}}},
            {"reply": {"engine": "llm", "llm": {"model": "m"}}},
        ),
        ({"reply": {"engine": "llm"}}, {"reply": None}, {}),
    ],
)
def test_settings_are_laid_over_each_other(
    old: dict[str, object], changes: dict[str, object], whole: dict[str, object]
) -> None:
    assert merged(old, changes) == whole
