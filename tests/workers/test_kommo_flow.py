"""The whole way at Kommo: a CRM webhook in, the answer out by the Chats API, a manager who takes over."""

from shared.settings import Settings
from tests.support.kommo_stage import CHAT, opened


async def test_a_customer_is_answered_once_and_the_echo_is_no_manager(settings: Settings) -> None:
    async with opened(settings) as door:
        stage = door.stage
        answer = await door.says("customer", "hola", times=3)
        assert [delivery.status for delivery in answer.deliveries] == [200] * 3
        await stage.until(stage.statuses, equals=["sent"])
        # Its echo has come as a CRM webhook, and changed nothing.
        await stage.until(stage.count, "inbound_log", equals=2)
        (seen,) = await door.answers()
        assert seen.body == "Hi Ana"
        row = await stage.row("SELECT * FROM messages WHERE direction = 'outbound'")
        assert (row["external_id"], row["status"]) == (seen.sid, "sent")
        talk = await stage.row("SELECT * FROM conversations")
        assert (talk["kommo_chat_id"], talk["address"], talk["status"]) == (CHAT, CHAT, "active")
        assert talk["recipient"].startswith(f"{CHAT} ")
        address = await stage.row("SELECT kind, canonical FROM contact_addresses")
        assert tuple(address) == ("kommo_chat", CHAT)
        assert await stage.dead_letters() == {}


async def test_a_manager_who_writes_takes_the_conversation_over(settings: Settings) -> None:
    async with opened(settings) as door:
        stage = door.stage
        await door.says("customer", "hola")
        await stage.until(stage.statuses, equals=["sent"])
        # The same message comes by both of Kommo's webhooks.
        for through in ("chats", "crm"):
            await door.says("manager", "I am Eva, how can I help?", through=through, message_id="from Eva")
        await stage.until(door.conversation_status, equals="escalated")
        await door.says("customer", "precios")
        await stage.until(stage.count, "messages WHERE direction = 'inbound'", equals=2)
        await stage.until(stage.count, "inbound_log", equals=5)  # the echo of the answer too
        assert [m.body for m in await door.answers()] == ["Hi Ana"]
        await stage.until(stage.count, "messages WHERE status = 'delivered'", equals=1)  # as was reported to Kommo
        kept = await stage.row("SELECT * FROM messages WHERE external_id = 'from Eva'")
        assert (kept["direction"], kept["role"], kept["status"]) == ("outbound", "assistant", "delivered")
        assert kept["content"] == "I am Eva, how can I help?"
        assert kept["metadata"]["manager"]["name"] == "Manager"
        assert kept["due_at"] is None
        talk = await stage.row("SELECT * FROM conversations")
        assert (talk["reply_due_at"], talk["unread_count"]) == (None, 2)
        names = [row["name"] for row in await stage.rows("SELECT name FROM events ORDER BY seq")]
        assert names.count("conversation.escalated") == names.count("message.recorded") == 1

        # Given back, the bot answers again, and the manager's old message takes nothing over anew.
        await stage.pool.execute("UPDATE conversations SET status = 'active'")
        await door.says("manager", "I am Eva, how can I help?", message_id="from Eva", author_type="user")
        await door.says("customer", "hola?")
        await stage.until(stage.statuses, equals=["sent", "delivered", "sent"])
        assert await door.conversation_status() == "active"


async def test_a_send_nobody_knows_of_is_resolved_by_its_echo_and_not_repeated(settings: Settings) -> None:
    async with opened(settings) as door:
        await door.stage.sandbox.faults({"provider": "kommo", "action": "accept_then_drop", "times": 1})
        await door.says("customer", "hola")
        await door.stage.until(door.stage.statuses, equals=["sent"])
        (seen,) = await door.answers()
        assert not seen.answered
        assert await door.stage.value("SELECT external_id FROM messages WHERE direction = 'outbound'") == seen.sid


async def test_a_send_nobody_knows_of_is_found_in_the_chats_history(settings: Settings) -> None:
    quick = settings.model_copy(update={"unknown_check_after": 0.5})
    async with opened(quick) as door:
        await door.stage.sandbox.kommo_channel(door.ours.address, echoes=False)
        await door.stage.sandbox.faults({"provider": "kommo", "action": "accept_then_drop", "times": 1})
        await door.says("customer", "hola")
        await door.stage.until(door.stage.statuses, equals=["sent"], within=30)
        assert len(await door.answers()) == 1


async def test_a_secret_that_kommo_refuses_stops_the_channel(settings: Settings) -> None:
    async with opened(settings) as door:
        await door.stage.sandbox.kommo_channel(door.ours.address, secret="another")
        await door.says("customer", "hola")
        await door.stage.until(door.stage.count, "channels WHERE status = 'stopped' AND provider = 'kommo'", equals=1)
        assert await door.stage.statuses() == ["ready"]
