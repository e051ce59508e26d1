"""The whole way at Meta's: a signed webhook in by HTTP, the answer out through the Graph API, its receipts back in."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from ops.sandbox.meta_forms import PHONE_NUMBER_ID
from shared import database
from shared.domain.message_form import PLAIN, Form, stored
from shared.domain.model import Button, Interactive
from shared.queue.jobs import Lane
from shared.settings import Settings
from shared.store import conversations
from shared.store.messages.outbound import NewMessage, add_outbound
from tests.support.ingress import ingress
from tests.support.meta_stage import add_app, add_number
from tests.support.stage import Ours, Stage, staged

ANA, LUIS = "5215512345678", "MX.4566546130240823"  # who has no number
OTHER = "100000000000009"


@dataclass
class Open:
    """A stage whose ingress is open to the sandbox."""

    stage: Stage
    app: UUID
    ours: Ours
    url: str

    async def writes(self, text: str, *, sender: str = ANA, phone_number_id: str = PHONE_NUMBER_ID) -> None:
        """Let a customer write, once ingress knows the endpoint."""

        async def taken() -> bool:
            answer = await self.stage.sandbox.meta_customer(
                sender=sender, webhook_url=self.url, phone_number_id=phone_number_id, text=text
            )
            return answer.status == 200

        await self.stage.until(taken, equals=True)

    async def answers(self, to: str) -> list[tuple[str, str]]:
        """(from which number, what) of all that was taken for this customer."""
        seen = await self.stage.sandbox.messages(to=to)
        return [(message.sender, message.body) for message in seen if message.outcome == "accepted"]

    async def owes(self, conversation_id: UUID, text: str, form: Form = PLAIN, lane: Lane = "normal") -> None:
        """Queue a message of this form to a customer, and publish its job."""
        message = NewMessage(
            tenant_id=self.ours.tenant_id,
            conversation_id=conversation_id,
            channel_id=self.ours.id,
            provider="meta",
            dedupe_key=f"test:{database.new_id()}",
            content=text,
            metadata=stored(form),
            lane=lane,
        )
        async with self.stage.pool.acquire() as connection, connection.transaction():
            await conversations.lock(connection, {(message.tenant_id, conversation_id)})
            request = await add_outbound(connection, message, timedelta(seconds=self.stage.settings.handoff_lease))
        assert request is not None
        await self.stage.deliver(request)


@asynccontextmanager
async def opened(settings: Settings, channel: dict[str, object] | None = None) -> AsyncIterator[Open]:
    async with staged(settings) as stage, ingress(stage.settings) as client, stage.working("all"):
        app = await add_app(stage)
        ours = await add_number(
            stage, app, PHONE_NUMBER_ID, channel=channel or {"reply": {"greeting": "Hi Ana", "menu": []}}
        )
        async with client.get("/") as answer:
            url = answer.url.with_path(f"/webhooks/meta/{app}")
        yield Open(stage, app, ours, str(url))


async def test_a_customer_is_answered_and_the_answer_is_read(settings: Settings) -> None:
    async with opened(settings) as door:
        await door.writes("hola")
        await door.stage.until(door.stage.statuses, equals=["read"])
        assert await door.answers(ANA) == [(PHONE_NUMBER_ID, "Hi Ana")]
        row = await door.stage.row("SELECT * FROM messages WHERE direction = 'outbound'")
        assert row["external_id"].startswith("wamid.")
        # Meta's receipts have whole seconds, and yet it was not delivered before it was sent.
        assert row["claimed_at"] <= row["sent_at"] <= row["delivered_at"] <= row["read_at"]
        assert await door.stage.dead_letters() == {}


async def test_two_tenants_behind_one_url_each_answer_from_their_own_number(settings: Settings) -> None:
    async with opened(settings) as door:
        await door.stage.sandbox.meta_number(OTHER, access_token="his own")
        await add_number(
            door.stage, door.app, OTHER, access_token="his own", channel={"reply": {"greeting": "Hi Luis", "menu": []}}
        )
        await door.writes("hola")
        await door.writes("buenas", sender=LUIS, phone_number_id=OTHER)
        await door.stage.until(door.stage.statuses, equals=["read", "read"])
        assert await door.answers(ANA) == [(PHONE_NUMBER_ID, "Hi Ana")]
        assert await door.answers(LUIS) == [(OTHER, "Hi Luis")]


async def test_a_send_nobody_knows_of_is_resolved_by_its_receipt_and_not_repeated(settings: Settings) -> None:
    async with opened(settings) as door:
        await door.stage.sandbox.faults({"provider": "meta", "action": "accept_then_drop", "times": 1})
        await door.writes("hola")
        await door.stage.until(door.stage.statuses, equals=["read"])
        assert len(await door.answers(ANA)) == 1
        (seen,) = await door.stage.sandbox.messages(to=ANA)
        assert not seen.answered
        assert await door.stage.value("SELECT external_id FROM messages WHERE direction = 'outbound'") == seen.sid


async def test_a_window_that_meta_closes_leads_to_the_template(settings: Settings) -> None:
    template = {"name": "hello", "language": "es_MX", "variables": {"1": "{contact_name}"}}
    channel: dict[str, object] = {
        "reply": {"greeting": "Hi Ana", "menu": []}, "window": {"policy": "template", "template": template}
    }  # fmt: skip
    async with opened(settings, channel) as door:
        await door.stage.sandbox.meta_number(PHONE_NUMBER_ID, enforce_window=True, window_seconds=0.000001)
        await door.writes("hola")
        await door.stage.until(door.stage.statuses, equals=["failed", "read"])
        plain, fallback = await door.stage.sandbox.messages(to=ANA)
        assert (plain.body, plain.content_sid) == ("Hi Ana", None)
        assert (fallback.content_sid, "Customer" in str(fallback.content_variables)) == ("hello", True)


async def test_a_token_that_meta_refuses_stops_the_channel_and_no_other(settings: Settings) -> None:
    async with opened(settings) as door:
        await door.stage.sandbox.faults({"provider": "meta", "action": "error", "status": 401, "code": 190, "times": 1})
        await door.writes("hola")
        stopped = "channels WHERE status = 'stopped' AND provider = 'meta'"
        await door.stage.until(door.stage.count, stopped, equals=1)
        assert await door.stage.statuses() == ["ready"]
        assert await door.stage.count("channels WHERE status = 'active'") == 1
        assert await door.stage.count("events WHERE name = 'channel.stopped'") == 1


async def test_buttons_leave_as_buttons_and_a_refused_title_leaves_nothing(settings: Settings) -> None:
    quiet: dict[str, object] = {"reply": {"engine": "none"}}
    async with opened(settings, quiet) as door:
        await door.writes("hola")
        stage = door.stage
        await stage.until(stage.count, "conversations", equals=1)
        conversation_id = await stage.value("SELECT id FROM conversations")
        asked = Form(Interactive(buttons=(Button("y", "Sí"), Button("n", "No"))), reply_to="wamid.question")
        await door.owes(conversation_id, "¿Vienes?", asked)
        await stage.until(stage.statuses, equals=["read"])
        (seen,) = await stage.sandbox.messages(to=ANA)
        assert seen.body == "¿Vienes?"
        assert [button["reply"]["title"] for button in json.loads(seen.content_variables or "")["buttons"]] == [
            "Sí",
            "No",
        ]

        await door.owes(conversation_id, "¿Y?", Form(Interactive(buttons=(Button("y", "x" * 21),))))
        await stage.until(stage.statuses, equals=["read", "failed"])
        reason = await stage.value("SELECT error_message FROM messages WHERE status = 'failed'")
        assert "buttons.0.title: 21 characters" in reason
        assert len(await stage.sandbox.messages(to=ANA)) == 1


async def test_bulk_messages_to_one_person_keep_metas_distance_and_answers_need_not(settings: Settings) -> None:
    quiet: dict[str, object] = {"reply": {"engine": "none"}}
    async with opened(settings, quiet) as door:
        stage = door.stage
        await door.writes("hola")
        await door.writes("buenas", sender=LUIS)
        await stage.until(stage.count, "conversations", equals=2)
        ana, luis = [row["id"] for row in await stage.rows("SELECT id FROM conversations ORDER BY phone NULLS LAST")]
        await door.owes(ana, "offer", lane="bulk")
        await stage.until(stage.count, "messages WHERE sent_at IS NOT NULL", equals=1)
        await door.owes(ana, "another offer", lane="bulk")
        await door.owes(luis, "offer", lane="bulk")
        await door.owes(ana, "an answer")
        await stage.until(stage.count, "messages WHERE sent_at IS NOT NULL", equals=3)
        assert await door.answers(LUIS) == [(PHONE_NUMBER_ID, "offer")]
        assert [text for _, text in await door.answers(ANA)] == ["offer", "an answer"]
        await stage.until(stage.count, "messages WHERE sent_at IS NOT NULL", equals=4, within=60)
        rows = await stage.rows("SELECT content, claimed_at FROM messages WHERE conversation_id = $1", ana)
        claimed = {row["content"]: row["claimed_at"] for row in rows}
        assert claimed["another offer"] - claimed["an answer"] >= timedelta(seconds=6)
        assert {seen.outcome for seen in await stage.sandbox.messages()} == {"accepted"}


async def test_a_pair_rate_of_metas_blocks_that_person_and_nobody_else(settings: Settings) -> None:
    quiet: dict[str, object] = {"reply": {"engine": "none"}}
    async with opened(settings, quiet) as door:
        stage = door.stage
        await door.writes("hola")
        await door.writes("buenas", sender=LUIS)
        await stage.until(stage.count, "conversations", equals=2)
        ana, luis = [row["id"] for row in await stage.rows("SELECT id FROM conversations ORDER BY phone NULLS LAST")]
        fault = {"provider": "meta", "action": "error", "code": 131056, "times": 1, "match": {"to": ANA}}
        await stage.sandbox.faults(fault)
        await door.owes(ana, "1")
        await stage.until(stage.count, "messages WHERE error_code = '131056'", equals=1)
        await door.owes(ana, "2")
        await door.owes(luis, "3")
        await stage.until(door.answers, LUIS, equals=[(PHONE_NUMBER_ID, "3")])
        waits = await stage.row("SELECT status, not_before - claimed_at AS wait FROM messages WHERE content = '1'")
        assert (waits["status"], waits["wait"] >= timedelta(seconds=6)) == ("ready", True)
        assert await door.answers(ANA) == []
        await stage.until(door.answers, ANA, equals=[(PHONE_NUMBER_ID, "1"), (PHONE_NUMBER_ID, "2")], within=60)
