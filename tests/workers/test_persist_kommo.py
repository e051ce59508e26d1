"""What Kommo tells, kept: a chat is one conversation, a manager's message takes it over, an echo of ours does not."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from ops.sandbox.kommo_forms import BOT_ID, SCOPE_ID, crm_body
from shared.database import new_id
from shared.queue.jobs import WebhookReceived
from shared.settings import Settings
from shared.store import conversations
from shared.store.messages import inbound as said_so_far
from shared.store.messages import outbound
from tests.support.kommo_payloads import added, form, said, written
from tests.support.kommo_stage import CHAT, add_kommo, posted
from tests.support.stage import Ours, Stage, staged
from workers.persist import worker


def customer(stage: Stage, ours: Ours, text: str = "hola", chat_id: str = CHAT) -> WebhookReceived:
    return posted(stage, ours, crm_body(chat_id=chat_id, text=text))


def manager(
    stage: Stage,
    ours: Ours,
    text: str = "I am Eva",
    *,
    author: str | None = None,
    author_type: str | None = None,
    chat_id: str = CHAT,
) -> WebhookReceived:
    body = crm_body(chat_id=chat_id, text=text, outgoing=True, author=author, author_type=author_type)
    return posted(stage, ours, body)


async def talk(stage: Stage) -> tuple[str, object]:
    row = await stage.row("SELECT status, reply_due_at FROM conversations")
    return row["status"], row["reply_due_at"]


async def owed(stage: Stage, ours: Ours, conversation_id: UUID, key: str, text: str = "Hi") -> UUID:
    """A message of ours that is queued."""
    async with stage.pool.acquire() as connection, connection.transaction():
        await conversations.lock(connection, {(ours.tenant_id, conversation_id)})
        request = await outbound.add_outbound(
            connection,
            outbound.NewMessage(ours.tenant_id, conversation_id, ours.id, "kommo", dedupe_key=key, content=text),
            timedelta(seconds=20),
        )
    assert request is not None
    return request.message_id


async def test_each_chat_is_a_conversation_of_its_own_and_one_that_came_by_sql_is_found(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage)
        async with stage.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(ours.tenant_id))
            await connection.execute(
                "INSERT INTO kommo_conversations (tenant_id, kommo_chat_id, phone) VALUES ($1, $2, '+34600000001')",
                ours.tenant_id, CHAT,
            )  # fmt: skip
        await worker.persist([customer(stage, ours), customer(stage, ours, chat_id="another-chat")], stage.context)
        await worker.persist([customer(stage, ours, "again", chat_id="another-chat")], stage.context)
        rows = await stage.rows("SELECT kommo_chat_id, phone, user_message_count FROM conversations ORDER BY 1")
        assert [tuple(row) for row in rows] == [(CHAT, "+34600000001", 1), ("another-chat", None, 2)]


async def test_a_manager_who_writes_first_has_the_conversation_when_the_customer_answers(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage)
        await worker.persist([manager(stage, ours)], stage.context)
        await worker.persist([customer(stage, ours)], stage.context)
        assert await talk(stage) == ("escalated", None)
        assert await stage.count("contacts") == 1
        rows = await stage.rows("SELECT direction, role, status FROM messages ORDER BY created_at")
        assert [tuple(row) for row in rows] == [("outbound", "assistant", "sent"), ("inbound", "user", "received")]


async def test_in_one_post_or_batch_the_manager_has_the_conversation_too(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage)
        both = form(added("message", said(chat_id=CHAT)), added("outgoing_message", written(id="m2", chat_id=CHAT)))
        await worker.persist([posted(stage, ours, both), customer(stage, ours)], stage.context)
        assert await talk(stage) == ("escalated", None)
        assert await stage.count("messages") == 3


async def shown_to_the_engine(stage: Stage, ours: Ours) -> list[tuple[str, str]]:
    conversation_id = await stage.value("SELECT id FROM conversations")
    history = await said_so_far.history(stage.pool, ours.tenant_id, conversation_id, 50)
    return [(one.role, one.content) for one in history]


async def test_what_customer_and_manager_say_by_turns_in_one_post_stays_in_that_order(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage)
        turns = [
            said(id="z", text="0", chat_id=CHAT),
            written(id="m", text="1", chat_id=CHAT),
            said(id="a", text="2", chat_id=CHAT),
        ]
        await worker.persist([posted(stage, ours, form(added("message", *turns)))], stage.context)
        assert await shown_to_the_engine(stage, ours) == [("user", "0"), ("assistant", "1"), ("user", "2")]


async def test_two_groups_of_one_post_are_in_the_order_of_their_times(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage)
        customers = [said(id="z", text="0", chat_id=CHAT, created_at="1767225600"),
                     said(id="a", text="2", chat_id=CHAT, created_at="1767225602")]  # fmt: skip
        manager = written(id="m", text="1", chat_id=CHAT, created_at="1767225601")
        both = form(added("message", *customers), added("outgoing_message", manager))
        await worker.persist([posted(stage, ours, both)], stage.context)
        assert await shown_to_the_engine(stage, ours) == [("user", "0"), ("assistant", "1"), ("user", "2")]


async def test_posts_of_one_batch_are_in_the_order_of_their_arrival_however_the_batch_came(settings: Settings) -> None:
    start = datetime.now(UTC) - timedelta(minutes=1)
    async with staged(settings) as stage:
        ours = await add_kommo(stage)
        posts = [
            posted(stage, ours, form(added("message", fields(id=f"m{9 - n}", text=str(n), chat_id=CHAT))),
                   received_at=start + timedelta(milliseconds=n))
            for n, fields in enumerate([said, written, said, said, written, said])
        ]  # fmt: skip
        await worker.persist([posts[place] for place in (5, 0, 3, 1, 4, 2)], stage.context)
        roles = ["user", "assistant", "user", "user", "assistant", "user"]
        assert await shown_to_the_engine(stage, ours) == [(role, str(n)) for n, role in enumerate(roles)]
        assert await stage.value("SELECT count(DISTINCT created_at) FROM messages") == 6
        await worker.persist([customer(stage, ours, "6")], stage.context)  # and what comes later stands behind them
        assert (await shown_to_the_engine(stage, ours))[-1] == ("user", "6")


async def test_a_new_contact_has_its_name_though_an_agent_answers_in_the_same_post(
    settings: Settings,
) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage)
        nameless = written(id="m2", chat_id=CHAT, recipient__name=None, recipient__id=None)
        await worker.persist([posted(stage, ours, form(added("message", said(chat_id=CHAT), nameless)))], stage.context)
        assert await stage.count("messages") == 2
        name = await stage.value("SELECT name FROM contacts")
        assert name is not None
        assert name == await stage.value("SELECT contact_name FROM conversations")


async def test_two_batches_that_meet_in_two_conversations_wait_for_each_other_in_one_order(settings: Settings) -> None:
    """A customer's message here and a manager's there, and the other way round, at the same time."""
    async with staged(settings) as stage:
        ours = await add_kommo(stage)
        here, there = "chat-here", "chat-there"
        await worker.persist([customer(stage, ours, "1", here), customer(stage, ours, "2", there)], stage.context)
        async with stage.pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SELECT FROM conversations FOR UPDATE")  # both begin with a lock that is taken
            batches = [
                asyncio.create_task(
                    worker.persist_batch(
                        [customer(stage, ours, "3", one), manager(stage, ours, "4", chat_id=other)], stage.context
                    )
                )
                for one, other in ((here, there), (there, here))
            ]
            await stage.until(stage.count, "pg_locks WHERE NOT granted", equals=2)
            await transaction.rollback()
        await asyncio.gather(*batches)  # a deadlock would be one's error
        assert await stage.count("messages") == 6


async def test_answers_that_have_not_left_stay_and_what_a_person_asked_for_leaves(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage)
        await worker.persist([customer(stage, ours)], stage.context)
        conversation_id = await stage.value("SELECT id FROM conversations")
        answer = await owed(stage, ours, conversation_id, f"reply:{new_id()}")
        asked_for = await owed(stage, ours, conversation_id, f"api:{new_id()}")
        await stage.pool.execute("UPDATE conversations SET reply_lease_id = $1", new_id())
        await worker.persist([manager(stage, ours)], stage.context)
        assert (await stage.status(answer), await stage.status(asked_for)) == ("canceled", "queued")
        assert await stage.value("SELECT message_id FROM events WHERE name = 'message.canceled'") == answer
        assert await stage.value("SELECT reply_lease_id FROM conversations") is None


async def test_a_tenant_may_let_the_bot_answer_beside_its_managers(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage, {"manager": {"escalate": False}})
        await worker.persist([customer(stage, ours), manager(stage, ours)], stage.context)
        status, due = await talk(stage)
        assert status == "active"
        assert due is not None
        assert await stage.count("messages WHERE direction = 'outbound'") == 1


async def test_what_other_bots_write_is_kept_and_takes_nothing_over(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage, {"manager": {"bots": ["their bot"]}})
        await worker.persist([customer(stage, ours)], stage.context)
        await worker.persist(
            [
                manager(stage, ours, "ours", author=BOT_ID),
                manager(stage, ours, "theirs", author="their bot"),
                manager(stage, ours, "Salesbot's", author="x", author_type="bot"),
            ],
            stage.context,
        )
        assert (await talk(stage))[0] == "active"
        rows = await stage.rows("SELECT content FROM messages WHERE direction = 'outbound' ORDER BY out_seq")
        assert [row["content"] for row in rows] == ["theirs", "Salesbot's"]


async def test_without_a_bots_id_an_echo_is_known_by_what_is_under_way(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage, own_bot="")
        await worker.persist([customer(stage, ours)], stage.context)
        conversation_id = await stage.value("SELECT id FROM conversations")
        mine = await owed(stage, ours, conversation_id, "reply:1", "Hi Ana")
        await stage.pool.execute("UPDATE messages SET status = 'unknown', unknown_at = now() WHERE id = $1", mine)
        await worker.persist([manager(stage, ours, "Hi Ana")], stage.context)
        assert (await stage.status(mine), (await talk(stage))[0]) == ("sent", "active")
        await worker.persist([manager(stage, ours, "Hi Ana")], stage.context)  # nothing is under way any more
        assert (await talk(stage))[0] == "escalated"


async def test_two_channels_behind_one_endpoint_are_not_confused(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage)
        await stage.pool.execute(
            "INSERT INTO channels (tenant_id, endpoint_id, provider, kind, address, credentials) "
            "SELECT tenant_id, endpoint_id, provider, kind, 'another', credentials FROM channels WHERE id = $1", ours.id
        )  # fmt: skip
        await worker.persist([customer(stage, ours), manager(stage, ours)], stage.context)
        assert await stage.count("messages") == 0
        errors = await stage.rows("SELECT outcome, error FROM inbound_log")
        assert [row["outcome"] for row in errors] == ["unparsed", "unparsed"]
        assert all("palomar channels add" in row["error"] for row in errors)
        assert ours.address == SCOPE_ID
