"""A job that fails: it alone goes through the retry schedule, and is dead-lettered with the reason after it."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest

from shared.queue import delivery
from shared.queue.delivery import ATTEMPT, DEAD_LETTERED_AT, REASON, TRACEBACK
from shared.queue.outcomes import DeadLetter, Retry
from shared.queue.worker import Context
from shared.settings import Settings
from tests.support.runner_stage import QUEUE, Bench, SampleJob, bench, header, jobs_of, names, sample_jobs, until


class Broken(Exception):
    """An error of a handler."""


async def test_a_failing_job_is_tried_on_each_step_and_then_dead_lettered_with_its_reason(settings: Settings) -> None:
    async with bench(settings) as stage:
        tried: list[float] = []

        async def fail(job: SampleJob) -> None:
            tried.append(time.monotonic())
            raise Broken("no such thing: \ud800")  # half a surrogate pair can't be written to a header as it is

        async with stage.working(stage.worker(fail)):
            await stage.publish(SampleJob(name="bad", trace="t-1"))
            await stage.until_depth(QUEUE.dead_letters, 1)
        (dead_letter,) = await stage.dead_letters()
    assert len(tried) == 4
    assert all(gap >= wait for gap, wait in zip(_gaps(tried), (0.1, 0.2, 0.3), strict=True))
    assert (header(dead_letter, ATTEMPT), header(dead_letter, REASON)) == (4, "Broken: no such thing: ?")
    assert "raise Broken" in header(dead_letter, TRACEBACK)
    assert header(dead_letter, delivery.QUEUE) == "reply"
    assert abs(header(dead_letter, DEAD_LETTERED_AT) - time.time()) < 60
    assert (dead_letter.message_id, dead_letter.type) == ("job:bad", "test.job")
    assert jobs_of(dead_letter) == [{"trace": "t-1", "name": "bad", "act": "do", "tenant_id": None, "channel_id": None}]
    assert {name for name in dead_letter.headers if name.startswith("x-")} <= {"x-delivery-count"}  # no x-death


def _gaps(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


async def test_the_jobs_row_is_postponed_with_it_and_parked_when_it_is_dead_lettered(settings: Settings) -> None:
    async with bench(settings, handoff_lease=20.0) as stage:
        postponed: list[tuple[str, timedelta | None]] = []

        async def fail(job: SampleJob) -> None:
            if job.act == "fail":
                raise Broken

        worker = stage.worker(fail)

        @worker.postpone
        async def postpone(job: SampleJob, ctx: Context[None], wait: timedelta | None) -> None:
            postponed.append((job.name, wait))

        async with stage.working(worker):
            await stage.publish(SampleJob(name="bad", act="fail"), SampleJob(name="good"))
            await stage.until_depth(QUEUE.dead_letters, 1)
        # Each step's delay and a lease for the way back.
        waits = [timedelta(seconds=20.1), timedelta(seconds=20.2), timedelta(seconds=20.3), None]
        assert postponed == [("bad", wait) for wait in waits]


async def test_a_job_whose_row_can_not_be_postponed_is_retried_all_the_same(settings: Settings) -> None:
    async with bench(settings) as stage:

        async def fail(job: SampleJob) -> None:
            await stage.do(job)
            raise Broken

        worker = stage.worker(fail)

        @worker.postpone
        async def postpone(job: SampleJob, ctx: Context[None], wait: timedelta | None) -> None:
            raise Broken

        async with stage.working(worker):
            await stage.publish(SampleJob(name="bad"))
            await stage.until_depth(QUEUE.dead_letters, 1)
        (dead_letter,) = await stage.dead_letters()
        assert (stage.runs["bad"], header(dead_letter, ATTEMPT), header(dead_letter, REASON)) == (4, 4, "Broken: ")


async def test_while_the_database_is_away_a_failed_job_waits_until_its_row_can_be_postponed(settings: Settings) -> None:
    async with bench(settings) as stage:
        asked = 0

        async def hopeless(job: SampleJob) -> None:
            raise DeadLetter("no such tenant")

        worker = stage.worker(hopeless)

        @worker.postpone
        async def postpone(job: SampleJob, ctx: Context[None], wait: timedelta | None) -> None:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise ConnectionRefusedError
            assert await stage.depth(QUEUE.dead_letters) == 0  # killed now, we would get it again

        async with stage.working(worker):
            await stage.publish(SampleJob(name="bad"))
            await stage.until_depth(QUEUE.dead_letters, 1)
        assert asked == 3


async def test_what_succeeds_on_a_later_step_is_done(settings: Settings) -> None:
    async with bench(settings) as stage:

        async def third_time(job: SampleJob) -> None:
            await stage.do(job)
            if stage.runs[job.name] < 3:
                raise Broken

        async with stage.working(stage.worker(third_time)):
            await stage.publish(*sample_jobs(5))
            await _until_runs(stage.runs, 15)
        assert set(stage.runs.values()) == {3}
        assert await stage.depth(QUEUE.dead_letters) == 0
        assert await stage.depth(QUEUE.name) == 0


async def _until_runs(runs: dict[str, int], total: int) -> None:
    async def ran() -> bool:
        return sum(runs.values()) >= total

    await until(ran, f"{total} runs")
    await asyncio.sleep(0.5)  # longer than any step: nothing more may come


async def test_retry_picks_the_step_that_waits_long_enough(settings: Settings) -> None:
    async with bench(settings) as stage:
        tried: list[float] = []

        async def later(job: SampleJob) -> None:
            tried.append(time.monotonic())
            raise Retry("busy", after=0.25)

        async with stage.working(stage.worker(later)):
            await stage.publish(SampleJob(name="bad"))
            await stage.until_depth(QUEUE.dead_letters, 1)
        (dead_letter,) = await stage.dead_letters()
    assert all(gap >= 0.3 for gap in _gaps(tried))
    assert len(tried) == 4  # asking for a wait wins no attempt
    assert header(dead_letter, REASON) == "busy"


async def test_dead_goes_at_once_and_its_neighbours_are_done_once(settings: Settings) -> None:
    async with bench(settings) as stage:

        async def hopeless(job: SampleJob) -> None:
            if job.act == "die":
                raise DeadLetter("no such tenant")
            await stage.do(job)

        async with stage.working(stage.worker(hopeless)):
            await stage.put_envelope(
                *sample_jobs(10), SampleJob(name="bad", act="die"), *sample_jobs(10, prefix="more")
            )
            await stage.until_depth(QUEUE.dead_letters, 1)
            await stage.until_done(names(sample_jobs(10)) | names(sample_jobs(10, prefix="more")))
        (dead_letter,) = await stage.dead_letters()
        assert await stage.depth(QUEUE.name) == 0
    assert set(stage.runs.values()) == {1}
    assert (header(dead_letter, ATTEMPT), header(dead_letter, REASON)) == (1, "no such tenant")
    assert [job["name"] for job in jobs_of(dead_letter)] == ["bad"]


async def test_a_failing_job_leaves_its_neighbours_alone(settings: Settings) -> None:
    async with bench(settings) as stage:

        async def one_fails(job: SampleJob) -> None:
            await stage.do(job)
            if job.name == "job-3":
                raise Broken

        async with stage.working(stage.worker(one_fails)):
            await stage.put_envelope(*sample_jobs(10))
            await stage.until_depth(QUEUE.dead_letters, 1)
        assert await stage.depth(QUEUE.name) == 0
    assert stage.runs == {name: 4 if name == "job-3" else 1 for name in names(sample_jobs(10))}


async def test_a_dead_letter_put_back_by_hand_runs_as_if_it_were_new(settings: Settings) -> None:
    async with bench(settings) as stage:
        mended = False

        async def broken_for_now(job: SampleJob) -> None:
            await stage.do(job)
            if not mended:
                raise Broken

        async with stage.working(stage.worker(broken_for_now)):
            await stage.publish(SampleJob(name="x"))
            await stage.until_depth(QUEUE.dead_letters, 1)
            (dead_letter,) = await stage.dead_letters()
            stage.runs.clear()
            await stage.put(dead_letter.body)
            await stage.until_depth(QUEUE.dead_letters, 1)
            assert stage.runs["x"] == 4  # the whole retry schedule again
            (dead_letter,) = await stage.dead_letters()
            mended = True
            await stage.put(dead_letter.body)
            await _until_runs(stage.runs, 5)
        assert await stage.depth(QUEUE.dead_letters) == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"hola", "not JSON"),
        (b'{"items": []}', "this queue takes 'test.job'"),
        (b'{"type": "test.job", "items": {}}', "no envelope"),
        (b'{"type": "test.job", "items": [' + b"[" * 500 + b"]" * 500 + b"]}", "can't be taken out"),
    ],
)
async def test_an_unreadable_envelope_is_dead_lettered_as_it_came(settings: Settings, body: bytes, reason: str) -> None:
    async with bench(settings) as stage, stage.working():
        await stage.put(body)
        await stage.until_depth(QUEUE.dead_letters, 1)
        (dead_letter,) = await stage.dead_letters()
        assert (dead_letter.body, dead_letter.message_id) == (body, "put")
        assert reason in header(dead_letter, REASON)
        await stage.publish(SampleJob(name="after"))
        await stage.until_done({"after"})


async def test_an_unreadable_job_is_dead_lettered_alone(settings: Settings) -> None:
    async with bench(settings) as stage, stage.working():
        await stage.put(b'{"type":"test.job","items":[{"name":"a"},{"nome":"b"},7,{"name":"c","new":1}]}')
        await stage.until_done({"a", "c"})
        await stage.until_depth(QUEUE.dead_letters, 2)
        dead_letters = await stage.dead_letters()
        assert {message.body for message in dead_letters} == {
            b'{"type":"test.job","items":[{"nome":"b"}]}',
            b'{"type":"test.job","items":[7]}',
        }
        assert any("name: Field required" in header(message, REASON) for message in dead_letters)
        assert set(stage.runs.values()) == {1}
        await stage.until_depth(QUEUE.name, 0)


async def test_an_empty_envelope_is_done(settings: Settings) -> None:
    async with bench(settings) as stage:
        async with stage.working():
            await stage.put(b'{"type":"test.job","items":[]}')
            await stage.publish(SampleJob(name="after"))
            await stage.until_done({"after"})
        assert (await stage.depth(QUEUE.name), await stage.depth(QUEUE.dead_letters)) == (0, 0)


async def test_an_error_that_looks_like_a_cancellation_is_only_the_jobs(settings: Settings) -> None:
    async with bench(settings) as stage:

        async def stray(job: SampleJob) -> None:
            if job.act == "stray":
                raise asyncio.CancelledError
            await stage.do(job)

        async with stage.working(stage.worker(stray, concurrency=2)):
            await stage.publish(SampleJob(name="bad", act="stray"), *sample_jobs(20))
            await stage.until_done(names(sample_jobs(20)))
            await stage.until_depth(QUEUE.dead_letters, 1)


async def test_a_jobs_error_is_logged_by_its_kind_and_never_by_its_text(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with bench(settings) as stage:

        async def fail(job: SampleJob) -> None:
            await stage.pool.execute("INSERT INTO effects (name, count) VALUES ('call me on +34600111222', $1)", "x")

        async def twice(job: SampleJob) -> None:
            for _ in range(2):
                await stage.pool.execute("INSERT INTO effects (name) VALUES ('call me on +34600111222')")

        for act in (fail, twice):
            async with stage.working(stage.worker(act)):
                await stage.publish(SampleJob(name="x"))
                await stage.until_depth(QUEUE.dead_letters, 1)
                (dead_letter,) = await stage.dead_letters()
    logged = "".join(capsys.readouterr())
    assert "UniqueViolationError 23505 effects_pkey" in logged
    assert "job dead-lettered" in logged
    assert "600111222" not in logged
    assert "600111222" in header(dead_letter, REASON)  # a reader of the queue may read why


async def test_a_poison_job_of_a_batch_is_found_and_the_others_are_committed_once(settings: Settings) -> None:
    async with bench(settings) as stage:
        sizes: list[int] = []

        async def together(jobs: Sequence[SampleJob]) -> None:
            sizes.append(len(jobs))
            async with stage.context.transaction() as tx:
                for job in jobs:
                    await tx.execute(
                        "INSERT INTO effects AS e (name) VALUES ($1) "
                        "ON CONFLICT (name) DO UPDATE SET count = e.count + 1",
                        job.name,
                    )
                    if job.act == "poison":
                        raise Broken(job.name)

        poison = [SampleJob(name="bad-0", act="poison"), SampleJob(name="bad-1", act="poison")]
        jobs = [
            *sample_jobs(33),
            poison[0],
            *sample_jobs(33, prefix="more"),
            poison[1],
            *sample_jobs(33, prefix="last"),
        ]
        async with stage.working(stage.batch_worker(together, batch=50)):
            await stage.publish(*jobs)
            await stage.until_depth(QUEUE.dead_letters, 2)
            await stage.until_done(names(jobs) - names(poison))
        rows = await stage.pool.fetch("SELECT name, count FROM effects")
        dead_letters = await stage.dead_letters()
    assert {row["name"]: row["count"] for row in rows} == dict.fromkeys(names(jobs) - names(poison), 1)
    assert {job["name"] for message in dead_letters for job in jobs_of(message)} == names(poison)
    assert max(sizes) > 10


async def test_a_batch_holds_the_jobs_of_several_deliveries(settings: Settings) -> None:
    async with bench(settings) as stage:
        sizes: list[int] = []

        async def together(jobs: Sequence[SampleJob]) -> None:
            sizes.append(len(jobs))
            await asyncio.sleep(0.05)
            for job in jobs:
                await stage.do(job)

        for job in sample_jobs(100):
            await stage.publish(job)
        async with stage.working(stage.batch_worker(together, batch=20)):
            await stage.until_done(names(sample_jobs(100)))
        assert await stage.depth(QUEUE.name) == 0
    assert max(sizes) == 20
    assert set(stage.runs.values()) == {1}


async def test_a_deadlock_is_repeated_and_no_failure(settings: Settings) -> None:
    async with bench(settings, retry_delays=(600.0,)) as stage:
        await stage.pool.execute("INSERT INTO effects (name, count) VALUES ('left', 0), ('right', 0)")
        both_hold_one = asyncio.Barrier(2)

        async def crossed(job: SampleJob) -> None:
            stage.runs[job.name] += 1
            order = ("left", "right") if job.name == "job-0" else ("right", "left")
            async with stage.context.transaction() as tx:
                await tx.execute("UPDATE effects SET count = count + 1 WHERE name = $1", order[0])
                if stage.runs[job.name] == 1:
                    await both_hold_one.wait()
                await tx.execute("UPDATE effects SET count = count + 1 WHERE name = $1", order[1])

        async with stage.working(stage.worker(crossed)):
            await stage.publish(*sample_jobs(2))
            await _until_counts(stage, 4)
        assert sum(stage.runs.values()) == 3  # one was the deadlock's victim
        assert (await stage.depth(QUEUE.dead_letters), await stage.depth(QUEUE.name)) == (0, 0)


async def test_a_serialisation_conflict_is_repeated_and_no_failure(settings: Settings) -> None:
    async with bench(settings, retry_delays=(600.0,)) as stage:
        await stage.pool.execute("INSERT INTO effects (name, count) VALUES ('left', 0)")
        both_have_read = asyncio.Barrier(2)

        async def count_on(job: SampleJob) -> None:
            stage.runs[job.name] += 1
            async with stage.pool.acquire() as tx, tx.transaction(isolation="serializable"):
                count = await tx.fetchval("SELECT count FROM effects WHERE name = 'left'")
                if stage.runs[job.name] == 1:
                    await both_have_read.wait()
                await tx.execute("UPDATE effects SET count = $1 WHERE name = 'left'", count + 1)

        async with stage.working(stage.worker(count_on)):
            await stage.publish(*sample_jobs(2))
            await _until_counts(stage, 2)
        assert sum(stage.runs.values()) == 3
        assert (await stage.depth(QUEUE.dead_letters), await stage.depth(QUEUE.name)) == (0, 0)


async def _until_counts(stage: Bench, total: int) -> None:
    async def counted() -> bool:
        return bool(await stage.pool.fetchval("SELECT sum(count) = $1 FROM effects", total))

    await until(counted, f"the counts come to {total}")
