"""`palomar unknown`: a person decides on sends of unknown outcome, and a second message needs that decision."""

import asyncio
import json
import subprocess
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.domain.model import Media, Template
from shared.settings import Settings
from shared.store.messages import outbound, sends
from tests.support.commands import palomar
from tests.support.stage import Stage, staged

NOT_FOUND = UUID("01890000-0000-7000-8000-00000000dead")


async def lost(stage: Stage, message: UUID) -> None:
    """Claimed, called, and no answer came; the channel's policy has left it to a person."""
    tenant, now = stage.ours.tenant_id, timedelta(0)
    async with stage.pool.acquire() as connection, connection.transaction():
        await outbound.decide(connection, [outbound.Decided(tenant, message, "ready")], now)
    conversation = await stage.value("SELECT conversation_id FROM messages WHERE id = $1", message)
    lane = await stage.value("SELECT lane FROM messages WHERE id = $1", message)
    head = await sends.head(stage.pool, tenant, conversation, lane)
    assert head is not None
    assert head.id == message
    claim = await sends.claim(stage.pool, head, await stage.channel(), timedelta(seconds=60))
    assert claim is not None
    async with stage.pool.acquire() as connection, connection.transaction():
        assert await sends.unknown(connection, tenant, message, claim, now, "timeout", "no answer")
        await sends.leave_unknown(connection, tenant, message)


async def unknown(environment: dict[str, str], *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """In a thread: the publisher and the workers of the test go on meanwhile."""
    return await asyncio.to_thread(palomar, environment, "unknown", *arguments, given=given)


async def events(stage: Stage, message: UUID) -> list[tuple[str, object]]:
    rows = await stage.rows("SELECT name, detail FROM events WHERE message_id = $1 ORDER BY seq", message)
    return [(row["name"], row["detail"]) for row in rows]


async def resent(stage: Stage, key: str) -> UUID:
    found: UUID = (await stage.row("SELECT id FROM messages WHERE dedupe_key = $1", key))["id"]
    return found


async def test_the_list_tells_whose_and_since_when_and_the_text_only_when_asked(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        assert "Nothing is unknown." in (await unknown(environment, "list")).stdout
        message = (await stage.requested(await stage.converse(), "hola \x1b[31mAna")).message_id
        await lost(stage, message)
        result = await unknown(environment, "list")
        assert result.returncode == 0, result.stderr
        assert "Tienda" in result.stdout
        assert stage.ours.address in result.stdout
        assert " s ago" in result.stdout
        assert "hola" not in result.stdout
        with_text = await unknown(environment, "list", "--body")
        assert "\x1b" not in with_text.stdout  # no text from outside steers the terminal
        (one,) = json.loads((await unknown(environment, "list", "--json")).stdout)
        assert (one["id"], one["tenant_id"], one["lane"]) == (str(message), str(stage.ours.tenant_id), "normal")
        assert one["claimed_at"] < one["unknown_at"]
        assert "content" not in one
        (one,) = json.loads((await unknown(environment, "list", "--json", "--body")).stdout)
        assert one["content"] == "hola \x1b[31mAna"


async def test_a_person_has_it_sent_again_and_the_customer_gets_that_once(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        message = (await stage.requested(await stage.converse(), "hola")).message_id
        await lost(stage, message)
        refused = await unknown(environment, "resend", str(message), given="n\n")
        assert refused.returncode == 1
        assert "the customer may get it twice" in refused.stdout
        assert await stage.status(message) == "unknown"
        async with stage.working("window", "send"):
            result = await unknown(environment, "resend", str(message)[:13], given="y\n")
            assert result.returncode == 0, result.stderr
            again = await resent(stage, f"resend:{message}:1")
            assert str(again) in result.stdout
            await stage.until(stage.status, again, equals="sent")
            twice = await unknown(environment, "resend", str(message), "--yes")
            assert twice.returncode == 1
            assert "was sent again already" in twice.stdout
            await stage.until(stage.waiting, equals=0)
        assert await stage.bodies() == ["hola"]
        row = await stage.message(message)
        assert (row["status"], row["error_code"]) == ("failed", "resent")
        assert await events(stage, message) == [("message.failed", {"error_code": "resent"})]
        assert ("message.queued", {"resend_of": str(message)}) in await events(stage, again)


async def test_it_is_the_same_message_again_and_each_resend_is_a_decision_of_its_own(
    environment: dict[str, str], settings: Settings
) -> None:
    same: dict[str, Any] = {
        "media": (Media(url="https://tienda.example/a.png", mime_type="image/png"),),
        "template": Template("HX0123456789abcdef0123456789abcdef", {"1": "Ana"}, "es"),
        "lane": "bulk",
        "window_policy": "hold",
        "metadata": {"campaign": "enero"},
    }
    async with staged(settings) as stage:
        first = (await stage.requested(await stage.converse(), "hola", **same)).message_id
        await lost(stage, first)
        assert (await unknown(environment, "resend", str(first), "--yes")).returncode == 0
        second = await resent(stage, f"resend:{first}:1")
        early = await unknown(environment, "resend", str(second), "--yes")
        assert early.returncode == 1
        assert "is not unknown any more: it is queued" in early.stdout
        await lost(stage, second)
        given_up = await unknown(environment, "fail", str(second))
        assert given_up.returncode == 0, given_up.stderr
        assert (await unknown(environment, "resend", str(second), "--yes")).returncode == 0
        third = await resent(stage, f"resend:{first}:2")
        rows = [await stage.message(one) for one in (first, second, third)]
        assert [row["status"] for row in rows] == ["failed", "failed", "queued"]
        columns = ("content", "media", "template", "lane", "window_policy", "metadata", "role", "conversation_id")
        assert [rows[2][name] for name in columns] == [rows[0][name] for name in columns]


async def test_what_a_receipt_resolved_is_neither_sent_again_nor_given_up(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        conversation = await stage.converse()
        delivered, given_up = [(await stage.requested(conversation, text)).message_id for text in ("uno", "dos")]
        await lost(stage, delivered)
        await lost(stage, given_up)
        assert (await unknown(environment, "fail", str(given_up))).returncode == 0
        async with stage.working("persist"):
            await stage.deliver(
                stage.receipt("SM" + "1" * 32, "delivered", message_id=delivered),
                stage.receipt("SM" + "2" * 32, "sent", message_id=given_up),
            )
            await stage.until(stage.status, delivered, equals="delivered")
            await stage.until(stage.count, "message_statuses", equals=2)
        result = await unknown(environment, "resend", str(delivered), str(given_up), "--yes")
        assert result.returncode == 1
        assert f"{delivered} is not unknown any more: it is delivered. Nothing was changed." in result.stdout
        assert f"{given_up} is not unknown any more: it is sent. Nothing was changed." in result.stdout
        refused = await unknown(environment, "fail", str(delivered))
        assert refused.returncode == 1
        assert "it is delivered" in refused.stdout
        assert await stage.statuses() == ["delivered", "sent"]
        assert await stage.count("messages WHERE dedupe_key LIKE 'resend:%'") == 0


async def test_what_a_late_answer_says_was_sent_is_not_sent_again(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        message = (await stage.requested(await stage.converse(), "hola")).message_id
        await lost(stage, message)
        assert (await unknown(environment, "fail", str(message))).returncode == 0
        async with stage.pool.acquire() as connection, connection.transaction():
            await sends.sent(connection, stage.ours.tenant_id, message, None, "SM" + "1" * 32)
        result = await unknown(environment, "resend", str(message), "--yes")
        assert result.returncode == 1
        assert "Nothing was changed." in result.stdout
        assert await stage.count("messages WHERE dedupe_key LIKE 'resend:%'") == 0


async def test_an_id_that_means_nothing_or_several_changes_nothing(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings) as stage:
        conversation = await stage.converse()
        one, _ = [(await stage.requested(conversation, text)).message_id for text in ("uno", "dos")]
        await lost(stage, one)
        for chosen, complaint in (
            ("hola", "'hola' is no id of a message."),
            (str(NOT_FOUND), f"No message of ours begins with {NOT_FOUND}."),
            (str(one)[:8], f"Several messages begin with {str(one)[:8]}."),
        ):
            refused = await unknown(environment, "fail", str(one), chosen)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert complaint in refused.stderr
        assert await stage.status(one) == "unknown"
