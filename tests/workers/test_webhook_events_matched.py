"""Who gets which events: by name, channel, direction and tag; and each event of a webhook once."""

from typing import Final

import asyncpg

from shared import database
from shared.settings import Settings
from shared.store.events import Event
from tests.support import webhooks
from tests.support.webhook_stage import WORKERS, hooked

# The order in which deliveries are written.
NUMBERED: Final = """
CREATE SEQUENCE numbers;
GRANT USAGE ON SEQUENCE numbers TO palomar_worker;
ALTER TABLE webhook_logs ADD COLUMN number bigint DEFAULT nextval('numbers')
"""


async def test_filters_choose_by_name_channel_direction_and_tag(settings: Settings) -> None:
    async with hooked(settings) as hooks:
        stage = hooks.stage
        tenant, channel = stage.ours.tenant_id, stage.ours.id
        talk = await stage.converse()
        message = await stage.requested(talk, "hello")
        contact = await stage.pool.fetchval("SELECT contact_id FROM conversations WHERE id = $1", talk)
        await stage.pool.execute("""UPDATE contacts SET metadata = '{"tags": ["vip"]}' WHERE id = $1""", contact)
        wanted = {
            "/all": await hooks.add("/all", ("*",)),
            "/family": await hooks.add("/family", ("message_*",)),
            "/exact": await hooks.add("/exact", ("message_status_changed",)),
            "/channel": await hooks.add("/channel", ("*",), channel_ids=[channel]),
            "/out": await hooks.add("/out", ("*",), direction="outbound"),
            "/vip": await hooks.add("/vip", ("*",), tags=["vip", "other"]),
            "/other name": await hooks.add("/none1", ("contact_*",)),
            "/other channel": await hooks.add("/none2", ("*",), channel_ids=[database.new_id()]),
            "/in": await hooks.add("/none3", ("*",), direction="inbound"),
            "/poor": await hooks.add("/none4", ("*",), tags=["poor"]),
            "/inactive": await hooks.add("/none5", ("*",), is_active=False),
        }
        await stage.pool.execute("UPDATE webhook_cursor SET xid = pg_current_xact_id()")
        await webhooks.happens(
            stage.pool, Event("message.sent", tenant, channel, talk, message.message_id, detail={"number": 7})
        )
        async with stage.working(*WORKERS):
            for path in ("/all", "/family", "/exact", "/channel", "/out", "/vip"):
                await wanted[path].until(delivered=1)
        (body,) = [one.json() for one in wanted["/all"].received()]
        data = body["data"]
        assert isinstance(data, dict)
        assert (body["type"], data["message"]["content"], data["contact"]["name"]) == (
            "message_status_changed",
            "hello",
            "Ana",
        )
        assert await stage.count("webhook_logs") == 6


async def test_webhook_triggered_goes_to_whom_names_it_and_leads_to_no_other(settings: Settings) -> None:
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop", ("*",))
        audit = await hooks.add("/audit", ("webhook_triggered",))
        await audit.until(delivered=2)  # that both were created, to the shop
        await hooks.happen(1)
        await audit.until(delivered=3)
        await shop.rests()
        await hooks.stage.until(hooks.stage.count, "webhook_logs WHERE success IS NULL", equals=0)
        assert len(audit.received()) == 3
        assert not [one for one in shop.received() if one.json()["type"] == "webhook_triggered"]


async def test_an_event_is_one_delivery_however_often_it_is_matched(settings: Settings) -> None:
    async with hooked(settings) as hooks:
        shop = await hooks.add("/shop")
        before = await hooks.stage.row("SELECT xid::text, seq FROM webhook_cursor")
        await hooks.happen(5)
        for _ in range(2):
            async with hooks.stage.working(*WORKERS):
                await shop.until(delivered=5)
            await hooks.stage.pool.execute(
                "UPDATE webhook_cursor SET xid = $1::text::xid8, seq = $2", before["xid"], before["seq"]
            )
        assert len(await shop.log()) == 5
        assert sorted(shop.numbers()) == [1, 2, 3, 4, 5]


async def test_a_tenant_with_a_flood_is_matched_apart_and_loses_nothing(settings: Settings) -> None:
    async with hooked(settings) as hooks:
        other = await hooks.stage.add_channel(address="+14155550000")
        floods = [await hooks.add(f"/flood{n}") for n in range(4)]
        free = await hooks.add("/free", tenant_id=other.tenant_id)
        await hooks.happen(700)
        await hooks.happen(3, tenant_id=other.tenant_id)
        async with hooks.stage.working(*WORKERS):
            await free.until(delivered=3)
            for flood in floods:
                await flood.until(delivered=700, within=40)
        assert await hooks.stage.count("webhook_behind") == 0


async def test_others_events_are_matched_among_those_of_a_burst(settings: Settings) -> None:
    async with hooked(settings) as hooks:
        stage = hooks.stage
        other = await stage.add_channel(address="+14155550000")
        burst, free = await hooks.add("/burst"), await hooks.add("/free", tenant_id=other.tenant_id)
        owner = await asyncpg.connect(settings.database_url.get_secret_value())
        try:
            await owner.execute(NUMBERED)
        finally:
            await owner.close()
        await hooks.happen(2000)
        await hooks.happen(3, tenant_id=other.tenant_id)
        async with stage.working(*WORKERS):
            await stage.until(stage.count, "webhook_logs", equals=2003, within=40)
            await stage.until(stage.count, "webhook_behind", equals=0)
            await free.until(delivered=3)
        assert await stage.value("SELECT max(number) FROM webhook_logs WHERE webhook_id = $1", free.id) < 1000
        assert await stage.count("webhook_logs WHERE webhook_id = $1", burst.id) == 2000
