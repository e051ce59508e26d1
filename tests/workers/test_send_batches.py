"""Claims and results of many sends are one commit each, and one that fails or is locked costs only itself."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import psycopg
import pytest

from shared import database
from shared.queue.jobs import SendReady
from shared.resilience.lock_waits import LockWaits
from shared.settings import Settings
from shared.store import channels
from shared.store.messages import sends
from shared.store.messages.outbound_rows import Outbound, outbound_of
from shared.store.messages.send_batches import Claim, ClaimOutcome, SentMessage
from tests.support.stage import Stage, staged
from tests.workers.test_locks_sends import admitted
from tests.workers.test_send_isolation import OTHER_ACCOUNT
from workers.send.batches import Batches

MANY = 20
LEASE = timedelta(seconds=60)


@dataclass
class Ready:
    """Messages that are ready, each of a conversation of its own, and the batches of a process."""

    stage: Stage
    jobs: Sequence[SendReady]
    messages: Sequence[Outbound]
    batches: Batches

    async def claims(self) -> list[Claim]:
        channel = await self.stage.channel()
        return [Claim(message, channel) for message in self.messages]

    async def claim_all(self) -> tuple[list[Claim], list[ClaimOutcome]]:
        claims = await self.claims()
        return claims, await asyncio.gather(*(self.batches.claim(claim) for claim in claims))

    async def transactions(self, status: str) -> int:
        """How many transactions have written the messages that are in this state."""
        rows = await self.stage.pool.fetch("SELECT DISTINCT xmin::text FROM messages WHERE status = $1", status)
        return len(rows)


@asynccontextmanager
async def ready(settings: Settings, count: int = MANY) -> AsyncIterator[Ready]:
    async with staged(settings, {"rate": 1000}) as stage:
        jobs = [await admitted(stage, stage.ours, f"+3461000{number:04}") for number in range(count)]
        batches = Batches(stage.pool, LockWaits(asyncio.get_running_loop().time), LEASE)
        lanes = [(job.tenant_id, job.conversation_id, job.lane) for job in jobs]
        heads = await asyncio.gather(*(batches.head(lane) for lane in lanes))
        messages = [head for head in heads if head is not None]
        assert [message.id for message in messages] == [job.message_id for job in jobs]
        yield Ready(stage, jobs, messages, batches)


async def nothing() -> None:
    raise AssertionError("it is recorded with the others")


async def test_messages_that_are_ready_together_are_claimed_and_recorded_in_one_commit_each(
    settings: Settings,
) -> None:
    async with ready(settings) as all_ready:
        claims, claimed = await all_ready.claim_all()
        assert (claimed, await all_ready.transactions("sending")) == (["claimed"] * MANY, 1)

        sent = [SentMessage(one.message, one.id, f"SM{n}", held=n == 0) for n, one in enumerate(claims)]
        goes_on = await asyncio.gather(*(all_ready.batches.sent(one, nothing) for one in sent))
        assert (goes_on, await all_ready.transactions("sent")) == ([False] * MANY, 1)
        assert await all_ready.stage.count("events WHERE name = 'message.sent'") == MANY
        assert await all_ready.stage.count("""events WHERE detail ->> 'held' = 'true'""") == 1
        rows = await all_ready.stage.pool.fetch(
            "SELECT m.external_id, m.attempts, m.called_to, c.recipient FROM messages m JOIN conversations c"
            " ON c.id = m.conversation_id ORDER BY m.created_at"
        )
        assert [row["external_id"] for row in rows] == [f"SM{n}" for n in range(MANY)]
        assert all((row["attempts"], row["called_to"]) == (1, row["recipient"]) for row in rows)


async def test_a_message_that_a_session_locks_is_claimed_once_it_may_be_and_the_others_at_once(
    settings: Settings,
) -> None:
    async with ready(settings) as all_ready, all_ready.stage.pool.acquire() as other:
        async with other.transaction():
            await other.execute("SELECT FROM messages WHERE id = $1 FOR UPDATE", all_ready.jobs[3].message_id)
            first, *rest = [asyncio.create_task(all_ready.batches.claim(one)) for one in await all_ready.claims()]
            locked = rest.pop(2)
            assert await asyncio.gather(first, *rest) == ["claimed"] * (MANY - 1)
            assert (locked.done(), await all_ready.transactions("sending")) == (False, 1)
        assert await locked == "claimed"


async def test_a_lane_that_is_in_use_or_a_message_that_was_moved_costs_the_others_nothing(settings: Settings) -> None:
    async with ready(settings, 4) as all_ready:
        stage, (canceled, opted_out, *_) = all_ready.stage, all_ready.messages
        await stage.pool.execute("UPDATE messages SET status = 'canceled' WHERE id = $1", canceled.id)
        behind = await stage.requested(opted_out.conversation_id, "otra")
        await stage.pool.execute(
            "UPDATE messages SET status = 'sending', claim_id = gen_random_uuid() WHERE id = $1", behind.message_id
        )
        _, claimed = await all_ready.claim_all()
        assert claimed == ["lost", "lost", "claimed", "claimed"]
        assert await stage.count("messages WHERE status = 'sending'") == 3


async def test_a_result_is_recorded_alone_where_the_lease_has_run_out(settings: Settings) -> None:
    async with ready(settings, 3) as all_ready:
        claims, _ = await all_ready.claim_all()
        await all_ready.stage.pool.execute(
            "UPDATE messages SET status = 'unknown', claim_id = NULL, unknown_at = now() WHERE id = $1",
            claims[1].message.id,
        )
        alone = []

        async def record(claim: Claim) -> bool:
            async def by_itself() -> None:
                alone.append(claim)

            sent = SentMessage(claim.message, claim.id, str(claim.id), held=False)
            return await all_ready.batches.sent(sent, by_itself)

        assert await asyncio.gather(*map(record, claims)) == [False, True, False]
        assert alone == [claims[1]]


async def test_messages_that_wait_for_a_place_are_postponed_in_one_commit(settings: Settings) -> None:
    async with ready(settings) as all_ready, all_ready.stage.pool.acquire() as other:
        stage, (moved, locked, *rest) = all_ready.stage, all_ready.messages
        await stage.pool.execute("UPDATE messages SET status = 'canceled' WHERE id = $1", moved.id)

        def postponed() -> list[asyncio.Task[bool]]:
            asked = enumerate((moved, locked, *rest), start=100)
            return [
                asyncio.create_task(all_ready.batches.postpone(one.tenant_id, one.id, timedelta(minutes=wait)))
                for wait, one in asked
            ]

        async with other.transaction():
            await other.execute("SELECT FROM messages WHERE id = $1 FOR UPDATE", locked.id)
            first, second, *others = postponed()
            assert await asyncio.gather(first, *others) == [False] + [True] * len(rest)
            written = "messages WHERE due_at > now() + interval '95 min'"
            assert await stage.count(written) == len(rest)
            rows = await stage.pool.fetch(f"SELECT DISTINCT xmin::text FROM {written}")
            assert len(rows) == 1
        assert await second is True
        assert await stage.count(
            "messages WHERE due_at BETWEEN now() + interval '100 min' AND now() + interval '101 min'"
        )


async def test_a_lane_that_has_another_message_goes_on(settings: Settings) -> None:
    async with ready(settings, 1) as all_ready:
        (claim,), _ = await all_ready.claim_all()
        await all_ready.stage.requested(claim.message.conversation_id, "otra")
        assert await all_ready.batches.sent(SentMessage(claim.message, claim.id, "SM1", held=False), nothing)


@pytest.mark.parametrize("code", ["57P01", "22000"])
async def test_nothing_is_called_where_the_claims_commit_fails(
    settings: Settings, database_url: str, code: str
) -> None:
    """57P01: the server stops, and nobody knows whether the claim stands. 22000: it does not, for all of the batch."""
    async with ready(settings) as all_ready, all_ready.stage.working("send", "clock"):
        stage = all_ready.stage
        owner = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
        async with owner:
            await owner.execute(
                f"""
                CREATE SEQUENCE tries;
                GRANT ALL ON tries TO PUBLIC;
                CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM nextval('tries'); RAISE 'no commit' USING ERRCODE = '{code}'; END $$;
                CREATE CONSTRAINT TRIGGER fails AFTER UPDATE ON messages DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW WHEN (NEW.status = 'sending') EXECUTE FUNCTION fail()""".encode()
            )

            async def tried_again() -> bool:
                (tries,) = await (await owner.execute("SELECT last_value FROM tries")).fetchone() or (0,)
                return bool(tries > 1)

            await stage.deliver(*all_ready.jobs)
            await stage.until(tried_again, equals=True)
            assert not await stage.sandbox.messages()
            await owner.execute("DROP TRIGGER fails ON messages; DROP FUNCTION fail(); DROP SEQUENCE tries")
        await stage.until(stage.count, "messages WHERE status = 'sent'", equals=MANY, within=30)
        assert len(await stage.sandbox.messages()) == MANY


async def test_the_head_of_a_lane_is_read_alone_where_the_batch_cannot_be_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ready(settings, 3) as all_ready:
        read = outbound_of
        bad = all_ready.messages[0].id

        def unreadable(row: asyncpg.Record) -> Outbound:
            message = read(row)
            if message.id == bad:
                raise ValueError("it holds what nobody expects")
            return message

        for module in ("send_batches", "sends"):
            monkeypatch.setattr(f"shared.store.messages.{module}.outbound_of", unreadable)
        lanes = [(job.tenant_id, job.conversation_id, job.lane) for job in all_ready.jobs]
        first, *others = await asyncio.gather(*(all_ready.batches.head(lane) for lane in lanes), return_exceptions=True)
        assert isinstance(first, ValueError)
        assert [getattr(one, "id", None) for one in others] == [message.id for message in all_ready.messages[1:]]
        assert not database.is_outage(first)


async def test_a_message_is_not_claimed_for_a_channel_that_was_changed_since_it_was_read(settings: Settings) -> None:
    async with ready(settings, 2) as all_ready:
        claims = await all_ready.claims()
        await all_ready.stage.configure({"rate": 900})
        for claim in claims:
            assert await all_ready.batches.claim(claim) == "channel_changed"
        by_itself = await sends.claim(all_ready.stage.pool, claims[0].message, claims[0].channel, LEASE)
        assert by_itself is None
        _, claimed = await all_ready.claim_all()
        assert claimed == ["claimed", "claimed"]
        await all_ready.stage.pool.execute("UPDATE messages SET status = 'ready', claim_id = NULL, attempts = 0")
        await all_ready.stage.pool.execute("UPDATE tenants SET deleted_at = now()")
        assert await all_ready.batches.claim(claims[0]) == "channel_changed"


async def test_a_channel_that_was_stopped_or_changed_sends_nothing_by_what_it_was(settings: Settings) -> None:
    """The process has sent through it a moment ago, and holds it in memory."""
    async with ready(settings, 3) as all_ready, all_ready.stage.working("send"):
        stage, (first, second, third) = all_ready.stage, all_ready.jobs
        await stage.deliver(first)
        await stage.until(stage.status, first.message_id, equals="sent")

        await channels.set_credentials(
            stage.pool,
            stage.ours.tenant_id,
            stage.ours.id,
            stage.sealed(
                {"account_sid": OTHER_ACCOUNT[0], "auth_token": OTHER_ACCOUNT[1]}, stage.ours.tenant_id, stage.ours.id
            ),
        )
        await stage.sandbox.account(*OTHER_ACCOUNT)
        await stage.deliver(second)
        await stage.until(stage.status, second.message_id, equals="sent")
        assert [seen.account for seen in await stage.sandbox.messages()][1:] == [OTHER_ACCOUNT[0]]

        async with stage.pool.acquire() as connection:
            assert await channels.stop(connection, stage.ours.tenant_id, stage.ours.id, "for a test")
        await stage.deliver(third)
        await stage.until(
            stage.count,
            "messages WHERE status = 'ready' AND due_at BETWEEN now() + interval '4 min' AND now() + interval '5 min'",
            equals=1,
        )
        assert len(await stage.sandbox.messages()) == 2


async def test_a_claim_that_comes_too_late_for_its_slot_is_made_again_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message is ready again, and the clock would find it seconds later. Here no clock runs."""
    claims: list[ClaimOutcome] = []
    claim = Batches.claim

    async def late(self: Batches, asked: Claim) -> ClaimOutcome:
        claims.append(await claim(self, asked))
        await asyncio.sleep(0.2 if len(claims) == 1 else 0.0)
        return claims[-1]

    async def made_again() -> bool:
        return claims[:2] == ["claimed", "claimed"]

    monkeypatch.setattr(Batches, "claim", late)
    async with staged(settings, {"rate": 1}) as stage:  # so that no other slot is near
        job = await admitted(stage, stage.ours, "+34610000001")
        await stage.deliver(job)
        async with stage.working("send"):
            await stage.until(made_again, equals=True)
        assert len(await stage.sandbox.messages()) <= 1
