"""Whom a campaign is for: frozen once, each with an address, values, or the reason why it is skipped."""

from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import pytest

from shared import database
from shared.database import Pool
from shared.settings import Settings
from tests.schema.people import Connection, add_channel, add_conversation, add_tenant, as_worker
from tests.support.frozen_recipients import (
    Frozen,
    add_campaign,
    add_consent,
    add_contact,
    add_template,
    freeze,
    phone,
    reasons,
    recipients,
)


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    async with database.make_pool(settings, process="test", size=2) as made:
        yield made


@pytest.fixture
def worker(database_url: str) -> Iterator[Connection]:
    with as_worker(database_url) as connection:
        yield connection


async def test_each_reason_to_skip_a_contact_is_found(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    expected: dict[UUID, str | None] = {
        add_contact(worker, tenant, phone(1)): None,
        add_contact(worker, tenant, phone(2), deleted_at="2026-01-01"): "deleted",
        add_contact(worker, tenant, phone(3), is_active=False): "inactive",
        add_contact(worker, tenant, phone(4), is_active=False, deleted_at="2026-01-01"): "deleted",
        add_contact(worker, tenant, ("email", "a@b.example")): "no_address",
        add_contact(worker, tenant, ("user_id", "US.1")): "no_address",  # Twilio has no such
        add_contact(worker, tenant, ("phone", "12345")): "no_address",  # a short code is no person's
        add_contact(worker, tenant, phone(5), name=" \t"): "missing_variables",
        add_contact(worker, tenant, phone(6), name=None): "missing_variables",
    }
    campaign = add_campaign(
        worker, tenant, message="Hello {{contact.name}}", recipient_type="contacts", recipient_ids=list(expected)
    )
    assert await reasons(pool, worker, tenant, campaign) == expected


async def test_an_opt_out_counts_by_the_newest_entry_of_each_scope(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    ledger: dict[tuple[tuple[str, str], ...], str | None] = {
        (("opted_out", "all"),): "opted_out",
        (("opted_out", "marketing"),): "opted_out",
        (("opted_out", "blocked"),): "opted_out",
        (("opted_out", "all"), ("opted_in", "all")): None,
        (("opted_in", "all"), ("opted_out", "all")): "opted_out",
        (("opted_out", "marketing"), ("opted_in", "all")): "opted_out",
        (("opted_out", "marketing"), ("opted_in", "marketing")): None,
        (("opted_in", "all"),): None,
    }
    expected = {}
    for number, (entries, reason) in enumerate(ledger.items()):
        contact = add_contact(worker, tenant, phone(number))
        for place, (state, scope) in enumerate(entries):
            add_consent(worker, tenant, contact, state, scope, hours_ago=9 - place)
        expected[contact] = reason
    returned = add_contact(worker, tenant, phone(99))  # who blocked us and wrote since
    add_consent(worker, tenant, returned, "opted_out", "blocked", hours_ago=2)
    worker.execute(
        "UPDATE conversations SET contact_id = %s, last_user_message_at = now() WHERE id = %s",
        (returned, add_conversation(worker, tenant)),
    )
    campaign = add_campaign(worker, tenant, recipient_type="all")
    assert await reasons(pool, worker, tenant, campaign) == {**expected, returned: None}


@pytest.mark.parametrize(
    ("category", "own", "skipped"),
    [
        ("MARKETING", {}, {"+12025550123", "+15005550123", "+12015550100"}),
        ("marketing", {"free_form": True}, {"+12025550123", "+15005550123"}),
        ("UTILITY", {}, set()),
        (None, {}, set()),
    ],
)
async def test_numbers_of_the_united_states_get_no_marketing_template(
    pool: Pool, worker: Connection, category: str | None, own: dict[str, object], skipped: set[str]
) -> None:
    tenant = add_tenant(worker, provider="meta")
    numbers = ["+12025550123", "+15005550123", "+14165550123", "+18765550123", "+17875550123", "+5215550123", "+34600"]
    for number in numbers:
        add_contact(worker, tenant, ("phone", number))
    writes = add_contact(worker, tenant, ("phone", "+12015550100"))  # in an open window, where free form needs none
    worker.execute(
        "UPDATE conversations SET contact_id = %s, last_user_message_at = now() WHERE id = %s",
        (writes, add_conversation(worker, tenant, provider="meta")),
    )
    template = add_template(worker, tenant, category=category)
    campaign = add_campaign(worker, tenant, recipient_type="all", message_template_id=template, settings=own)
    assert await freeze(pool, tenant, campaign)
    found = recipients(worker, campaign).values()
    assert {one.address for one in found if one.reason == "us_marketing"} == skipped
    assert len(found) == len(numbers) + 1


async def test_the_address_is_one_by_which_the_channel_reaches_the_contact(pool: Pool, worker: Connection) -> None:
    reached: dict[tuple[str, str], list[str | None]] = {
        ("twilio", "whatsapp"): ["+34600000001", "+34600000003", None, None],
        ("meta", "whatsapp"): ["+34600000001", "+34600000003", "ES.1", None],
        ("twilio", "sms"): ["+34600000001", "+34600000003", None, None],
        ("email", "email"): ["a@b.example", None, None, "d@b.example"],
        ("kommo", "whatsapp"): [None, None, None, "chat-1"],
    }
    for (provider, kind), addresses in reached.items():
        tenant = add_tenant(worker, provider=provider, kind=kind)
        contacts = [
            add_contact(worker, tenant, ("email", "a@b.example"), phone(1), phone(2)),
            add_contact(worker, tenant, phone(4), phone(3), ("user_id", "ES.0"), phone_number="+34600000003"),
            add_contact(worker, tenant, ("user_id", "ES.1")),
            add_contact(worker, tenant, ("email", "d@b.example"), ("kommo_chat", "chat-0"), ("kommo_chat", "chat-1")),
        ]
        if provider == "kommo":
            other = uuid4()
            add_channel(worker, tenant.id, other, tenant.endpoint_id, provider=provider, kind=kind)
            for chat, channel in (("chat-0", other), ("chat-1", tenant.channel_id)):
                add_conversation(worker, tenant, channel, provider="kommo", kommo_chat_id=chat, contact_id=contacts[3])
        campaign = add_campaign(worker, tenant, recipient_type="contacts", recipient_ids=contacts)
        assert await freeze(pool, tenant, campaign)
        found = recipients(worker, campaign)
        assert [found[contact].address for contact in contacts] == addresses, provider


async def test_values_are_frozen_as_they_were(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    metadata = {"city": "Jerez", "n": 5, "vip": True, "nested": {"a": 1}, "none": None, "long": "x" * 5000}
    ana = add_contact(worker, tenant, phone(1), ("email", "ana@b.example"), name=" {{data.code}} ", metadata=metadata)
    eva = add_contact(worker, tenant, phone(2), phone_number="+34600000002", metadata={"city": " "})
    text = (
        "{{contact.name}} {{contact.phone}} {{contact.email|-}} {{contact.metadata.city|-}} {{contact.metadata.n|-}} "
        "{{contact.metadata.vip|-}} {{contact.metadata.nested|-}} {{contact.metadata.none|-}} "
        "{{contact.metadata.long|-}} {{data.code|-}}"
    )
    campaign = add_campaign(
        worker, tenant, message=text, recipient_type="all", message_data={str(ana).upper(): {"code": "X1"}}
    )
    assert await freeze(pool, tenant, campaign)
    worker.execute("UPDATE contacts SET name = 'Other' WHERE tenant_id = %s", (tenant.id,))
    assert recipients(worker, campaign) == {
        ana: Frozen(
            "pending",
            None,
            "+34600000001",
            {
                "contact.name": "{{data.code}}",
                "contact.phone": "+34600000001",
                "contact.email": "ana@b.example",
                "contact.metadata.city": "Jerez",
                "contact.metadata.n": "5",
                "contact.metadata.vip": "true",
                "contact.metadata.long": "x" * 1024,
                "data.code": "X1",
            },
        ),
        eva: Frozen("pending", None, "+34600000002", {"contact.name": "Ana", "contact.phone": "+34600000002"}),
    }


async def test_only_texts_that_are_sent_need_values(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    contact = add_contact(worker, tenant, phone(1))
    content = {
        "message": "{{data.unknown}}", "message_template_id": add_template(worker, tenant), "recipient_type": "all",
        "variables": {"1": "{{contact.name}}"},
    }  # fmt: skip
    template_only = add_campaign(worker, tenant, **content)
    both = add_campaign(worker, tenant, **content, settings={"free_form": True})
    assert await reasons(pool, worker, tenant, template_only) == {contact: None}
    assert await reasons(pool, worker, tenant, both) == {contact: "missing_variables"}
