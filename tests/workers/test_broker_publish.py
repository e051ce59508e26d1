"""The confirmed publish: what travels together, what is never sent, and which error a publisher gets."""

import asyncio
import time
from unittest.mock import ANY

import aio_pika
import pytest

from ops.local.stack import Stack
from shared.queue import connection, publisher, topology
from shared.queue.connection import BrokerAway, PublishFailed, PublishUnknown, PublishUnroutable
from shared.queue.publisher import Publisher
from shared.settings import Settings
from tests.support.broker_faults import out_of_memory, paused
from tests.support.runner_stage import QUEUE, Bench, SampleJob, bench, jobs_of, names, sample_jobs

NOBODYS = {"tenant_id": None, "channel_id": None}


async def test_what_is_ready_together_shares_envelopes(settings: Settings) -> None:
    async with bench(settings) as stage:
        jobs = sample_jobs(500)
        await asyncio.gather(*(stage.publish(job) for job in jobs))
        envelopes = await stage.take(QUEUE.name)
    sizes = [len(jobs_of(message)) for message in envelopes]
    assert sum(sizes) == 500
    assert max(sizes) == SampleJob.batch
    assert len(sizes) <= 10
    assert {job["name"] for message in envelopes for job in jobs_of(message)} == names(jobs)


async def test_large_jobs_share_no_envelope_beyond_its_bound(settings: Settings) -> None:
    async with bench(settings) as stage:
        jobs = [SampleJob(name=f"{number}", act="x" * 100_000) for number in range(10)]
        jobs.append(SampleJob(name="huge", act="x" * 1_000_000))
        await stage.publish(*jobs)
        envelopes = await stage.take(QUEUE.name)
    assert sorted(len(jobs_of(message)) for message in envelopes) == [1, 2, 2, 2, 2, 2]
    assert all(len(message.body) < publisher.ENVELOPE_BYTES for message in envelopes if len(jobs_of(message)) > 1)


@pytest.mark.alone
async def test_a_job_alone_leaves_at_once_under_its_own_key(settings: Settings) -> None:
    async with bench(settings) as stage:
        started = time.monotonic()
        for job in sample_jobs(20):
            await stage.publish(job)
        took = time.monotonic() - started
        envelopes = await stage.take(QUEUE.name)
    assert [message.message_id for message in envelopes] == [job.key for job in sample_jobs(20)]
    assert took < 2  # 1–2 ms each; a wait for company of 100 ms would show
    (first, *_) = envelopes
    assert (first.type, first.app_id, first.delivery_mode) == ("test.job", "palomar", aio_pika.DeliveryMode.PERSISTENT)
    assert jobs_of(first) == [{"trace": "", "name": "job-0", "act": "do"} | NOBODYS]


async def test_the_same_jobs_travel_under_the_same_id(settings: Settings) -> None:
    async with bench(settings) as stage:
        await stage.publish(*sample_jobs(3))
        await stage.publish(*sample_jobs(3))
        await stage.publish(*sample_jobs(4))
        one, again, other = await stage.take(QUEUE.name)
    assert one.message_id == again.message_id != other.message_id


async def _withdrawn(stage: Bench, stack: Stack, withdraw: str) -> list[str]:
    """Publish while the broker stands still, give up on what has not left yet; the names that arrived."""
    with paused(stack):
        leaving = [asyncio.create_task(stage.publish(job)) for job in sample_jobs(publisher.IN_FLIGHT)]
        await asyncio.sleep(0.1)
        late = asyncio.create_task(
            stage.publisher.publish(SampleJob(name="late"), timeout=0.2 if withdraw == "time" else 9)
        )
        if withdraw == "cancel":
            await asyncio.sleep(0.1)
            late.cancel()
        (ended,) = await asyncio.gather(late, return_exceptions=True)
        assert isinstance(ended, PublishUnknown if withdraw == "time" else asyncio.CancelledError)
    await asyncio.gather(*leaving)
    await stage.publish(SampleJob(name="after"))
    return [job["name"] for message in await stage.take(QUEUE.name) for job in jobs_of(message)]


@pytest.mark.parametrize("withdraw", ["time", "cancel"])
async def test_what_was_given_up_before_its_turn_is_never_sent(stack: Stack, settings: Settings, withdraw: str) -> None:
    async with bench(settings) as stage:
        assert sorted(await _withdrawn(stage, stack, withdraw)) == ["after", "job-0", "job-1"]


async def test_a_message_nobody_would_get_is_refused(settings: Settings) -> None:
    async with bench(settings) as stage:
        async with await aio_pika.connect(settings.amqp_url.get_secret_value()) as connection:
            await (await connection.channel()).queue_delete(QUEUE.name)
        # The same job three times at once: aiormq tells returned messages apart by their id only.
        outcomes = await asyncio.gather(*(stage.publish(SampleJob(name="x")) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [PublishUnroutable] * 3


async def test_an_event_nobody_listens_to_is_published(settings: Settings) -> None:
    async with bench(settings) as stage:
        await stage.publisher.publish_body(
            topology.EVENTS, "message.received", b"{}", message_id="1", type_="event", mandatory=False
        )


async def test_what_can_not_be_written_fails_alone(settings: Settings) -> None:
    async with bench(settings) as stage:
        with pytest.raises(PublishFailed):
            await stage.publish(SampleJob(name="x" * 300))  # its key is no short string of AMQP any more
        with pytest.raises(ValueError, match="surrogate"):
            await stage.publish(SampleJob(name="fine"), SampleJob.model_construct(name="\ud800"))
        await stage.publish(SampleJob(name="after"))
        (message,) = await stage.take(QUEUE.name)
    assert jobs_of(message) == [{"trace": "", "name": "after", "act": "do"} | NOBODYS]


async def test_without_a_connection_a_publish_raises_at_once() -> None:
    publisher = Publisher("amqp://guest:guest@127.0.0.1:1/", "test", timeout=5)
    await publisher.start()
    try:
        assert not publisher.ready
        with pytest.raises(BrokerAway, match="is it running"):
            await asyncio.wait_for(publisher.publish(SampleJob(name="x")), 1)
    finally:
        await asyncio.wait_for(publisher.close(), 5)


async def test_a_broker_that_stands_still_leaves_a_publish_unknown_in_time(stack: Stack, settings: Settings) -> None:
    async with bench(settings, publish_timeout=0.5) as stage:
        with paused(stack):
            started = time.monotonic()
            with pytest.raises(PublishUnknown):
                await stage.publish(SampleJob(name="x"))
            assert time.monotonic() - started < 5
        await stage.until_depth(QUEUE.name, 1)  # unknown is not "not sent"
        await stage.publish(SampleJob(name="after"))


async def test_a_link_found_dead_leaves_a_publish_unknown_and_is_made_again(
    stack: Stack, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEARTBEAT", 1)
    async with bench(settings, publish_timeout=60.0) as stage:
        with paused(stack):
            asked = asyncio.create_task(stage.publish(*sample_jobs(3)))
            done, _ = await asyncio.wait({asked}, timeout=20)
            assert done
            assert isinstance(asked.exception(), PublishUnknown)  # and no CancelledError
            with pytest.raises(BrokerAway):
                await stage.publish(SampleJob(name="x"))
        await asyncio.wait_for(stage.publisher.wait_ready(), 20)
        await stage.publish(SampleJob(name="after"))


async def test_a_channel_that_the_broker_closes_is_made_again(settings: Settings) -> None:
    async with bench(settings) as stage:
        async with await aio_pika.connect(settings.amqp_url.get_secret_value()) as connection:
            await (await connection.channel()).exchange_delete(topology.WORK)
        with pytest.raises(PublishFailed):
            await stage.publish(SampleJob(name="lost"))

        async with asyncio.timeout(20):
            while True:  # the link comes back with everything declared
                try:
                    await stage.publish(SampleJob(name="after"))
                    break
                except PublishFailed:
                    await asyncio.sleep(0.1)
        (message,) = await stage.take(QUEUE.name)
    assert jobs_of(message) == [ANY]


async def test_closing_sends_what_stands_in_line(settings: Settings) -> None:
    async with bench(settings) as stage:
        publisher = Publisher(settings.amqp_url.get_secret_value(), "closing", timeout=5, delays=(0.1, 0.2, 0.3))
        await publisher.start()
        await publisher.wait_ready()
        asked = [asyncio.create_task(publisher.publish(job)) for job in sample_jobs(1000)]
        await asyncio.sleep(0)
        await publisher.close()
        await asyncio.gather(*asked)
        assert sum(len(jobs_of(message)) for message in await stage.take(QUEUE.name)) == 1000


async def test_under_a_memory_alarm_publishes_wait_and_acks_do_not(stack: Stack, settings: Settings) -> None:
    async with bench(settings, publish_timeout=1.0) as stage:
        await stage.publish(*sample_jobs(5))
        with out_of_memory(stack):
            with pytest.raises(PublishUnknown):
                await stage.publish(SampleJob(name="blocked"))
            async with stage.working():
                await stage.until_done(names(sample_jobs(5)))
        # The worker has gone and would have given back what was not acked; what was unknown arrived late.
        await stage.until_depth(QUEUE.name, 1)
        (left,) = await stage.take(QUEUE.name)
        assert [job["name"] for job in jobs_of(left)] == ["blocked"]
