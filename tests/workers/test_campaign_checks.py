"""A campaign that would fail for all of its recipients does not start: each reason names a field and a remedy."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared import database
from shared.actions import campaign_checks
from shared.actions.campaign_checks import Wrong
from shared.database import Pool
from shared.settings import Settings
from tests.schema.people import Connection, Tenant, add_channel, add_tenant, as_worker
from tests.support.frozen_recipients import add_campaign, add_contact, add_group, add_template, campaign_and_channel

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FREE_FORM = {"settings": {"free_form": True}}


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    async with database.make_pool(settings, process="test", size=1) as made:
        yield made


@pytest.fixture
def worker(database_url: str) -> Iterator[Connection]:
    with as_worker(database_url) as connection:
        yield connection


async def wrongs(pool: Pool, worker: Connection, tenant: Tenant, **columns: Any) -> list[Wrong]:
    """What is wrong with a campaign to all contacts of the tenant."""
    campaign_id = add_campaign(worker, tenant, **{"recipient_type": "all", **columns})
    campaign, channel = await campaign_and_channel(pool, tenant, campaign_id)
    async with pool.acquire() as connection:
        found = await campaign_checks.wrongs(connection, campaign, channel, NOW)
    assert all(wrong.reason.endswith(".") and wrong.remedy.endswith(".") for wrong in found)
    return found


def fields(found: list[Wrong]) -> list[str]:
    return [".".join(wrong.field) for wrong in found]


CONTENT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a text in open windows": (FREE_FORM, []),
    "a text alone, as the documents show it": ({}, []),
    "a placeholder that is none": ({**FREE_FORM, "message": "Hello {{name}}"}, ["message"]),
    "a text that is too long": ({**FREE_FORM, "message": "x" * 1601}, ["message"]),
    "a text of blanks": ({**FREE_FORM, "message": " \u200b"}, ["message"]),
    "buttons, which Twilio does not send": (
        {**FREE_FORM, "interactive": {"buttons": [{"id": "a", "title": "Yes"}]}},
        ["interactive"],
    ),
    "buttons that are none": ({**FREE_FORM, "interactive": {"buttons": 5}}, ["interactive"]),
    "an end that has passed": (
        {"settings": {"free_form": True, "ends_at": (NOW - timedelta(days=1)).isoformat()}},
        ["settings.ends_at"],
    ),
    "settings that can't be read": ({"settings": {"rate": -1}}, ["settings"]),
    "a filter that can't be read": ({**FREE_FORM, "recipient_filter": {"consent": "x"}}, ["recipient_filter"]),
    "a filter that no contact passes": (
        {
            **FREE_FORM,
            "recipient_filter": {"last_seen_after": NOW.isoformat(), "last_seen_before": NOW.isoformat()},
        },
        ["recipient_filter"],
    ),
    "no choice of recipients": ({**FREE_FORM, "recipient_type": None}, ["recipient_type"]),
    "no group": ({**FREE_FORM, "recipient_type": "groups"}, ["recipient_ids"]),
    "no contact": ({**FREE_FORM, "recipient_type": "contacts"}, ["recipient_ids"]),
    "a group that is not there": (
        {**FREE_FORM, "recipient_type": "groups", "recipient_ids": [uuid4()]},
        ["recipient_ids"],
    ),
    "no other campaign": ({**FREE_FORM, "recipient_type": "campaign"}, ["recipient_ids"]),
    "two campaigns": (
        {**FREE_FORM, "recipient_type": "campaign", "recipient_ids": [uuid4(), uuid4()]},
        ["recipient_ids"],
    ),
    "all, and some by name": ({**FREE_FORM, "recipient_ids": [uuid4()]}, ["recipient_ids"]),
    "several at once": (
        {"message": "{{x}}", "recipient_type": None},
        ["recipient_type", "message"],
    ),
}


@pytest.mark.parametrize("case", CONTENT)
async def test_what_is_wrong_with_a_text_is_named(case: str, pool: Pool, worker: Connection) -> None:
    columns, expected = CONTENT[case]
    assert fields(await wrongs(pool, worker, add_tenant(worker), **columns)) == expected


TEMPLATES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "approved": ({}, []),
    "not approved yet": ({"status": "pending"}, ["message_template_id"]),
    "paused": ({"status": "paused"}, ["message_template_id"]),
    "not active": ({"is_active": False}, ["message_template_id"]),
    "deleted": ({"deleted_at": NOW}, ["message_template_id"]),
    "without a language": ({"language": None}, ["message_template_id"]),
    "a text of the tenant's own": ({"channel_id": None, "external_id": None}, ["message_template_id"]),
    "with a variable of which nothing is said": ({"content": "{{1}} {{2}}"}, ["variables.2"]),
    "without the variable of which something is said": ({"is_synced": True, "content": "Hello"}, ["variables.1"]),
}


@pytest.mark.parametrize("case", TEMPLATES)
async def test_what_is_wrong_with_a_template_is_named(case: str, pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker, provider="meta")
    columns, expected = TEMPLATES[case]
    template = add_template(worker, tenant, **{"content": "Hello {{1}}", **columns})
    content = {"message_template_id": template, "variables": {"1": "{{contact.name|you}}"}}
    assert fields(await wrongs(pool, worker, tenant, **content)) == expected


async def test_variables_are_texts_with_placeholders_that_there_are(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker, provider="meta")
    template = add_template(worker, tenant, content="{{1}} {{2}} {{3}} {{4}}")
    variables = {"1": 5, "2": "{{1}}", "3": "x" * 1025, "4": "{{data.code}}"}
    found = fields(await wrongs(pool, worker, tenant, message_template_id=template, variables=variables))
    assert found == ["variables.1", "variables.2", "variables.3"]


async def test_a_template_of_another_channel_or_provider_is_named(pool: Pool, worker: Connection) -> None:
    tenant, kommo = add_tenant(worker), add_tenant(worker, provider="kommo")
    other = uuid4()
    add_channel(worker, tenant.id, other, tenant.endpoint_id, provider="twilio", kind="sms")
    theirs = add_template(worker, tenant, channel_id=other)
    assert fields(await wrongs(pool, worker, tenant, message_template_id=theirs)) == ["message_template_id"]
    template = add_template(worker, kommo)
    assert fields(await wrongs(pool, worker, kommo, message_template_id=template)) == ["message_template_id"]
    assert await wrongs(pool, worker, kommo) == []  # it takes a text at any time


async def test_two_templates_on_trial_take_the_same_variables(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    first, same, more = (
        add_template(worker, tenant, content=text) for text in ("Hello {{1}}", "Hi {{1}}", "Hi {{1}} {{2}}")
    )
    at = "settings.comparison.template_id"
    for other, expected in ((same, []), (more, [at]), (first, [at]), (uuid4(), [at])):
        settings = {"comparison": {"template_id": str(other)}}
        content = {"message_template_id": first, "variables": {"1": "Ana"}, "settings": settings}
        assert fields(await wrongs(pool, worker, tenant, **content)) == expected


async def test_a_stopped_or_deleted_channel_sends_no_campaign(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    campaign, _ = await campaign_and_channel(pool, tenant, add_campaign(worker, tenant, recipient_type="all"))
    async with pool.acquire() as connection:
        assert fields(await campaign_checks.wrongs(connection, campaign, None, NOW)) == ["whatsapp_instance_id"]
    worker.execute("UPDATE channels SET status = 'stopped' WHERE id = %s", (tenant.channel_id,))
    assert fields(await wrongs(pool, worker, tenant, **FREE_FORM)) == ["whatsapp_instance_id"]


async def test_recipients_are_taken_over_from_a_campaign_that_has_ended(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    for status, expected in (("completed", []), ("canceled", []), ("running", ["recipient_ids"])):
        origin = add_campaign(worker, tenant, status=status)
        again = {**FREE_FORM, "recipient_type": "campaign", "recipient_ids": [origin]}
        assert fields(await wrongs(pool, worker, tenant, **again)) == expected


async def test_one_group_or_contact_that_is_left_is_enough(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    group, contact = add_group(worker, tenant, []), add_contact(worker, tenant)
    gone = add_contact(worker, tenant, deleted_at=NOW)
    chosen: list[tuple[str, list[UUID], list[str]]] = [
        ("groups", [group, uuid4()], []),
        ("contacts", [contact, gone], []),
        ("contacts", [gone], ["recipient_ids"]),
    ]
    for kind, ids, expected in chosen:
        found = await wrongs(pool, worker, tenant, **FREE_FORM, recipient_type=kind, recipient_ids=ids)
        assert fields(found) == expected
