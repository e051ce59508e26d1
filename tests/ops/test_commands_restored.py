"""After a restore or a fail-over nothing leaves by itself that may have left before: a person decides about it."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from ops.local.stack import Stack
from ops.recovery import is_worker
from schema import verify
from shared import database
from shared.queue.jobs import ReplyWanted, SendReady, SendRequested
from shared.settings import Settings
from shared.store import counts
from tests.conftest import STATE
from tests.support.commands import palomar
from tests.support.stage import Stage, staged
from tests.workers.test_relay import happen, listening

OLD_XID = 10**9  # of a cluster that has done much more than a new one


@pytest.fixture
def other_cluster() -> Iterator[str]:
    """The URL of an empty database in a cluster of its own, without roles of Palomar's."""
    root = STATE / f"test-other-{uuid4().hex[:8]}"
    with Stack(root, broker=False) as stack:
        yield stack.database_url
    shutil.rmtree((root / "postgres").resolve())
    shutil.rmtree(root)


async def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a thread: the test's own publisher goes on meanwhile."""
    return await asyncio.to_thread(palomar, environment, *arguments)


async def done(environment: dict[str, str], *arguments: str) -> str:
    ended = await run(environment, *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


async def in_every_state(stage: Stage) -> dict[str, UUID]:
    """A conversation each for a message in every state from which it would leave, or be decided upon."""
    made: dict[str, UUID] = {}
    for number, state in enumerate(("queued", "ready", "sending", "held", "unknown")):
        customer = f"+3460000001{number}"
        last_message_ago = timedelta(days=2) if state == "held" else timedelta(0)
        conversation = await stage.converse(customer=customer, last_message_ago=last_message_ago)
        made[state] = (await stage.requested(conversation, f"was {state}", window_policy="hold")).message_id
        await stage.pool.execute(
            "UPDATE messages SET status = $2, due_at = now(), unknown_at = CASE WHEN $2 = 'unknown' THEN now() END, "
            "claim_id = CASE WHEN $2 = 'sending' THEN gen_random_uuid() END WHERE id = $1",
            made[state],
            state,
        )
    return made


async def owed_reply(stage: Stage, customer: str = "+34600000099") -> UUID:
    """A customer wrote, and is to be answered."""
    await stage.deliver(stage.said("hola", sender=customer))
    async with stage.working("persist"):
        await stage.until(stage.count, "conversations WHERE reply_due_at IS NOT NULL", equals=1)
    return UUID(str(await stage.value("SELECT id FROM conversations WHERE reply_due_at IS NOT NULL")))


async def beside(stage: Stage) -> None:
    """What else would leave: a report of an agent's message, campaigns, deliveries to a tenant's own system."""
    tenant, channel = stage.ours.tenant_id, stage.ours.id
    conversation = await stage.converse(customer="+34600000077")
    await stage.pool.execute(
        "INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, "
        "external_id, out_seq, due_at) VALUES (gen_random_uuid(), $1, $2, $3, 'twilio', 'outbound', 'assistant', "
        "'sent', 'agents', 1, now())",
        *(tenant, conversation, channel),
    )
    for status in ("draft", "scheduled", "running", "completed"):
        await stage.pool.execute(
            "INSERT INTO campaigns (tenant_id, whatsapp_instance_id, name, message, status, due_at) "
            "VALUES ($1, $2, $3, 'x', $3, CASE WHEN $3 = 'running' THEN now() END)",
            *(tenant, channel, status),
        )
    webhook = await stage.value(
        "INSERT INTO webhooks (tenant_id, url) VALUES ($1, 'https://a.example') RETURNING id", tenant
    )
    await stage.pool.execute(
        "INSERT INTO webhook_logs (tenant_id, webhook_id, event, due_at) VALUES ($1, $2, 'x', now())", tenant, webhook
    )


async def left(stage: Stage) -> int:
    return len(await stage.sandbox.messages())


def hints(stage: Stage, made: dict[str, UUID], conversations: dict[UUID, UUID]) -> list[SendRequested | SendReady]:
    """The jobs that the broker, which was not restored, still holds of them."""
    tenant = stage.ours.tenant_id
    found: list[SendRequested | SendReady] = []
    for message in made.values():
        about = {"tenant_id": tenant, "conversation_id": conversations[message], "message_id": message}
        found.append(SendRequested(**about))
        found.append(SendReady(**about, provider="twilio"))
    return found


async def test_after_a_fail_over_nothing_leaves_that_may_have_left_until_a_person_says_so(
    environment: dict[str, str], settings: Settings
) -> None:
    """Not by the clock, not by what the broker still holds, not by a policy, not because a customer writes."""
    async with staged(settings, {"reply": {"greeting": "Hola"}}) as stage:
        reply = await owed_reply(stage)
        made = await in_every_state(stage)
        await beside(stage)
        output = await done(environment, "failover")
        for line in ("5 messages may have left", "1 replies were owed", "1 reports", "2 campaigns", "1 deliveries"):
            assert line in output
        assert {await stage.status(message) for message in made.values()} == {"unknown"}
        held_in = await stage.rows("SELECT id, conversation_id FROM messages WHERE id = ANY($1)", list(made.values()))
        conversations = {row["id"]: row["conversation_id"] for row in held_in}
        stale = hints(stage, made, conversations)
        async with stage.working("persist", "reply", "window", "send", "clock"):
            await stage.deliver(*stale)
            await stage.deliver(ReplyWanted(tenant_id=stage.ours.tenant_id, conversation_id=reply))
            await asyncio.sleep(3)  # leases, and the time after which a policy gives a message up
            assert await left(stage) == 0
            assert {await stage.status(message) for message in made.values()} == {"unknown"}
            await stage.deliver(stage.said("y ahora", sender="+34600000013"))  # whose message was held
            await stage.until(left, stage, equals=1)
        (answer,) = await stage.bodies("+34600000013")
        assert answer != "was held", "an answer to what was written now, and nothing else"
        rows = await counts.by_state(stage.pool)
        assert (rows["restored"], rows["parked"], rows["overdue"]) == (6, 0, 0)
        campaigns = await stage.rows("SELECT name, status, due_at FROM campaigns ORDER BY name")
        assert [tuple(row) for row in campaigns] == [
            ("completed", "completed", None),
            ("draft", "draft", None),
            ("running", "paused", None),
            ("scheduled", "paused", None),
        ]
        assert tuple(await stage.row("SELECT success, due_at, error_message FROM webhook_logs")) == (
            False,
            None,
            "restored",
        )
        wanted = "events WHERE name = 'message.decision_wanted' AND detail->>'error_code' = 'restored'"
        assert await stage.count(wanted) == 5


async def test_a_person_decides_about_what_was_put_aside(environment: dict[str, str], settings: Settings) -> None:
    async with staged(settings, {"reply": {"greeting": "Hola"}}) as stage:
        reply = await owed_reply(stage)
        made = await in_every_state(stage)
        await done(environment, "failover")
        listed = json.loads(await done(environment, "unknown", "list", "--json"))
        assert {(one["kind"], one["id"]) for one in listed} == {
            *(("message", str(message)) for message in made.values()),
            ("reply", str(reply)),
        }
        assert {one["reason"] for one in listed} == {"restored"}
        shown = await done(environment, "unknown", "list")
        assert "Replies that were owed when the database was lost" in shown
        assert "restored" in shown
        assert "6 messages and replies may have left" in (await run(environment, "status")).stdout
        await done(environment, "unknown", "fail", str(made["queued"]))
        async with stage.working("reply", "window", "send", "clock"):
            await done(environment, "unknown", "resend", str(reply), str(made["ready"]), "--yes")
            await stage.until(left, stage, equals=2)
            assert len(await stage.bodies("+34600000099")) == 1
            assert await stage.bodies("+34600000011") == ["was ready"]
            await done(environment, "unknown", "resend", "--restored", "--yes")
            await stage.until(left, stage, equals=4)  # held: its window is closed still
        assert (await counts.by_state(stage.pool))["restored"] == 0
        assert await stage.value("SELECT count(*) FROM messages WHERE status = 'held'") == 1
        refused = await run(environment, "unknown", "fail", str(reply))
        assert refused.returncode == 1


async def test_a_reply_is_given_up_and_the_next_words_are_answered(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings, {"reply": {"greeting": "Hola"}}) as stage:
        reply = await owed_reply(stage)
        await done(environment, "failover")
        await done(environment, "unknown", "fail", "--restored")
        async with stage.working("persist", "reply", "window", "send", "clock"):
            await stage.deliver(ReplyWanted(tenant_id=stage.ours.tenant_id, conversation_id=reply))
            await asyncio.sleep(1.5)
            assert await left(stage) == 0
            await stage.deliver(stage.said("otra vez", sender="+34600000099"))
            await stage.until(left, stage, equals=1)


async def test_a_fail_over_is_not_declared_beside_processes_that_work(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage, stage.running("clock"):
        await stage.until(_connected, stage, "palomar clock %", equals=True)
        refused = await run(environment, "failover")
        assert refused.returncode == 1
        assert "Processes work on this database: palomar" in refused.stderr
        assert "clock" in refused.stderr


@pytest.mark.parametrize(
    ("application", "works"),
    [
        ("palomar all 1", True),
        ("palomar window send.twilio 4711", True),
        ("palomar clock 1", True),
        ("palomar receive 1", False),
        ("palomar failover 1", False),
        ("palomar status 1", False),
        ("psql", False),
    ],
)
def test_who_would_send_is_known_by_the_name_of_its_connection(application: str, works: bool) -> None:
    assert is_worker(application) == works


async def _connected(stage: Stage, name: str) -> bool:
    found: int = await stage.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE $1", name)
    return found > 0


async def test_failing_over_twice_puts_nothing_aside_twice(environment: dict[str, str], settings: Settings) -> None:
    async with staged(settings) as stage:
        await in_every_state(stage)
        await done(environment, "failover")
        assert "0 messages may have left" in await done(environment, "failover")


async def test_a_backup_in_another_cluster_lets_nothing_leave_and_events_go_on(
    environment: dict[str, str], settings: Settings, other_cluster: str, tmp_path: Path
) -> None:
    """Its transaction ids begin anew, far below those of the events that were restored."""
    async with staged(settings) as before:
        made = await in_every_state(before)
        for seq, name in enumerate(("published", "not yet", "nor this")):
            await before.pool.execute(
                "INSERT INTO events (xid, name, tenant_id) VALUES (($1::bigint)::text::xid8, $2, $3)",
                *(OLD_XID + seq, name, before.ours.tenant_id),
            )
        await before.pool.execute(
            "UPDATE relay_cursor SET (xid, seq) = (SELECT xid, seq FROM events WHERE name = 'published'), "
            "holder = gen_random_uuid(), held_until = now() + '1 day'"
        )
        await done(environment, "backup", str(tmp_path / "monday"))
        async with before.working("window", "send", "clock"):
            await before.until(left, before, equals=2)  # after the backup: what was queued and what was ready
        there = {**environment, "DATABASE_URL": other_cluster}
        assert "5 messages may have left" in await done(there, "restore", str(tmp_path / "monday"))
        assert [finding for finding in verify.verify(other_cluster) if not finding.ok] == []
        moved = before.settings.model_copy(update={"database_url": SecretStr(other_cluster)})
        async with database.make_pool(moved, process="test") as pool:
            after = Stage(moved, pool, before.publisher, before.sandbox)
            after.ours = before.ours
            assert {await after.status(message) for message in made.values()} == {"unknown"}
            async with listening(after) as listener, after.working("relay", "window", "send", "clock"):
                await happen(after, "new")
                await after.until(listener.count, equals=2 + 5 + 1)
                assert listener.names[:2] == ["not yet", "nor this"]
                assert listener.names[2:] == ["message.decision_wanted"] * 5 + ["new"]
                await asyncio.sleep(1.5)
                assert await left(after) == 2, "each of them once, from the first cluster"


async def test_a_fail_over_in_the_same_cluster_leaves_the_order_of_events_alone(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        await happen(stage, "one")
        before = await stage.rows("SELECT xid::text, seq FROM events ORDER BY seq")
        await done(environment, "failover")
        assert await stage.rows("SELECT xid::text, seq FROM events ORDER BY seq") == before
        async with listening(stage) as listener, stage.working("relay"):
            await stage.until(listener.count, equals=1)
