"""One webhook URL of a Meta app serves numbers of several tenants: each gets its own, and none another's."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.settings import Settings
from tests.support.meta_payloads import ACCOUNT, CUSTOMER, Json, entry, of_type, receipt_json, said, value
from tests.support.meta_stage import add_app, add_number, posted
from tests.support.stage import staged
from workers.persist import worker

HERS, HIS = "106540352242922", "106540352242999"


def now(minutes_ago: float = 0) -> str:
    return str(int((datetime.now(UTC) - timedelta(minutes=minutes_ago)).timestamp()))


async def test_a_batch_for_two_tenants_numbers_comes_to_each(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        hers, his = await add_number(stage, app, HERS), await add_number(stage, app, HIS)
        webhook = posted(
            stage,
            app,
            entry(value(said(id="to her"), phone_number_id=HERS), value(said(id="to him"), phone_number_id=HIS)),
            entry(value(statuses=(receipt_json(id="his receipt"),), phone_number_id=HIS)),
        )
        await worker.persist([webhook], stage.context)
        rows = await stage.rows("SELECT tenant_id, channel_id, external_id FROM messages ORDER BY external_id")
        assert [tuple(row) for row in rows] == [
            (hers.tenant_id, hers.id, "to her"), (his.tenant_id, his.id, "to him")
        ]  # fmt: skip
        receipt = await stage.row("SELECT tenant_id, channel_id FROM message_statuses")
        assert tuple(receipt) == (his.tenant_id, his.id)
        assert await stage.value("SELECT outcome FROM inbound_log") == "parsed"


async def test_a_number_that_is_nobodys_is_given_to_nobody(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS)
        strange = value(said(), statuses=(receipt_json(),), phone_number_id=HIS)
        await worker.persist([posted(stage, app, entry(strange))], stage.context)
        assert await stage.count("messages") == 0
        assert await stage.count("message_statuses") == 0
        logged = await stage.row("SELECT outcome, error FROM inbound_log")
        assert logged["outcome"] == "unparsed"
        assert "palomar channels add" in logged["error"]


async def test_a_number_that_another_tenant_writes_into_its_row_stays_whose_it_is(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        hers = await add_number(stage, app, HERS)
        thief = await add_number(stage, app, "106540352242999")
        await stage.pool.execute("UPDATE channels SET address = $1 WHERE id = $2", HERS, thief.id)
        await worker.persist([posted(stage, app, entry(value(said(), statuses=(receipt_json(),))))], stage.context)
        assert await stage.value("SELECT channel_id FROM messages") == hers.id
        assert await stage.value("SELECT channel_id FROM message_statuses") == hers.id


async def test_a_tenants_own_endpoint_serves_no_other_tenants_channel(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        hers = await add_number(stage, app, HERS)
        theirs = posted(stage, app, entry(value(said(), statuses=(receipt_json(),))), tenant_id=stage.ours.tenant_id)
        await worker.persist([theirs], stage.context)
        assert await stage.count("messages") == 0
        assert await stage.count("message_statuses") == 0
        again = posted(stage, app, entry(value(said(id="hers"))), tenant_id=hers.tenant_id)
        await worker.persist([again], stage.context)
        assert await stage.value("SELECT channel_id FROM messages") == hers.id


async def test_an_event_of_an_account_goes_to_its_tenants(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS, account="1")
        his = await add_number(stage, app, HIS, account=ACCOUNT)
        event = entry({"event": "REJECTED", "message_template_name": "hello"}, field="message_template_status_update")
        await worker.persist([posted(stage, app, event)], stage.context)
        announced = await stage.row("SELECT tenant_id, channel_id FROM events WHERE name LIKE 'provider.%'")
        assert tuple(announced) == (his.tenant_id, None)


async def test_an_event_of_meta_goes_to_the_tenant_it_concerns_and_to_no_other(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        hers = await add_number(stage, app, HERS)
        template = {"event": "REJECTED", "message_template_name": "hello", "reason": "words no other tenant should see"}
        events = "SELECT tenant_id, channel_id, name, detail FROM events WHERE name LIKE 'provider.%' ORDER BY seq"
        account_event = entry(template, field="message_template_status_update")
        await worker.persist([posted(stage, app, account_event)], stage.context)
        only = await stage.row(events)
        assert (only["tenant_id"], only["channel_id"]) == (hers.tenant_id, None)
        assert (only["name"], only["detail"]["event"]) == ("provider.message_template_status_update", "REJECTED")
        assert "words" not in str(only["detail"])

        await add_number(stage, app, HIS)
        stop = {"wa_id": CUSTOMER, "category": "marketing_messages", "value": "stop"}
        preference = entry(value(user_preferences=[stop], phone_number_id=HERS), field="user_preferences")
        await worker.persist([posted(stage, app, account_event, preference)], stage.context)
        _, second = await stage.rows(events)  # its template's tenant is no longer known
        assert (second["tenant_id"], second["channel_id"]) == (hers.tenant_id, hers.id)
        assert (second["name"], second["detail"]["change"]) == ("provider.consent", "opt_out")


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("reaction", {"message_id": "wamid.1", "emoji": "🕊"}),
        ("edit", {"original_message_id": "wamid.1", "message": {"type": "text", "text": {"body": "otra"}}}),
        ("revoke", {"original_message_id": "wamid.1"}),
    ],
)
async def test_what_asks_for_no_answer_gets_none(settings: Settings, kind: str, part: dict[str, object]) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS)
        await worker.persist([posted(stage, app, entry(value(of_type(kind, part))))], stage.context)
        row = await stage.row("SELECT role, message_type, reply_to FROM messages")
        assert tuple(row) == ("user", kind, "wamid.1")
        assert await stage.value("SELECT reply_due_at FROM conversations") is None
        assert await stage.value("SELECT last_user_message_at FROM conversations") is not None
        # Behind a question in the same webhook the question is still answered.
        both = value(said(id="question"), of_type(kind, part, id="after it"))
        await worker.persist([posted(stage, app, entry(both))], stage.context)
        assert await stage.value("SELECT reply_due_at FROM conversations") is not None


@pytest.mark.parametrize(
    ("kind", "part"), [("interactive", {"type": "novel", "novel": {}}), ("unsupported", {"type": "poll_creation"})]
)
async def test_nobody_is_asked_to_answer_what_nobody_can_see(settings: Settings, kind: str, part: Json) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS)
        await worker.persist([posted(stage, app, entry(value(of_type(kind, part))))], stage.context)
        assert tuple(await stage.row("SELECT role, message_type FROM messages")) == ("user", "unsupported")
        row = await stage.row("SELECT reply_due_at, last_user_message_at IS NOT NULL FROM conversations")
        assert tuple(row) == (None, True)


async def test_messages_of_one_post_stay_in_its_order_whatever_their_ids(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS)
        post = value(*(said(id=f"wamid.{9 - n}", text={"body": str(n)}) for n in range(5)))
        await worker.persist([posted(stage, app, entry(post))], stage.context)
        rows = await stage.rows("SELECT content FROM messages ORDER BY created_at")
        assert [row["content"] for row in rows] == ["0", "1", "2", "3", "4"]


async def test_what_the_network_says_of_a_customer_opens_no_window(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS)
        changed = of_type("system", {"body": "Ana changed", "type": "user_changed_number"}, timestamp=now())
        await worker.persist([posted(stage, app, entry(value(changed)))], stage.context)
        assert await stage.value("SELECT role FROM messages") == "system"
        row = await stage.row("SELECT last_user_message_at, reply_due_at, unread_count FROM conversations")
        assert tuple(row) == (None, None, 0)


async def test_the_window_opens_by_metas_time_and_not_by_ours(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS)
        await worker.persist([posted(stage, app, entry(value(said(timestamp=now(90)))))], stage.context)
        opened = await stage.value("SELECT last_user_message_at FROM conversations")
        assert timedelta(minutes=89) < datetime.now(UTC) - opened < timedelta(minutes=95)


async def test_a_person_who_writes_in_the_business_app_has_the_conversation(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS, channel={"reply": {"engine": "rules", "debounce": 60}})
        echo = said(id="from the app", **{"from": "15550783881"}, to=CUSTOMER, text={"body": "ya voy"})
        await worker.persist([posted(stage, app, entry(value(said(id="1"))))], stage.context)
        assert await stage.count("conversations WHERE reply_due_at IS NOT NULL") == 1
        app_webhook = entry(value(message_echoes=[echo]), field="smb_message_echoes")
        await worker.persist([posted(stage, app, app_webhook)], stage.context)
        conversation = await stage.row("SELECT status, phone, reply_due_at FROM conversations")
        assert tuple(conversation) == ("escalated", f"+{CUSTOMER}", None)
        rows = await stage.rows("SELECT direction, status, content FROM messages ORDER BY received_at")
        assert [tuple(row) for row in rows] == [("inbound", "received", "hola"), ("outbound", "sent", "ya voy")]


async def test_an_agent_who_writes_first_in_the_business_app_makes_a_conversation(
    settings: Settings,
) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS)
        held = value(message_echoes=[said(id="first", **{"from": "15550783881"}, to=CUSTOMER)])
        await worker.persist([posted(stage, app, entry(held, field="smb_message_echoes"))], stage.context)
        conversation = await stage.row("SELECT phone, recipient, last_user_message_at FROM conversations")
        assert tuple(conversation) == (f"+{CUSTOMER}", f"+{CUSTOMER}", None)


async def test_what_is_said_in_a_group_is_announced_and_opens_no_window(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS)
        await worker.persist([posted(stage, app, entry(value(said(group_id="g"))))], stage.context)
        assert await stage.count("messages") == 0
        assert await stage.count("conversations") == 0
        assert await stage.count("events WHERE name = 'provider.group_message'") == 1


async def test_who_has_opted_out_has_so_under_a_new_number_too(settings: Settings) -> None:
    moved = "34600000099"
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS)
        changed = of_type("system", {"type": "user_changed_number", "wa_id": moved, "body": "Ana has changed"})
        for item in (said(id="1", text={"body": "STOP"}), changed, said(id="3", **{"from": moved})):
            body = entry(value(item, contacts=None, phone_number_id=HERS))
            await worker.persist([posted(stage, app, body)], stage.context)
        assert await stage.count("contacts") == 1
        assert await stage.count("consents") == 1
        rows = await stage.rows("SELECT recipient, user_message_count FROM conversations ORDER BY created_at")
        assert [tuple(row) for row in rows] == [
            (f"+{CUSTOMER}", 1),
            (f"+{moved}", 1),
        ]  # two numbers are two conversations


async def test_a_provider_whose_clock_runs_ahead_opens_no_window_after_arrival(settings: Settings) -> None:
    """Of a webhook that waited in the spool, or is replayed: its time is not ahead of ours any more."""
    arrived = datetime.now(UTC) - timedelta(hours=25)
    async with staged(settings) as stage:
        app = await add_app(stage)
        await add_number(stage, app, HERS)
        for number, minutes in enumerate((0.0, 30.0)):  # the second is the older one: it moves nothing back
            body = entry(value(said(id=f"{number}", timestamp=now(minutes)), phone_number_id=HERS))
            at = arrived - timedelta(minutes=minutes)
            await worker.persist([posted(stage, app, body, received_at=at)], stage.context)
        counts = await stage.row("SELECT last_user_message_at, user_message_count, unread_count FROM conversations")
        assert tuple(counts) == (arrived, 2, 2)
