"""The delivery status of agents' messages, reported to Kommo: delivered once they are stored, or why not."""

from collections.abc import Awaitable, Callable

from ops.sandbox.observations import SeenReport
from shared.queue.jobs import AgentReportDue
from shared.settings import Settings
from tests.support.kommo_stage import Open, opened
from workers.send import worker

OF_REPORTS = {"provider": "kommo", "match": {"body_contains": "delivery status"}}


async def taken(door: Open) -> list[SeenReport]:
    return [one for one in await door.stage.sandbox.kommo_reports() if one.outcome == "accepted"]


async def said(door: Open, message_id: str, through: str = "chats", text: str = "I am Eva") -> None:
    await door.says("manager", text, through=through, message_id=message_id)


def settled_of(door: Open, message_id: str) -> Callable[[], Awaitable[str]]:
    async def status() -> str:
        return str(await door.stage.value("SELECT status FROM messages WHERE external_id = $1", message_id))

    return status


async def settled(door: Open, message_id: str) -> tuple[str, object, int]:
    row = await door.stage.row("SELECT status, due_at, attempts FROM messages WHERE external_id = $1", message_id)
    return row["status"], row["due_at"], row["attempts"]


async def test_what_a_manager_writes_in_our_channel_is_delivered_once_it_is_kept(settings: Settings) -> None:
    async with opened(settings) as door:
        # The CRM has reported it before; and it reports messages of other channels, whose status is not ours to report.
        for through in ("crm", "chats"):
            await said(door, "from-eva", through)
        await said(door, "elsewhere", "crm")
        await door.stage.until(settled_of(door, "from-eva"), equals="delivered")
        (report,) = await taken(door)
        assert (report.message_id, report.status, report.error) == ("from-eva", 1, None)
        assert await settled(door, "elsewhere") == ("sent", None, 0)
        assert await door.conversation_status() == "escalated"
        history = await door.stage.rows("SELECT status, applied FROM message_statuses")
        assert [tuple(row) for row in history] == [("delivered", True)]
        assert await door.stage.count("events WHERE name = 'message.delivered'") == 1

        # Told again, by a webhook that is not the same one, it is not reported again.
        await said(door, "from-eva", text="I am Eva, once more")
        await door.stage.until(door.stage.count, "inbound_log", equals=4)
        assert await settled(door, "from-eva") == ("delivered", None, 0)
        assert len(await taken(door)) == 1


async def test_an_agents_message_after_an_opt_out_is_reported_as_an_error(settings: Settings) -> None:
    async with opened(settings) as door:
        await door.says("customer", "STOP")
        await door.stage.until(door.stage.count, "consents", equals=1)
        await said(door, "from-eva")
        await door.stage.until(settled_of(door, "from-eva"), equals="failed")
        (report,) = await taken(door)
        assert (report.status, report.error) == (-1, 905)
        assert "opted out" in report.problem
        row = await door.stage.row("SELECT error_code, due_at FROM messages WHERE external_id = 'from-eva'")
        assert tuple(row) == ("opted_out", None)


async def test_a_report_that_is_not_taken_is_made_again_and_stops_no_channel(settings: Settings) -> None:
    async with opened(settings) as door:
        await door.stage.sandbox.faults(
            OF_REPORTS | {"id": "a", "action": "5xx", "status": 503, "times": 1},
            OF_REPORTS | {"id": "b", "action": "error", "status": 403, "code": 403, "times": 1},
        )
        await said(door, "from-eva")
        await door.says("customer", "hola", chat_id="another-chat")  # whose answer waits for nothing of this
        await door.stage.until(settled_of(door, "from-eva"), equals="delivered", within=20)
        assert [one.outcome for one in await door.stage.sandbox.kommo_reports()] == ["refused", "refused", "accepted"]
        assert await door.stage.value("SELECT status FROM channels WHERE provider = 'kommo'") == "active"
        assert [m.body for m in await door.answers("another-chat")] == ["Hi Ana"]


async def test_a_report_that_can_never_be_taken_is_given_up(settings: Settings) -> None:
    async with opened(settings) as door:
        await door.stage.sandbox.faults(OF_REPORTS | {"action": "error", "status": 400, "code": 400})
        await said(door, "from-eva")

        async def given_up() -> tuple[str, object, int]:
            return await settled(door, "from-eva") if await door.stage.count("messages") else ("", None, 0)

        await door.stage.until(given_up, equals=("sent", None, 1))
        assert len(await door.stage.sandbox.kommo_reports()) == 1
        assert await door.stage.dead_letters() == {}


async def test_a_tenant_may_have_nothing_reported(settings: Settings) -> None:
    async with opened(settings, {"manager": {"report": False}}) as door:
        await said(door, "from-eva")
        await said(door, "second")
        await door.stage.until(door.stage.count, "messages", equals=2)
        assert await door.stage.count("messages WHERE due_at IS NOT NULL OR status <> 'sent'") == 0
        assert await door.stage.sandbox.kommo_reports() == ()


async def test_a_report_whose_job_is_dead_lettered_is_made_later_all_the_same(settings: Settings) -> None:
    async with opened(settings) as door:
        await door.stage.sandbox.faults({**OF_REPORTS, "action": "5xx", "status": 503, "times": 1})
        await said(door, "from-eva")
        await door.stage.until(door.stage.count, "messages WHERE attempts = 1", equals=1)
        row = await door.stage.row("SELECT tenant_id, id, conversation_id FROM messages")
        about = {"tenant_id": row["tenant_id"], "conversation_id": row["conversation_id"], "message_id": row["id"]}
        assert worker.worker.postponing is not None
        await worker.worker.postponing(AgentReportDue(**about, provider="kommo"), door.stage.context, None)  # type: ignore[arg-type]
        assert await door.stage.count("messages WHERE due_at > now() + interval '1 minute'") == 1
