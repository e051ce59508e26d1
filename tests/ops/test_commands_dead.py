"""`palomar dead`: an operator lists dead letters with their reasons, and replays or discards them."""

import asyncio
import json
import os
import sys

import aio_pika
import pytest
from yarl import URL

from ops.local.stack import Stack
from shared.queue import topology
from shared.queue.delivery import ATTEMPT, REASON
from shared.settings import Settings
from tests.support.commands import ROOT, broker_channel, dead_letter, depth, depth_reaches, palomar, taken, webhook
from tests.support.vhosts import Vhosts

DEAD = topology.PERSIST.dead_letters
PERSIST = topology.PERSIST.name


async def test_the_list_tells_how_much_since_when_and_mostly_why(
    environment: dict[str, str], settings: Settings
) -> None:
    await dead_letter(settings, [webhook(1), webhook(2)], "no such thing")
    await dead_letter(settings, [webhook(3)], "something else")
    result = palomar(environment, "dead", "list")
    assert result.returncode == 0, result.stderr
    rows = {line.split("│")[1].strip(): line for line in result.stdout.splitlines() if "│" in line}
    assert set(rows) == {queue.dead_letters for queue in topology.QUEUES}
    assert "no such thing (2 of the first 3)" in rows[DEAD]
    assert " s ago" in rows[DEAD]
    assert await depth(settings, DEAD) == 3  # looking takes nothing away


async def test_an_item_is_shown_without_its_body_unless_asked_for(
    environment: dict[str, str], settings: Settings
) -> None:
    dead = webhook(1)
    await dead_letter(settings, [dead], "no such \x1b[31mthing")
    result = palomar(environment, "dead", "show", "persist")
    assert result.returncode == 0, result.stderr
    assert dead.inbound_id in result.stdout
    assert dead.trace in result.stdout
    assert r"no such \x1b[31mthing" in result.stdout  # no text from outside steers the terminal
    assert "hola" not in result.stdout
    assert "--body" in result.stdout
    assert "hola 1" in palomar(environment, "dead", "show", DEAD, "--body").stdout
    assert "raise DeadLetter(reason)" in palomar(environment, "dead", "show", DEAD, "--traceback").stdout


async def test_items_go_back_to_work_as_if_they_were_new(environment: dict[str, str], settings: Settings) -> None:
    webhooks = [webhook(number) for number in range(30)]
    await dead_letter(settings, webhooks, "not yet")
    result = palomar(environment, "dead", "replay", "persist", "--all")
    assert result.returncode == 0, result.stderr
    assert "30 put back into persist" in result.stdout
    assert await depth(settings, DEAD) == 0
    back = await taken(settings, PERSIST)
    assert [message.message_id for message in back] == [one.inbound_id for one in webhooks]
    assert not [name for message in back for name in message.headers if name in (ATTEMPT, REASON)]
    assert json.loads(back[0].body)["items"][0]["inbound_id"] == webhooks[0].inbound_id


async def test_only_the_items_named_go_back(environment: dict[str, str], settings: Settings) -> None:
    webhooks = [webhook(number) for number in range(4)]
    await dead_letter(settings, webhooks, "not yet")
    named = (webhooks[1].inbound_id, webhooks[3].inbound_id[:12])
    result = palomar(environment, "dead", "replay", DEAD, "--id", named[0], "--id", named[1])
    assert result.returncode == 0, result.stderr
    assert [message.message_id for message in await taken(settings, PERSIST)] == [
        webhooks[1].inbound_id,
        webhooks[3].inbound_id,
    ]
    assert [message.message_id for message in await taken(settings, DEAD)] == [
        webhooks[0].inbound_id,
        webhooks[2].inbound_id,
    ]


async def test_discarding_asks_first(environment: dict[str, str], settings: Settings) -> None:
    await dead_letter(settings, [webhook(1), webhook(2)], "nonsense")
    refused = palomar(environment, "dead", "discard", "persist", "--all", given="n\n")
    assert refused.returncode == 1
    assert await depth(settings, DEAD) == 2
    assert "1 discarded" in palomar(environment, "dead", "discard", "persist", "--id", webhook(1).key, "--yes").stdout
    assert "1 discarded" in palomar(environment, "dead", "discard", "persist", "--all", given="y\n").stdout
    assert await depth(settings, DEAD) == 0
    assert await depth(settings, PERSIST) == 0


async def test_what_the_broker_itself_dead_lettered_is_shown_and_put_back_too(
    environment: dict[str, str], settings: Settings
) -> None:
    async with broker_channel(settings) as channel:
        work = await channel.get_exchange(topology.WORK, ensure=False)
        await work.publish(aio_pika.Message(b"boom", message_id="killer", type="webhook.received"), PERSIST)
        queue = await channel.get_queue(PERSIST, ensure=False)
        for _ in range(topology.DELIVERY_LIMIT + 1):  # as if each delivery had killed its consumer
            message = await queue.get(timeout=10)
            assert message is not None
            await message.nack(requeue=True)
    await depth_reaches(settings, DEAD, 1)
    result = palomar(environment, "dead", "show", "persist").stdout
    assert "dead-lettered by the broker: taken and not finished more than 200 times" in result
    assert "not counted" in result
    assert " s ago" in result
    replayed = palomar(environment, "dead", "replay", "persist", "--id", "killer")
    assert replayed.returncode == 0, replayed.stderr
    (back,) = await taken(settings, PERSIST)
    assert (back.body, back.message_id) == (b"boom", "killer")
    assert "x-death" not in back.headers


async def test_a_replay_that_is_killed_loses_nothing(environment: dict[str, str], settings: Settings) -> None:
    webhooks = [webhook(number) for number in range(200)]
    async with broker_channel(settings) as channel:
        dead = await channel.get_exchange(topology.DEAD_LETTERS, ensure=False)
        for one in webhooks:
            await dead.publish(aio_pika.Message(b"{}", message_id=one.key, delivery_mode=2), PERSIST)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops", "dead", "replay", "persist", "--all"),
        cwd=environment["PALOMAR_STATE_DIR"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await depth_reaches(settings, PERSIST, 20)
    finally:
        process.kill()
        await process.wait()
    async with asyncio.timeout(20):  # the broker notices, and gives back what was held
        left = await taken(settings, DEAD)
        moved = await taken(settings, PERSIST)
        while len(left) + len(moved) < len(webhooks):
            await asyncio.sleep(0.1)
            left += await taken(settings, DEAD)
    assert left
    assert moved
    assert {message.message_id for message in [*left, *moved]} == {one.key for one in webhooks}


@pytest.mark.parametrize(
    ("arguments", "complaint", "remedy"),
    [
        (("show", "persits"), "There is no queue 'persits'.", "persist, persist.receipts, persist.large, reply"),
        (("replay", "persist"), "Say which ones.", "--all"),
        (("replay", "persist", "--all", "--id", "x"), "Say which ones.", "--all"),
        (
            ("replay", "persist", "--id", "0123456789"),
            "persist.dead holds no id '0123456789'.",
            "dead show persist",
        ),
    ],
)
async def test_a_wrong_call_says_what_to_do(
    environment: dict[str, str], settings: Settings, arguments: tuple[str, ...], complaint: str, remedy: str
) -> None:
    assert await depth(settings, DEAD) == 0  # and makes the queues
    result = palomar(environment, "dead", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert complaint in result.stderr
    assert remedy in result.stderr


def test_without_a_broker_or_its_queues_it_says_how_to_start(
    environment: dict[str, str], stack: Stack, vhosts: Vhosts
) -> None:
    without_queues = {**environment, "AMQP_URL": stack.rabbitmq.vhost_url(vhosts.new())}
    fresh = palomar(without_queues, "dead", "list")
    assert (fresh.returncode, fresh.stdout) == (1, "")
    assert "./palomar up" in fresh.stderr
    away = {**environment, "AMQP_URL": "amqp://guest:guest@127.0.0.1:1/"}
    for arguments in (("list",), ("replay", "persist", "--all")):
        result = palomar(away, "dead", *arguments)
        assert (result.returncode, result.stdout) == (1, "")
        assert "RabbitMQ does not answer." in result.stderr
        assert "Start it with ./palomar up, or set AMQP_URL." in result.stderr
        assert "Traceback" not in result.stderr


def test_a_wrong_password_is_said_to_be_one(environment: dict[str, str]) -> None:
    wrong = {**environment, "AMQP_URL": str(URL(environment["AMQP_URL"]).with_password("not-the-word"))}
    for command in (("dead", "list"), ("status",)):
        done = palomar(wrong, *command)
        assert "RabbitMQ refuses the user or the password in AMQP_URL." in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
