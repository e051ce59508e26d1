"""Meta says that a template is paused, rejected or approved again: the tenant's row follows, and no other one's."""

from typing import Any
from uuid import UUID

import pytest

from shared.domain.model import Template
from shared.settings import Settings
from shared.store import message_templates
from shared.store.message_templates import TemplateValues
from tests.support.meta_payloads import ACCOUNT, entry
from tests.support.meta_stage import add_app, add_number, posted
from tests.support.stage import Ours, Stage, staged
from workers.persist import worker

HERS, HIS = "100000000000002", "100000000000003"
PAUSED = {
    "event": "PAUSED", "message_template_id": 594425479261596, "message_template_name": "oferta",
    "message_template_language": "es_MX", "reason": "NONE",
    "other_info": {"title": "FIRST_PAUSE", "description": "Your template has been paused for 3 hours."},
}  # fmt: skip


async def add_template(stage: Stage, ours: Ours, **changed: Any) -> UUID:
    values: dict[str, Any] = {
        "channel_id": ours.id, "name": "oferta", "language": "es_MX", "external_id": "594425479261596",
        "category": "MARKETING", "content": "Hola", "variables": (), "status": "approved", "is_active": True,
    }  # fmt: skip
    async with stage.pool.acquire() as connection:
        return (await message_templates.insert(connection, ours.tenant_id, TemplateValues(**{**values, **changed}))).id


async def receive(stage: Stage, app: UUID, *held: dict[str, Any], **more: Any) -> None:
    event = entry(*held, field=more.pop("field", "message_template_status_update"))
    await worker.persist([posted(stage, app, event, **more)], stage.context)


async def status(stage: Stage, template_id: UUID) -> object:
    return await stage.value("SELECT status FROM message_templates WHERE id = $1", template_id)


async def test_a_template_is_paused_and_approved_again(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        hers = await add_number(stage, app, HERS, account=ACCOUNT)
        template = await add_template(stage, hers)
        await receive(stage, app, PAUSED)
        assert await status(stage, template) == "paused"
        await receive(stage, app, PAUSED)  # as Meta says it a second time
        row = await stage.row("SELECT channel_id, detail FROM events WHERE name = 'template.updated'")
        assert tuple(row) == (hers.id, {"template_id": str(template), "status": "paused"})
        announced = await stage.value("SELECT detail FROM events WHERE name LIKE 'provider.%' LIMIT 1")
        assert (announced["event"], announced["title"], "paused for 3 hours" in str(announced)) == (
            "PAUSED",
            "FIRST_PAUSE",
            False,
        )
        await receive(stage, app, {**PAUSED, "event": "APPROVED"})
        assert await status(stage, template) == "approved"
        assert await stage.count("events WHERE name = 'template.updated'") == 2


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({"external_id": None}, "paused"),  # entered by hand
        ({"external_id": None, "language": "es-mx"}, "paused"),
        ({"external_id": None, "language": "es"}, "approved"),
        ({"external_id": None, "language": None}, "approved"),
        ({"external_id": "7"}, "approved"),  # another one of this name
        ({"language": "en"}, "paused"),  # its id decides
        ({"name": "other"}, "approved"),
    ],
)
async def test_which_row_is_meant(settings: Settings, given: dict[str, Any], becomes: str) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        row = await add_template(stage, await add_number(stage, app, HERS, account=ACCOUNT), **given)
        await receive(stage, app, PAUSED)
        assert await status(stage, row) == becomes


async def test_every_number_of_the_account_follows_and_no_other_tenant(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        hers = await add_number(stage, app, HERS, account=ACCOUNT)
        second = await add_number(stage, app, "100000000000004", tenant_id=hers.tenant_id, account=ACCOUNT)
        his = await add_number(stage, app, HIS, account="77")
        rows = [await add_template(stage, ours) for ours in (hers, second, his)]
        loose = await add_template(stage, hers, channel_id=None)
        await receive(stage, app, PAUSED)
        assert [await status(stage, row) for row in (*rows, loose)] == ["paused", "paused", "approved", "approved"]


async def test_a_tenants_own_endpoint_changes_no_other_tenants_template(settings: Settings) -> None:
    async with staged(settings) as stage:
        hers = await add_number(stage, await add_app(stage), HERS, account=ACCOUNT)
        row = await add_template(stage, hers)
        own = await add_app(stage, tenant_id=stage.ours.tenant_id)
        # Its number names the same account.
        await add_number(stage, own, HIS, tenant_id=stage.ours.tenant_id, account=ACCOUNT)
        await receive(stage, own, PAUSED, tenant_id=stage.ours.tenant_id)
        assert await status(stage, row) == "approved"


async def test_the_category_follows_and_decides_the_path(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        hers = await add_number(stage, app, HERS, account=ACCOUNT)
        row = await add_template(stage, hers, category="UTILITY")
        about = (hers.tenant_id, hers.id, Template("oferta", {}, "es_MX"))
        assert not await message_templates.is_marketing(stage.pool, *about)
        change = {**PAUSED, "event": None, "previous_category": "UTILITY", "new_category": "MARKETING"}
        await receive(stage, app, change, field="template_category_update")
        found = await stage.row("SELECT category, status FROM message_templates WHERE id = $1", row)
        assert tuple(found) == ("MARKETING", "approved")
        assert await message_templates.is_marketing(stage.pool, *about)
        other = Template("oferta", {}, "en")
        assert not await message_templates.is_marketing(stage.pool, hers.tenant_id, hers.id, other)


async def test_old_news_that_is_replayed_changes_nothing(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        row = await add_template(stage, await add_number(stage, app, HERS, account=ACCOUNT))
        await receive(stage, app, PAUSED, replayed=True)
        assert await status(stage, row) == "approved"
