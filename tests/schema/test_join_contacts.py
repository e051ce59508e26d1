"""Contacts that turn out to be one person become one, and nothing of either is lost: least of all an opt-out."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.errors import ForeignKeyViolation
from psycopg.types.json import Jsonb

from schema import migrate
from tests.schema.office import Office
from tests.schema.people import Connection, Tenant, add_tenant, as_api, as_worker

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def worker(database_url: str) -> Iterator[Connection]:
    with as_worker(database_url) as connection:
        yield connection


def contact(worker: Connection, tenant: Tenant, name: str | None = None, **more: object) -> UUID:
    """A contact; `more` is other columns."""
    own_id = uuid4()
    columns = {"id": own_id, "tenant_id": tenant.id, "name": name, **more}
    names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
    worker.execute(f"INSERT INTO contacts ({names}) VALUES ({places})".encode(), list(columns.values()))
    return own_id


def address(worker: Connection, tenant: Tenant, of: UUID, canonical: str, kind: str = "phone", given: str = "") -> None:
    worker.execute(
        "INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) VALUES (%s, %s, %s, %s, %s)",
        (tenant.id, kind, canonical, given or canonical, of),
    )


def conversation(worker: Connection, tenant: Tenant, of: UUID | None, at: str, phone: str | None = None) -> UUID:
    own_id = uuid4()
    worker.execute(
        "INSERT INTO conversations (id, tenant_id, channel_id, contact_id, provider, address, recipient, phone) "
        "VALUES (%s, %s, %s, %s, 'twilio', %s, %s, %s)",
        (own_id, tenant.id, tenant.channel_id, of, at, at, phone),
    )
    return own_id


def consent(worker: Connection, tenant: Tenant, of: UUID, state: str, minute: int, source: str = "message") -> None:
    at = START + timedelta(minutes=minute)
    worker.execute(
        "INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source, effective_at) "
        "VALUES (%s, %s, 'whatsapp', %s, %s, %s)",
        (tenant.id, of, state, source, at),
    )


def join(worker: Connection, tenant: Tenant, one: UUID, other: UUID) -> UUID | None:
    (stays,) = worker.execute("SELECT join_contacts(%s, %s, %s)", (tenant.id, one, other)).fetchone() or (None,)
    return stays  # type: ignore[no-any-return]


def holds(worker: Connection, of: UUID) -> str | None:
    found = worker.execute(
        "SELECT state FROM consents WHERE contact_id = %s ORDER BY effective_at DESC, state DESC LIMIT 1", (of,)
    ).fetchone()
    return None if found is None else found[0]


def test_the_one_that_stays_has_what_every_table_had_of_the_other(worker: Connection) -> None:
    tenant = add_tenant(worker)
    by_id, imported = contact(worker, tenant, "Ana"), contact(worker, tenant, phone_number="+34600000001")
    address(worker, tenant, by_id, "US.1", "user_id")
    address(worker, tenant, imported, "+34600000001")
    talk = conversation(worker, tenant, by_id, "US.1")
    consent(worker, tenant, by_id, "opted_out", 1)
    worker.execute(
        "INSERT INTO sessions (tenant_id, channel_id, conversation_id, contact_id, phone_number) "
        "VALUES (%s, %s, %s, %s, '+34600000001')",
        (tenant.id, tenant.channel_id, talk, by_id),
    )
    groups, campaigns = [uuid4() for _ in range(2)], [uuid4() for _ in range(3)]
    for group in groups:
        worker.execute("INSERT INTO groups (id, tenant_id, name) VALUES (%s, %s, 'amigos')", (group, tenant.id))
    for group, who in ((groups[0], by_id), (groups[0], imported), (groups[1], by_id)):
        worker.execute("INSERT INTO group_contacts VALUES (%s, %s, %s)", (tenant.id, group, who))
    for campaign in campaigns:
        worker.execute(
            "INSERT INTO campaigns (id, tenant_id, whatsapp_instance_id, name, message, total_recipients) "
            "VALUES (%s, %s, %s, 'Navidad', 'hola', 2)",
            (campaign, tenant.id, tenant.channel_id),
        )
    for campaign, who, status in (
        (campaigns[0], by_id, "sent"), (campaigns[0], imported, "pending"),
        (campaigns[1], by_id, "pending"), (campaigns[1], imported, "queued"), (campaigns[2], by_id, "pending"),
    ):  # fmt: skip
        worker.execute(
            "INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, status) VALUES (%s, %s, %s, %s)",
            (tenant.id, campaign, who, status),
        )
    worker.execute("INSERT INTO import_aliases VALUES (%s, 'x', 'contacts', '7', %s)", (tenant.id, by_id))
    worker.execute("INSERT INTO erasure_requests (tenant_id, contact_id) VALUES (%s, %s)", (tenant.id, by_id))
    for who in (by_id, imported):
        worker.execute(
            "INSERT INTO messaging_uses (tenant_id, portfolio, contact_id) VALUES (%s, 'x', %s)", (tenant.id, who)
        )
    worker.execute(
        "INSERT INTO campaign_answers (tenant_id, contact_id, kind, at) VALUES (%s, %s, 'replied', now())",
        (tenant.id, by_id),
    )

    assert join(worker, tenant, by_id, imported) == imported, "whom the tenant's own systems know by a number stays"

    keys = worker.execute(
        "SELECT conrelid::regclass::text FROM pg_constraint "
        "WHERE contype = 'f' AND confrelid = 'contacts'::regclass AND conparentid = 0"
    ).fetchall()
    owners = {
        table: worker.execute(f"SELECT count(*), array_agg(DISTINCT contact_id) FROM {table}".encode()).fetchone()
        for (table,) in keys
    }
    assert owners == {
        "contact_addresses": (2, [imported]),
        "conversations": (1, [imported]),
        "consents": (1, [imported]),
        "sessions": (1, [imported]),
        "group_contacts": (2, [imported]),
        "campaign_recipients": (3, [imported]),
        "erasure_requests": (1, [imported]),
        "messaging_uses": (1, [imported]),
        "campaign_answers": (1, [imported]),
    }, "a table that names contacts and is not joined would lose its rows"
    assert worker.execute("SELECT our_id FROM import_aliases").fetchall() == [(imported,)]
    assert worker.execute("SELECT id, name, phone_number FROM contacts").fetchall() == [
        (imported, "Ana", "+34600000001")
    ]
    recipients = worker.execute(
        "SELECT c.id, r.status, c.total_recipients FROM campaigns c JOIN campaign_recipients r ON r.campaign_id = c.id"
    ).fetchall()
    assert sorted(recipients) == sorted(
        [(campaigns[0], "sent", 1), (campaigns[1], "queued", 1), (campaigns[2], "pending", 2)]
    ), "no person gets a campaign twice"
    assert worker.execute("SELECT contact_id, detail FROM events WHERE name = 'contact.joined'").fetchall() == [
        (imported, {"joined": str(by_id)})
    ]


@pytest.mark.parametrize(
    ("one", "other", "then"),
    [
        pytest.param([("opted_out", 1, "message")], [], "opted_out", id="one opted out, the other said nothing"),
        pytest.param([("opted_out", 2, "message")], [("opted_in", 1, "message")], "opted_out", id="the newer one"),
        pytest.param([("opted_out", 1, "message")], [("opted_in", 2, "message")], "opted_in", id="START after STOP"),
        pytest.param([("opted_out", 1, "provider")], [("opted_in", 2, "provider")], "opted_in", id="WhatsApp's switch"),
        pytest.param([("opted_out", 1, "message")], [("opted_in", 2, "import")], "opted_out", id="an import's opt-in"),
        pytest.param([("opted_out", 1, "message")], [("opted_in", 2, "api")], "opted_out", id="an operator's opt-in"),
        pytest.param([("opted_out", 1, "message")], [("opted_in", 1, "message")], "opted_out", id="the same moment"),
        pytest.param(
            [("opted_out", 1, "message"), ("opted_in", 3, "api")], [("opted_out", 2, "message")], "opted_out",
            id="lifted for the one, not for the other",
        ),
    ],
)  # fmt: skip
def test_a_join_never_loses_an_opt_out(
    worker: Connection, one: list[tuple[str, int, str]], other: list[tuple[str, int, str]], then: str
) -> None:
    tenant = add_tenant(worker)
    both = [contact(worker, tenant, "one"), contact(worker, tenant, "other")]
    for who, said in zip(both, (one, other), strict=True):
        for state, minute, source in said:
            consent(worker, tenant, who, state, minute, source)
    stays = join(worker, tenant, *both)
    assert stays is not None
    assert holds(worker, stays) == then
    kept = worker.execute(
        "SELECT state, effective_at, source FROM consents WHERE evidence ->> 'by' IS DISTINCT FROM 'join'"
    ).fetchall()
    assert sorted(kept) == sorted((state, START + timedelta(minutes=at), by) for state, at, by in one + other), (
        "the history is whole"
    )


def test_what_the_customer_says_after_an_opt_in_that_a_join_undid_holds(worker: Connection) -> None:
    """Also what they had said by then and is written down only afterwards."""
    tenant = add_tenant(worker)
    both = [contact(worker, tenant, "one"), contact(worker, tenant, "other")]
    consent(worker, tenant, both[0], "opted_out", 1)
    consent(worker, tenant, both[1], "opted_in", 2, "api")
    stays = join(worker, tenant, *both)
    assert stays is not None
    assert holds(worker, stays) == "opted_out"
    consent(worker, tenant, stays, "opted_in", 3)
    assert holds(worker, stays) == "opted_in"


def test_a_join_keeps_what_an_import_wrote_of_either(worker: Connection) -> None:
    tenant = add_tenant(worker)
    stays = contact(worker, tenant, phone_number="+34600000001")
    goes = contact(worker, tenant)
    for who, metadata in (
        (stays, {"level": "gold", "imported": {"id": 1, "city": "Lima"}}),
        (goes, {"level": "none", "note": "x", "imported": {"id": 2, "tags": ["a"]}}),
    ):
        worker.execute("UPDATE contacts SET metadata = %s WHERE id = %s", (Jsonb(metadata), who))
    assert join(worker, tenant, goes, stays) == stays
    assert worker.execute("SELECT metadata FROM contacts").fetchone() == (
        {"level": "gold", "note": "x", "imported": {"id": 1, "city": "Lima", "tags": ["a"]}},
    )
    plain = contact(worker, tenant)
    worker.execute("UPDATE contacts SET metadata = %s WHERE id = %s", (Jsonb({"imported": "odd"}), plain))
    assert join(worker, tenant, plain, stays) == stays
    assert worker.execute("SELECT metadata -> 'imported' ->> 'city' FROM contacts").fetchone() == ("Lima",)


# -- numbers that change by SQL ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "then"), [("api", "opted_out"), ("message", "opted_in")])
def test_a_deleted_contacts_number_is_opted_in_by_its_new_owners_own_word_alone(
    office: Office, worker: Connection, source: str, then: str
) -> None:
    with office.session() as sql:
        gone = sql.one("INSERT INTO contacts (phone_number) VALUES ('+34600000001') RETURNING id")["id"]
        sql.all("UPDATE contacts SET deleted_at = now()")
        heir = sql.one("INSERT INTO contacts (name) VALUES ('Luis') RETURNING id")["id"]
    tenant = Tenant(office.tenant, office.tenant, office.tenant)
    consent(worker, tenant, gone, "opted_out", 1)
    consent(worker, tenant, heir, "opted_in", 2, source)
    with office.session() as sql:
        sql.all("UPDATE contacts SET phone_number = '+34600000001' WHERE id = %(id)s", id=heir)
    assert holds(worker, heir) == then


def test_a_former_number_stays_its_contacts_and_so_does_its_opt_out(office: Office, worker: Connection) -> None:
    channel = office.channel("twilio")
    with office.session() as sql:
        who = sql.one("INSERT INTO contacts (phone_number) VALUES ('+34600000001') RETURNING id")["id"]
    consent(worker, Tenant(office.tenant, office.tenant, office.tenant), who, "opted_out", 1)
    with office.session() as sql:
        sql.all("UPDATE contacts SET phone_number = '+34600000002'")
        former = sql.one(WHOLE, tenant=office.tenant, channel=channel, address="+34600000001", phone=None)
        assert former["contact_id"] == who
        with sql.refused(psycopg.errors.UniqueViolation, "another contact has this phone number, or had it"):
            sql.all("INSERT INTO contacts (phone_number) VALUES ('+34 600 000 001')")


def test_who_is_joined_already_is_joined_by_nobody_again_and_no_other_tenants(worker: Connection) -> None:
    tenant, stranger = add_tenant(worker), add_tenant(worker)
    one, other = contact(worker, tenant), contact(worker, tenant)
    theirs = contact(worker, stranger)
    assert join(worker, tenant, one, theirs) is None
    assert join(worker, tenant, one, one) is None
    stays = join(worker, tenant, one, other)
    assert stays in (one, other)
    assert join(worker, tenant, one, other) is None
    assert worker.execute("SELECT count(*) FROM contacts").fetchone() == (2,)


def test_the_apis_role_joins_nobody(database_url: str, worker: Connection) -> None:
    tenant = add_tenant(worker)
    one, other = contact(worker, tenant), contact(worker, tenant)
    with as_api(database_url, tenant.id) as api, pytest.raises(psycopg.errors.InsufficientPrivilege):
        api.execute("SELECT join_contacts(%s, %s, %s)", (tenant.id, one, other))


def test_an_opt_out_written_while_its_contact_is_joined_is_refused_and_not_lost(
    database_url: str, worker: Connection
) -> None:
    tenant = add_tenant(worker)
    goes, stays = contact(worker, tenant), contact(worker, tenant, phone_number="+34600000001")
    with as_worker(database_url) as joiner, ThreadPoolExecutor(1) as pool:
        with joiner.transaction():
            assert join(joiner, tenant, goes, stays) == stays
            writing = pool.submit(consent, worker, tenant, goes, "opted_out", 1)
            with pytest.raises(TimeoutError):
                writing.result(timeout=0.3)
        with pytest.raises(ForeignKeyViolation):
            writing.result(timeout=10)


def test_two_joins_of_the_same_contacts_at_once_are_one(database_url: str, worker: Connection) -> None:
    tenant = add_tenant(worker)
    both = [contact(worker, tenant), contact(worker, tenant)]
    for number, who in enumerate(both * 4):
        conversation(worker, tenant, who, f"+3460000000{number}")

    def once(turn: int) -> UUID | None:
        with as_worker(database_url) as connection:
            return join(connection, tenant, both[turn % 2], both[1 - turn % 2])

    with ThreadPoolExecutor(4) as pool:
        stays = [one for one in pool.map(once, range(8)) if one is not None]
    assert len(stays) == 1
    assert worker.execute("SELECT DISTINCT contact_id FROM conversations").fetchall() == [(stays[0],)]


# -- conversations without a contact ----------------------------------------------------------------------------------

WHOLE = """
INSERT INTO conversations (id, tenant_id, channel_id, provider, address, recipient, phone)
VALUES (gen_random_uuid(), %(tenant)s, %(channel)s, 'twilio', %(address)s, %(address)s, %(phone)s) RETURNING *
"""


@pytest.mark.parametrize("phone", [None, "+34 600 000 001"])
def test_a_whole_conversation_by_sql_is_with_whoever_has_its_address(
    office: Office, worker: Connection, phone: str | None
) -> None:
    channel = office.channel("twilio")
    with office.session() as sql:
        known = sql.one("INSERT INTO contacts (phone_number) VALUES ('+34600000001') RETURNING id")["id"]
        made = sql.one(WHOLE, tenant=office.tenant, channel=channel, address="+34600000001", phone=phone)
        assert made["contact_id"] == known
        other = sql.one(WHOLE, tenant=office.tenant, channel=channel, address="US.1349", phone=None)
        assert other["contact_id"] not in (None, known)
        assert (
            sql.one("SELECT contact_id FROM contact_addresses WHERE canonical = 'US.1349'")["contact_id"]
            == (other["contact_id"])
        )
        again = sql.one("UPDATE conversations SET contact_id = NULL WHERE id = %(id)s RETURNING *", id=other["id"])
        assert again["contact_id"] == other["contact_id"], "and it can't be taken away"


# -- the migration ----------------------------------------------------------------------------------------------------


def test_the_migration_joins_who_was_split_by_a_number_written_in_two_ways(database_url: str) -> None:
    names = [step.name for step in migrate.status(database_url)]
    after = names[names.index("0021_phones") :]
    migrate.rollback(database_url, len(after))
    with as_worker(database_url) as worker:
        tenant = add_tenant(worker)
        split = contact(worker, tenant, "Ana"), contact(worker, tenant, phone_number="+55 11 97123-4567")
        address(worker, tenant, split[0], "+551171234567", given="551171234567")
        address(worker, tenant, split[1], "+5511971234567", given="+55 11 97123-4567")
        old = conversation(worker, tenant, split[0], "+551171234567", "551171234567")
        new = conversation(worker, tenant, split[1], "+5511971234567", "+5511971234567")
        consent(worker, tenant, split[0], "opted_out", 1)
        alone = contact(worker, tenant, "Luis")
        address(worker, tenant, alone, "+4407911123456", given="+44 (0)7911 123456")
        renamed = conversation(worker, tenant, alone, "+4407911123456", "+44 (0)7911 123456")
        moved = conversation(worker, tenant, alone, "+551172223333", "551172223333")
        nobodys = conversation(worker, tenant, None, "+447911123456")
        untouched = contact(worker, tenant, "Eva")
        address(worker, tenant, untouched, "US.7", "user_id")
    assert migrate.apply(database_url) == after
    with as_worker(database_url) as worker:
        addresses = worker.execute(
            "SELECT canonical, contact_id FROM contact_addresses WHERE tenant_id = %s ORDER BY canonical", (tenant.id,)
        ).fetchall()
        assert addresses == [("+447911123456", alone), ("+5511971234567", split[1]), ("US.7", untouched)]
        assert holds(worker, split[1]) == "opted_out"
        talks = {
            id: (at, who)
            for id, at, who in worker.execute("SELECT id, address, contact_id FROM conversations").fetchall()
        }
        assert talks == {
            old: ("+551171234567", split[1]),
            new: ("+5511971234567", split[1]),
            renamed: ("+4407911123456", alone),
            nobodys: ("+447911123456", alone),
            moved: ("+5511972223333", alone),
        }, "both conversations stay, and are the one person's"


@pytest.mark.parametrize("status", ["opted_out", "replied", "read", "delivered", "sent", "held", "unknown", "queued"])
@pytest.mark.parametrize("first", [True, False])
def test_a_person_to_whom_a_campaign_has_written_does_not_become_pending(
    worker: Connection, status: str, *, first: bool
) -> None:
    tenant, campaign = add_tenant(worker), uuid4()
    one, other = contact(worker, tenant), contact(worker, tenant)
    worker.execute(
        "INSERT INTO campaigns (id, tenant_id, whatsapp_instance_id, name, message) VALUES (%s, %s, %s, 'Autumn', 'x')",
        (campaign, tenant.id, tenant.channel_id),
    )
    states = (status, "pending") if first else ("pending", status)
    for number, (who, state) in enumerate(zip((one, other), states, strict=True), start=1):
        worker.execute(
            "INSERT INTO campaign_recipients (id, tenant_id, campaign_id, contact_id, status) "
            "VALUES (%s, %s, %s, %s, %s)",
            (UUID(int=number), tenant.id, campaign, who, state),
        )
    join(worker, tenant, one, other)
    left = worker.execute("SELECT status FROM campaign_recipients WHERE campaign_id = %s", (campaign,)).fetchall()
    assert left == [(status,)]
