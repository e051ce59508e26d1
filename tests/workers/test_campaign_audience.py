"""Whom a campaign chooses from: groups, contacts, all, or another campaign's recipients; filtered, and in pages."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest

from shared import database
from shared.actions import campaign_audience
from shared.database import Pool
from shared.settings import Settings
from shared.store.campaigns import freezing
from shared.store.campaigns.audience import Place
from shared.store.campaigns.preview import Incomplete
from tests.schema.people import Connection, Tenant, add_conversation, add_tenant, as_worker
from tests.support.frozen_recipients import (
    add_campaign,
    add_consent,
    add_contact,
    add_group,
    campaign_and_channel,
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


async def test_persist_waits_for_no_lock_of_a_page(pool: Pool, worker: Connection) -> None:
    """What it changes of a contact or conversation is no key, and a page locks nothing but the contacts' keys."""
    tenant = add_tenant(worker)
    contact = add_contact(worker, tenant, phone(1))
    talk = add_conversation(worker, tenant, contact_id=contact)
    campaign = add_campaign(worker, tenant, recipient_type="all")
    stored, channel = await campaign_and_channel(pool, tenant, campaign)
    worker.execute("SET lock_timeout = '50ms'")
    async with pool.acquire() as connection, connection.transaction():
        assert await campaign_audience.freeze_page(connection, stored, channel)
        worker.execute("SELECT FROM conversations WHERE id = %s FOR NO KEY UPDATE", (talk,))
        worker.execute("UPDATE contacts SET name = 'Eva', deleted_at = NULL WHERE id = %s", (contact,))
        worker.execute(
            "INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) VALUES (%s, %s, %s, '', %s)",
            (tenant.id, "user_id", "ES.1", contact),
        )


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


async def test_a_preview_names_what_is_missing_and_writes_nothing(pool: Pool, worker: Connection) -> None:
    tenant = add_tenant(worker)
    ana = add_contact(worker, tenant, phone(1))
    nameless = add_contact(worker, tenant, ("phone", "+5215550123"), name=None)
    add_contact(worker, tenant, ("phone", "+12025550123"), is_active=False)
    text = "{{contact.name}} {{contact.phone}} {{data.code}} {{contact.email|-}}"
    facts = {str(ana): {"code": "X1"}}
    campaign = add_campaign(worker, tenant, message=text, recipient_type="all", message_data=facts)
    stored, channel = await campaign_and_channel(pool, tenant, campaign)
    async with pool.acquire() as connection:
        page = await campaign_audience.preview_page(connection, stored, channel, Place())
        beyond = await campaign_audience.preview_page(connection, stored, channel, Place(7))
    assert (page.pending, page.addresses, page.calling_codes) == (1, ["+34600000001"], {"+34": 1})
    assert page.skipped == {"missing_variables": 1, "inactive": 1}
    assert page.incomplete == [Incomplete(nameless, ["contact.name", "data.code"])]
    assert page.next is None
    assert (beyond.pending, beyond.next) == (0, None)
    assert recipients(worker, campaign) == {}


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
