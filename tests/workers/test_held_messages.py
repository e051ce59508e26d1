"""Messages that Meta holds to check their template: marked as held, until a receipt releases or drops them."""

from typing import Any
from uuid import UUID

import pytest

from shared import database
from shared.domain.model import Template
from shared.settings import Settings
from shared.store import message_templates
from shared.store.message_templates import TemplateValues
from shared.store.messages import sends
from tests.support.meta_payloads import entry, receipt_json, value
from tests.support.meta_stage import add_app, add_number, posted
from tests.support.stage import Ours, Stage, staged
from tests.workers.test_meta_flow import opened
from workers.persist import worker

WAMID = "wamid.held"
PRICING = {"billable": True, "pricing_model": "PMP", "category": "marketing", "type": "regular"}
STORED = {"category": "marketing", "type": "regular", "billable": True}
DROPPED: dict[str, Any] = {"errors": [{"code": 132015, "title": "Template is Paused"}]}


async def add_sent(stage: Stage, ours: Ours, *, held: bool, metadata: object = None) -> UUID:
    """A message that Meta has just answered."""
    request = await stage.requested(await stage.converse(ours=ours), "hola", ours=ours)
    message_id, claim = request.message_id, database.new_id()
    await stage.pool.execute(
        "UPDATE messages SET status = 'sending', claim_id = $2, claimed_at = now(), metadata = $3 WHERE id = $1",
        message_id,
        claim,
        {"form": 1} if metadata is None else metadata,
    )
    async with stage.pool.acquire() as connection, connection.transaction():
        assert await sends.sent(connection, ours.tenant_id, message_id, claim, WAMID, held=held) == "sent"
    return message_id


async def receive(stage: Stage, ours: Ours, *statuses: dict[str, Any]) -> None:
    """One webhook with these statuses of the message."""
    items = [receipt_json(**{"id": WAMID, **one}) for one in statuses]
    of_number = value(statuses=tuple(items), phone_number_id=ours.address)
    await worker.persist([posted(stage, ours.endpoint_id, entry(of_number))], stage.context)


@pytest.mark.parametrize(
    ("statuses", "becomes", "error", "pricing"),
    [
        ([{"status": "sent"}], "sent", None, None),
        ([{"status": "sent", "pricing": PRICING}], "sent", None, STORED),
        ([{"status": "delivered", "pricing": PRICING}], "delivered", None, STORED),
        ([{"status": "read"}], "read", None, None),
        ([{"status": "delivered", "pricing": PRICING}, {"status": "read"}], "read", None, STORED),
        ([{"status": "failed", **DROPPED}], "failed", "132015", None),
    ],
)
async def test_any_receipt_ends_the_hold(
    settings: Settings, statuses: list[dict[str, Any]], becomes: str, error: str | None, pricing: object
) -> None:
    async with staged(settings) as stage:
        ours = await add_number(stage, await add_app(stage), "100000000000002")
        message = await add_sent(stage, ours, held=True)
        assert (await stage.message(message))["metadata"] == {"form": 1, "held": "quality"}
        await receive(stage, ours, *statuses)
        row = await stage.message(message)
        assert (row["status"], row["error_code"]) == (becomes, error)
        assert row["metadata"] == {"form": 1, **({"pricing": pricing} if pricing else {})}
        assert await stage.value("SELECT detail FROM events WHERE name LIKE 'message.%'") == (
            {"held": False} if becomes == "sent" else {"error_code": error} if error else {}
        )


async def test_a_receipt_sent_of_a_message_that_is_not_held_changes_nothing(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_number(stage, await add_app(stage), "100000000000002")
        message = await add_sent(stage, ours, held=False)
        before = await stage.message(message)
        await receive(stage, ours, {"status": "sent", "pricing": PRICING})
        assert await stage.message(message) == before
        assert await stage.count("events WHERE name = 'message.sent'") == 0


@pytest.mark.parametrize("together", [True, False])
async def test_a_price_that_comes_after_the_last_state_is_stored_all_the_same(
    settings: Settings, together: bool
) -> None:
    async with staged(settings) as stage:
        ours = await add_number(stage, await add_app(stage), "100000000000002")
        message = await add_sent(stage, ours, held=False)
        read, delivered = {"status": "read"}, {"status": "delivered", "pricing": PRICING}
        await receive(stage, ours, *((read, delivered) if together else (read,)))
        before = await stage.message(message)
        if not together:
            await receive(stage, ours, delivered)
            await receive(stage, ours, {"status": "sent", "pricing": {**PRICING, "category": "utility"}})
        after = await stage.message(message)
        assert after["metadata"] == {"form": 1, "pricing": STORED}
        assert {**after, "metadata": 0, "updated_at": 0} == {**before, "metadata": 0, "updated_at": 0}
        assert await stage.count("events WHERE name LIKE 'message.%'") == 1


async def test_an_answer_that_its_receipt_overtakes_holds_nothing(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await add_number(stage, await add_app(stage), "100000000000002")
        message = await add_sent(stage, ours, held=False)
        async with stage.pool.acquire() as connection, connection.transaction():
            await sends.sent(connection, ours.tenant_id, message, None, WAMID, held=True)
        assert (await stage.message(message))["metadata"] == {"form": 1}


@pytest.mark.parametrize("metadata", [[], ["held"], "held", 7])
async def test_a_row_with_other_metadata_is_moved_all_the_same(settings: Settings, metadata: object) -> None:
    async with staged(settings) as stage:
        ours = await add_number(stage, await add_app(stage), "100000000000002")
        message = await add_sent(stage, ours, held=True, metadata=metadata)
        await receive(stage, ours, {"status": "delivered", "pricing": PRICING})
        row = await stage.message(message)
        assert (row["status"], row["metadata"]) == ("delivered", metadata)


async def test_a_held_message_is_sent_once_meta_releases_it(settings: Settings) -> None:
    async with opened(settings, {"reply": {"engine": "none"}}) as door:
        stage = door.stage
        await door.writes("hola")
        await stage.until(stage.count, "messages", equals=1)
        conversation = await stage.value("SELECT id FROM conversations")
        await stage.sandbox.quality("oferta", "hold")
        message = await stage.owe(
            conversation, ours=door.ours, template=Template("oferta", {}, "es_MX"), lane="bulk", dedupe_key="offer"
        )
        await stage.until(stage.status, message, equals="sent")
        assert (await stage.message(message))["metadata"]["held"] == "quality"
        assert await stage.value(
            "SELECT detail FROM events WHERE message_id = $1 AND name = 'message.sent'", message
        ) == {"held": True}
        assert (await stage.sandbox.quality("oferta", "release")).held == 1
        await stage.until(stage.status, message, equals="read")
        metadata = (await stage.message(message))["metadata"]
        assert "held" not in metadata
        assert metadata["pricing"] == {"category": "marketing", "type": "regular", "billable": True}


@pytest.mark.parametrize(
    ("path", "used", "marketing"),
    [
        ("marketing_messages", "order_update", True),
        ("marketing_messages", "hello_world", False),  # it is no marketing
        ("marketing_messages", "unheard_of", False),
        ("messages", "order_update", False),
    ],
)
async def test_the_channels_setting_chooses_the_path_of_marketing_templates(
    settings: Settings, path: str, used: str, marketing: bool
) -> None:
    channel: dict[str, object] = {"reply": {"engine": "none"}, "meta": {"marketing_path": path}}
    async with opened(settings, channel) as door:
        stage, ours = door.stage, door.ours
        for name, category in (("order_update", "MARKETING"), ("hello_world", "UTILITY")):
            values = TemplateValues(ours.id, name, "en_US", name, category, "", (), "approved", is_active=True)
            async with stage.pool.acquire() as connection:
                await message_templates.insert(connection, ours.tenant_id, values)
        conversation = await stage.converse(ours=ours)
        message = await stage.owe(conversation, ours=ours, template=Template(used, {}, "en_US"), dedupe_key="offer")
        await stage.until(stage.count, "messages WHERE sent_at IS NOT NULL", equals=1)
        (seen,) = await stage.sandbox.messages()
        assert (seen.opaque, seen.content_sid, seen.marketing) == (str(message), used, marketing)
