"""Every queue and exchange there is, how a retry finds back, and that a broker takes the declarations."""

import asyncio
from functools import partial

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from shared.queue import topology
from shared.resilience.backoff import retry_step
from shared.settings import Settings

DELAYS = (1.0, 5.0, 30.0, 120.0, 600.0)


def test_each_queue_is_named_for_its_worker_and_lane() -> None:
    assert [queue.name for queue in topology.QUEUES] == [
        "persist",
        "persist.receipts",
        "persist.large",
        "reply",
        "reply.llm",
        "window",
        "send.email",
        "send.email.bulk",
        "send.kommo",
        "send.kommo.bulk",
        "send.meta",
        "send.meta.bulk",
        "send.twilio",
        "send.twilio.bulk",
        "media",
        "campaign",
        "webhook",
    ]


def test_each_work_queue_has_a_dead_queue_and_each_delay_a_waiting_one() -> None:
    work = {queue.name for queue in topology.QUEUES}
    waiting = {"retry.1s", "retry.5s", "retry.30s", "retry.2m", "retry.10m"}
    assert set(topology.arguments(DELAYS)) == work | {f"{name}.dead" for name in work} | waiting


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (0.1, "retry.0.1s"),
        (1, "retry.1s"),
        (59, "retry.59s"),
        (60, "retry.1m"),
        (90, "retry.90s"),
        (600, "retry.10m"),
        (3600, "retry.60m"),
    ],
)
def test_a_step_is_named_for_its_delay(seconds: float, name: str) -> None:
    assert topology.RetryStep(seconds).name == name


def test_a_work_queue_survives_restarts_and_loses_nothing_to_its_limit() -> None:
    for queue in topology.QUEUES:
        arguments = topology.arguments(DELAYS)[queue.name]
        assert arguments == {
            "x-queue-type": "quorum",
            "x-delivery-limit": 200,  # clean restarts count too
            "x-dead-letter-exchange": "dead",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }


def test_what_waits_goes_back_by_the_key_it_came_with() -> None:
    for step, milliseconds in zip(topology.retry_schedule(DELAYS), (1000, 5000, 30_000, 120_000, 600_000), strict=True):
        arguments = topology.arguments(DELAYS)[step.name]
        assert (arguments["x-message-ttl"], arguments["x-dead-letter-exchange"]) == (milliseconds, "work")
        assert "x-dead-letter-routing-key" not in arguments
        assert "x-delivery-limit" not in arguments  # it has no consumer


def test_no_queue_has_what_a_quorum_queue_refuses() -> None:
    for arguments in topology.arguments(DELAYS).values():
        assert arguments["x-queue-type"] == "quorum"
        assert not {"x-max-priority", "x-queue-mode", "x-expires"} & set(arguments)


@pytest.mark.parametrize(
    ("attempt", "after", "step"),
    [
        (1, 0, 0),
        (2, 0, 1),
        (5, 0, 4),
        (6, 0, None),
        (99, 0, None),
        (1, 1, 0),
        (1, 1.1, 1),
        (1, 30, 2),
        (1, 600, 4),
        (1, 9999, 4),  # the longest there is
        (3, 1, 2),  # never a step back
        (5, 9999, 4),
        (6, 1, None),  # asking for a wait wins no further attempt
    ],
)
def test_each_failure_climbs_one_step_or_as_far_as_was_asked(attempt: int, after: float, step: int | None) -> None:
    assert retry_step(attempt, after, DELAYS) == step


def test_without_a_retry_schedule_the_first_failure_is_the_last() -> None:
    assert retry_step(1, 0, ()) is None


async def test_a_broker_takes_the_declarations_again_and_again(settings: Settings) -> None:
    async with await aio_pika.connect(settings.amqp_url.get_secret_value()) as connection:
        for _ in range(2):
            assert await topology.declare_missing(connection, DELAYS) == []


async def test_a_queue_that_exists_with_other_arguments_is_used_as_it_is(settings: Settings) -> None:
    async with await aio_pika.connect(settings.amqp_url.get_secret_value()) as connection:
        channel = await connection.channel()
        await channel.queue_delete("reply")  # the virtual host may have it from another test
        await channel.declare_queue("reply", durable=True, arguments={"x-queue-type": "quorum"})
        assert await topology.declare_missing(connection, DELAYS) == ["reply"]
        work = await channel.get_exchange("work", ensure=False)
        await work.publish(aio_pika.Message(b"still bound"), "reply")
        await work.publish(aio_pika.Message(b"the others too"), "window")
        for name, body in (("reply", b"still bound"), ("window", b"the others too")):
            message = await (await channel.get_queue(name, ensure=False)).get(timeout=5)
            assert message.body == body


async def test_what_failed_comes_back_to_its_own_queue_alone(settings: Settings) -> None:
    async with await aio_pika.connect(settings.amqp_url.get_secret_value()) as connection:
        channel = await connection.channel()
        await topology.declare_missing(connection, (0.1,))
        step = await channel.get_exchange("retry.0.1s", ensure=False)
        for queue in topology.QUEUES:
            await step.publish(aio_pika.Message(queue.name.encode()), queue.name)
        for queue in topology.QUEUES:
            came: asyncio.Queue[bytes] = asyncio.Queue()
            work = await channel.get_queue(queue.name, ensure=False)
            await work.consume(partial(_keep, came))
            assert await asyncio.wait_for(came.get(), 10) == queue.name.encode()
            assert came.empty()


async def _keep(came: asyncio.Queue[bytes], message: AbstractIncomingMessage) -> None:
    await came.put(message.body)
