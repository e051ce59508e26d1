"""`palomar replay`: raw webhooks go through the pipeline again, by id or by when they came."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.errors import Problem
from ops.replays import moment
from shared import database
from shared.database import new_id
from shared.queue import topology
from shared.queue.jobs import WebhookReceived
from shared.settings import Settings
from shared.store import webhook_log
from shared.store.webhook_log import Logged
from tests.support.commands import palomar, taken, webhook

PERSIST = topology.PERSIST.name


async def keep(settings: Settings, *entries: Logged) -> None:
    """As persist does."""
    async with (
        database.make_pool(settings, process="test") as pool,
        pool.acquire() as connection,
        connection.transaction(),
    ):
        await webhook_log.remember(connection, [entry.webhook for entry in entries])
        await webhook_log.log(connection, entries)


async def replayed(settings: Settings, queue: str = PERSIST) -> list[WebhookReceived]:
    items = [item for message in await taken(settings, queue) for item in json.loads(message.body)["items"]]
    return [WebhookReceived.model_validate(item) for item in items]


async def test_webhooks_come_back_by_id_exactly_as_they_arrived(
    environment: dict[str, str], settings: Settings
) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=25)
    first, second = (one.model_copy(update={"received_at": long_ago}) for one in (webhook(1), webhook(2)))
    receipt = webhook(3).model_copy(update={"receipts": True})
    await keep(settings, *(Logged(one, "parsed") for one in (first, second, receipt)))
    result = palomar(environment, "replay", first.inbound_id, receipt.inbound_id[:8].upper())
    assert result.returncode == 0, result.stderr
    assert "2 replayed." in result.stdout
    (back,) = await replayed(settings)
    assert back == first.model_copy(update={"replayed": True})  # received_at too: no window opens by it
    assert [one.inbound_id for one in await replayed(settings, "persist.receipts")] == [receipt.inbound_id]


async def test_ids_that_are_not_in_the_log_are_named(environment: dict[str, str], settings: Settings) -> None:
    await keep(settings, Logged(webhook(1), "parsed"))
    stranger, beginning = webhook(2).inbound_id, webhook(3).inbound_id[:10]
    result = palomar(environment, "replay", stranger, webhook(1).inbound_id, beginning)
    assert result.returncode == 1
    assert "1 replayed." in result.stdout
    assert "which keeps 30 days" in result.stdout
    assert {line.strip() for line in result.stdout.splitlines()} >= {stranger, beginning}
    assert len(await replayed(settings)) == 1


async def test_a_span_comes_back_with_its_progress(environment: dict[str, str], settings: Settings) -> None:
    webhooks = [webhook(number) for number in range(250)]
    await keep(settings, *(Logged(one, "parsed") for one in webhooks))
    result = palomar(environment, "replay", "--since", "10m")
    assert result.returncode == 0, result.stderr
    assert "250 replayed." in result.stdout
    assert "250/250" in result.stderr
    assert {one.inbound_id for one in await replayed(settings)} == {one.inbound_id for one in webhooks}
    assert "nothing was replayed" in palomar(environment, "replay", "--until", "10m").stdout


async def test_only_what_failed_or_came_to_one_endpoint(environment: dict[str, str], settings: Settings) -> None:
    elsewhere = WebhookReceived.of(new_id(), b"MessageSid=SM9", provider="twilio", received_at=datetime.now(UTC))
    unread = (Logged(webhook(2), "unparsed", "no channel"), Logged(webhook(3), "partly", "no channel"))
    await keep(settings, Logged(webhook(1), "parsed"), *unread, Logged(elsewhere, "parsed"))
    assert "2 replayed." in palomar(environment, "replay", "--failed").stdout
    assert {one.inbound_id for one in await replayed(settings)} == {webhook(2).inbound_id, webhook(3).inbound_id}
    assert "1 replayed." in palomar(environment, "replay", "--endpoint", str(elsewhere.endpoint_id)).stdout
    assert [one.inbound_id for one in await replayed(settings)] == [elsewhere.inbound_id]


@pytest.mark.parametrize(
    ("arguments", "complaint", "remedy"),
    [
        ((), "Say which webhooks", "--since 2h"),
        (("0123456789", "--failed"), "Say which webhooks", "Give their ids, or a span"),
        (("hola",), "'hola' is no id of a webhook.", "the first 8 are enough"),
        (("--since", "yesterday"), "--since: 'yesterday' is no moment.", "2026-03-14T09:30"),
        (("--since", "1h", "--until", "2h"), "--since is not before --until.", "leave --until out"),
    ],
)
def test_a_wrong_call_says_what_to_do(tmp_path: Path, arguments: tuple[str, ...], complaint: str, remedy: str) -> None:
    nowhere = {
        "PALOMAR_STATE_DIR": str(tmp_path),
        "AMQP_URL": "amqp://guest:guest@127.0.0.1:1/",
        "DATABASE_URL": "postgresql://palomar@127.0.0.1:1/palomar",
    }
    result = palomar(nowhere, "replay", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert complaint in result.stderr
    assert remedy in result.stderr


async def test_ids_with_the_same_beginning_are_distinguished(settings: Settings) -> None:
    by_beginning: dict[str, WebhookReceived] = {}
    number = 0
    while (twin := by_beginning.get(webhook(number).inbound_id[:2])) is None:
        by_beginning[webhook(number).inbound_id[:2]] = webhook(number)
        number += 1
    async with database.make_pool(settings, process="test") as pool:
        await keep(settings, Logged(twin, "parsed"), Logged(webhook(number), "parsed"))
        beginning = twin.inbound_id[:2]
        assert await webhook_log.ids_beginning(pool, beginning, 3) == sorted(
            [twin.inbound_id, webhook(number).inbound_id]
        )


NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90m", datetime(2026, 3, 14, 10, 30, tzinfo=UTC)),
        ("2h", datetime(2026, 3, 14, 10, tzinfo=UTC)),
        ("3d", datetime(2026, 3, 11, 12, tzinfo=UTC)),
        ("2026-03-14T09:30Z", datetime(2026, 3, 14, 9, 30, tzinfo=UTC)),
        ("2026-03-14T09:30+02:00", datetime(2026, 3, 14, 7, 30, tzinfo=UTC)),
        ("2026-03-14", datetime(2026, 3, 14).astimezone()),
    ],
)
def test_moments(text: str, meant: datetime) -> None:
    assert moment("--since", text, NOW) == meant


@pytest.mark.parametrize("text", ["", "h", "2", "1e3h", "2 h", "tomorrow", "2026-13-01", "999999d"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(Problem, match="is no moment"):
        moment("--since", text, NOW)


def test_without_a_database_it_says_how_to_start(environment: dict[str, str]) -> None:
    away = {**environment, "DATABASE_URL": "postgresql://palomar@127.0.0.1:1/palomar"}
    result = palomar(away, "replay", "--failed")
    assert (result.returncode, result.stdout) == (1, "")
    assert "PostgreSQL does not answer." in result.stderr
    assert "Start it with ./palomar up, or set DATABASE_URL." in result.stderr
