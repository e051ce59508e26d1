"""Whom a campaign is for: frozen once, each with an address, values, or the reason why it is skipped."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import pytest

from shared import database
from shared.actions import campaign_audience
from shared.database import Pool
from shared.settings import Settings
from shared.store.campaigns import freezing
from shared.store.campaigns.audience import Place
from tests.schema.people import Connection, Tenant, add_channel, add_conversation, add_tenant, as_worker
from tests.support.frozen_recipients import (
    Frozen,
    add_campaign,
    add_consent,
    add_contact,
    add_group,
    add_template,
    campaign_and_channel,
    freeze,
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


def phone(number: int) -> tuple[str, str]:
    return "phone", f"+34{600000000 + number}"


async def reasons(pool: Pool, worker: Connection, tenant: Tenant, campaign_id: UUID) -> dict[UUID, str | None]:
    """Contact → why it was skipped; None for one who is written to."""
    assert await freeze(pool, tenant, campaign_id)
    return {contact: one.reason for contact, one in recipients(worker, campaign_id).items()}


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


async def test_a_contact_in_several_groups_is_one_recipient(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    contacts = [add_contact(worker, tenant, phone(number)) for number in range(6)]
    groups = [add_group(worker, tenant, part) for part in (contacts[:4], contacts[2:5], contacts[5:], contacts)]
    worker.execute("UPDATE groups SET deleted_at = now() WHERE id = %s", (groups[2],))
    campaign = add_campaign(worker, tenant, recipient_type="groups", recipient_ids=groups[:3])
    for number in (0, 0, 1):  # conversations don't make it two either
        add_conversation(worker, tenant, contact_id=contacts[number])
    assert await reasons(pool, worker, tenant, campaign) == dict.fromkeys(contacts[:5])
    stored, channel = await campaign_and_channel(pool, tenant, campaign)
    assert (stored.total_recipients, stored.frozen_at is not None) == (5, True)
    counted = Counter[str]()
    async with pool.acquire() as connection:
        place: Place | None = Place()
        while place is not None:
            page = await campaign_audience.preview_page(connection, stored, channel, place)
            counted.update(page.addresses)
            place = page.next
    assert sorted(counted.values()) == [1] * 5


async def test_a_filter_lets_only_some_be_recipients(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    tagged = add_contact(worker, tenant, phone(1), metadata={"tags": ["vip", "new"]})
    other = add_contact(worker, tenant, phone(2), metadata={"tags": ["old"]})
    plain = add_contact(worker, tenant, phone(3))
    add_consent(worker, tenant, tagged, "opted_in")
    add_consent(worker, tenant, other, "opted_in", hours_ago=2)
    add_consent(worker, tenant, other, "opted_out")
    for contact, days in ((tagged, 1), (other, 10), (other, 20)):
        talk = add_conversation(worker, tenant, contact_id=contact)
        worker.execute(
            "UPDATE conversations SET last_user_message_at = timestamptz '2026-06-30' - make_interval(days => %s) "
            "WHERE id = %s",
            (days, talk),
        )
    chosen = {
        '{"tags": ["vip", "none"]}': {tagged},
        '{"tags": ["old", "vip"]}': {tagged, other},
        '{"tags": []}': {tagged, other, plain},
        '{"consent": "opted_in"}': {tagged},
        '{"last_seen_after": "2026-06-25T00:00:00Z"}': {tagged},
        '{"last_seen_before": "2026-06-25T00:00:00Z"}': {other},
        '{"last_seen_after": "2026-06-01T00:00:00Z", "last_seen_before": "2026-06-15T00:00:00Z"}': set(),
        '{"tags": ["old"], "last_seen_before": "2026-06-25T00:00:00Z"}': {other},
    }
    for text, expected in chosen.items():
        campaign = add_campaign(worker, tenant, recipient_type="all", recipient_filter=text)
        assert set(await reasons(pool, worker, tenant, campaign)) == expected, text


async def test_all_are_the_live_contacts_of_the_tenant(pool: Pool, worker: Connection) -> None:
    tenant, stranger = add_tenant(worker), add_tenant(worker)
    live = add_contact(worker, tenant, phone(1))
    add_contact(worker, tenant, phone(2), deleted_at="2026-01-01")
    theirs = add_contact(worker, stranger, phone(3))
    group = add_group(worker, stranger, [theirs])
    assert await reasons(pool, worker, tenant, add_campaign(worker, tenant, recipient_type="all")) == {live: None}
    for kind, ids in (("contacts", [theirs]), ("groups", [group]), ("contacts", []), ("groups", []), (None, [])):
        campaign = add_campaign(worker, tenant, recipient_type=kind, recipient_ids=ids)
        assert await reasons(pool, worker, tenant, campaign) == {}


async def test_another_run_is_for_those_whom_the_first_did_not_reach(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    outcomes: dict[tuple[str, str | None], bool] = {
        ("failed", "30001"): True,
        ("failed", "content"): True,
        ("failed", None): True,
        ("failed", "21211"): False,  # Twilio: no such number
        ("failed", "21610"): False,  # they have opted out
        ("canceled", "canceled"): True,
        ("skipped", "expired"): True,
        ("skipped", "opted_out"): False,
        ("skipped", "us_marketing"): False,
        ("unknown", None): False,
        **dict.fromkeys([(one, None) for one in ("pending", "queued", "held", "sent", "delivered", "replied")], False),
    }
    origin = add_campaign(worker, tenant)
    again = set()
    for number, ((status, reason), chosen) in enumerate(outcomes.items()):
        contact = add_contact(worker, tenant, phone(number))
        worker.execute(
            "INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, status, reason) "
            "VALUES (%s, %s, %s, %s, %s)",
            (tenant.id, origin, contact, status, reason),
        )
        again |= {contact} if chosen else set()
    campaign = add_campaign(worker, tenant, recipient_type="campaign", recipient_ids=[origin])
    assert set(await reasons(pool, worker, tenant, campaign)) == again
    named = add_campaign(
        worker, tenant, recipient_type="campaign", recipient_ids=[origin], recipient_filter={"statuses": ["unknown"]}
    )
    assert len(await reasons(pool, worker, tenant, named)) == 1


async def test_freezing_goes_on_where_a_killed_worker_left_it(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    contacts = [add_contact(worker, tenant, phone(number)) for number in range(23)]
    groups = [add_group(worker, tenant, part) for part in (contacts[:11], contacts[5:], contacts[:3])]
    campaign = add_campaign(worker, tenant, recipient_type="groups", recipient_ids=groups)
    stored, channel = await campaign_and_channel(pool, tenant, campaign)
    pages = 0
    done = False
    while not done:
        for commits in (False, True):  # each page first by a worker that dies before its commit
            async with pool.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                done = await campaign_audience.freeze_page(connection, stored, channel, 4)
                await (transaction.commit() if commits else transaction.rollback())
        pages += 1
    assert set(recipients(worker, campaign)) == set(contacts)
    assert pages == 3 + 5 + 1  # of 11, 18 and 3 contacts
    counts = worker.execute("SELECT sum(recipients) FROM campaign_counts WHERE campaign_id = %s", (campaign,))
    assert counts.fetchone() == (23,)
    async with pool.acquire() as connection:
        assert await campaign_audience.freeze_page(connection, stored, channel), "to repeat it changes nothing"
        assert await freezing.place(connection, tenant.id, campaign) is None


async def test_twenty_thousand_are_frozen_quickly_and_previewed_alike(
    pool: Pool, worker: Connection, settings: Settings
) -> None:
    tenant = add_tenant(worker)
    campaign = _many(worker, tenant, 20_000)
    began = time.monotonic()
    assert await freeze(pool, tenant, campaign)
    assert time.monotonic() - began < 60
    rows = worker.execute(
        "SELECT coalesce(reason, status), count(*) FROM campaign_recipients WHERE campaign_id = %s GROUP BY 1",
        (campaign,),
    ).fetchall()
    stored, channel = await campaign_and_channel(pool, tenant, campaign)
    seen, incomplete, place = Counter[str](), 0, Place()
    async with database.ApiPool(settings, process="test") as api, api.tenant_transaction(tenant.id) as connection:
        while True:
            page = await campaign_audience.preview_page(connection, stored, channel, place, 5_000)
            seen += Counter(page.skipped) + Counter(pending=page.pending)
            incomplete += len(page.incomplete)
            assert sum(page.calling_codes.values()) == page.pending
            if page.next is None:
                break
            place = page.next
    assert seen == Counter(dict(rows))
    assert incomplete == 20_000 // 100
    assert stored.total_recipients == 20_000


def _many(worker: Connection, tenant: Tenant, count: int) -> UUID:
    """A campaign to a group of so many contacts: a hundredth has no name, a hundredth no number."""
    group = add_group(worker, tenant, [])
    for statement in (
        "INSERT INTO contacts (id, tenant_id, name) SELECT md5('c' || n)::uuid, %(tenant)s, "
        "CASE WHEN n %% 100 > 0 THEN 'Ana ' || n END FROM generate_series(1, %(count)s) AS n",
        "INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) SELECT %(tenant)s, 'phone', "
        "'+34' || 600000000 + n, '', md5('c' || n)::uuid FROM generate_series(1, %(count)s) AS n WHERE n %% 100 <> 1",
        "INSERT INTO group_contacts (tenant_id, group_id, contact_id) "
        "SELECT %(tenant)s, %(group)s, md5('c' || n)::uuid FROM generate_series(1, %(count)s) AS n",
    ):
        worker.execute(statement.encode(), {"tenant": tenant.id, "group": group, "count": count})
    return add_campaign(
        worker, tenant, message="Hello {{contact.name}}", recipient_type="groups", recipient_ids=[group]
    )
