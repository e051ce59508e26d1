"""Whose opt-out holds for a conversation says its address: canonical, and of whom we send to, however SQL writes it."""

from uuid import UUID, uuid4

import psycopg
import pytest

from schema import migrate
from shared.store.consents import STOPPED_BY
from tests.schema.office import Office, Row, Session

MIGRATION = "0034_one_address"
VICTIM, VICTIMS_ADDRESS, OTHER = "+5215512345678", "+525512345678", "+34600000009"
MAKE = """
INSERT INTO conversations (tenant_id, channel_id, provider, address, recipient)
VALUES (%(tenant)s, %(channel)s, %(provider)s, %(address)s, %(recipient)s) RETURNING id, address, recipient, contact_id
"""
STOPS = f"""
SELECT {STOPPED_BY} AS scope FROM (
    SELECT tenant_id, id AS conversation_id, 'normal' AS lane, NULL::jsonb AS sent_as, NULL::jsonb AS template
    FROM conversations WHERE id = %(id)s
) AS m
"""


def opted_out(
    office: Office, *, kind: str = "phone", address: str = VICTIMS_ADDRESS, channel: str = "whatsapp"
) -> UUID:
    """A contact who is known by this address and wants nothing on this kind of channel."""
    contact = uuid4()
    office.worker(
        "WITH made AS (INSERT INTO contacts (id, tenant_id) VALUES (%(id)s, %(tenant)s)), "
        "known AS (INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) "
        "VALUES (%(tenant)s, %(kind)s, %(address)s, %(address)s, %(id)s)) "
        "INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source) "
        "VALUES (%(tenant)s, %(id)s, %(channel)s, 'opted_out', 'message')",
        id=contact, tenant=office.tenant, kind=kind, address=address, channel=channel,
    )  # fmt: skip
    return contact


def stopped(office: Office, conversation: object) -> str | None:
    (row,) = office.worker(STOPS, id=conversation)
    scope: str | None = row["scope"]
    return scope


def make(office: Office, sql: Session, channel: UUID, address: str, recipient: str, provider: str = "twilio") -> Row:
    return sql.one(
        MAKE, tenant=office.tenant, channel=channel, provider=provider, address=address, recipient=recipient
    )  # fmt: skip


@pytest.mark.parametrize("written", [VICTIM, "5215512345678", f"whatsapp:{VICTIM}", VICTIMS_ADDRESS])
def test_an_opt_out_holds_however_the_number_is_written(office: Office, written: str) -> None:
    channel, contact = office.channel("twilio"), opted_out(office)
    with office.session() as sql:
        made = make(office, sql, channel, written, written)
    assert (made["address"], made["contact_id"]) == (VICTIMS_ADDRESS, contact)
    assert made["recipient"] in (VICTIM, VICTIMS_ADDRESS), "E.164, as it was dialled"
    assert stopped(office, made["id"]) == "all"


def test_an_opt_out_by_mail_holds_in_any_case_of_letters(office: Office) -> None:
    channel = office.channel("email", "email", address="tienda@example.com")
    contact = opted_out(office, kind="email", address="ana@x.com", channel="email")
    with office.session() as sql:
        made = make(office, sql, channel, "ANA@X.com", "Ana@x.com", "email")
    assert (made["address"], made["recipient"], made["contact_id"]) == ("ana@x.com", "Ana@x.com", contact)
    assert stopped(office, made["id"]) == "all"


def test_what_is_sent_goes_to_whom_the_address_names(office: Office) -> None:
    channel = office.channel("twilio")
    opted_out(office)
    with office.session() as sql:
        talk = make(office, sql, channel, OTHER, OTHER)["id"]
        with sql.refused(psycopg.errors.CheckViolation, "recipient is not the person"):
            sql.all("UPDATE conversations SET recipient = %(to)s WHERE id = %(id)s", to=VICTIM, id=talk)
        with sql.refused(psycopg.errors.CheckViolation, "recipient is not the person"):
            make(office, sql, channel, "+34600000008", VICTIM)
        sql.all("UPDATE conversations SET recipient = '34 600 00 00 09' WHERE id = %(id)s", id=talk)
        same = "SELECT address, recipient FROM conversations WHERE id = %(id)s"
        assert sql.one(same, id=talk) == {"address": OTHER, "recipient": OTHER}
        sql.all("UPDATE conversations SET address = %(to)s WHERE id = %(id)s", to=VICTIM, id=talk)
        assert sql.one(same, id=talk) == {"address": VICTIMS_ADDRESS, "recipient": VICTIM}
    assert stopped(office, talk) == "all"


def test_a_chats_id_is_no_number(office: Office) -> None:
    channel = office.channel("kommo")
    with office.session() as sql:
        row = sql.one(
            "INSERT INTO conversations (provider, channel_id, kommo_chat_id, address, recipient) "
            "VALUES ('kommo', %(channel)s, %(chat)s, %(chat)s, %(chat)s) RETURNING address, recipient",
            channel=channel, chat="5215512345678",
        )  # fmt: skip
    assert row == {"address": "5215512345678", "recipient": "5215512345678"}


def test_the_migration_puts_right_what_is_there(office: Office) -> None:
    names = [step.name for step in migrate.status(office.url)]
    migrate.rollback(office.url, len(names) - names.index(MIGRATION))
    one, two = office.channel("twilio"), office.channel("twilio")
    contact = opted_out(office)
    with office.session() as sql:
        split = make(office, sql, one, VICTIM, VICTIM)
        assert split["contact_id"] != contact
        taken = make(office, sql, two, VICTIMS_ADDRESS, VICTIMS_ADDRESS)["id"]
        twin = make(office, sql, two, "5215512345678", "5215512345678")["id"]
        elsewhere = make(office, sql, one, OTHER, VICTIM)["id"]
    by_id = office.worker(
        "WITH known AS (INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) "
        "VALUES (%(tenant)s, 'user_id', 'US.1349', 'US.1349', %(contact)s)) "
        "INSERT INTO conversations (tenant_id, channel_id, contact_id, provider, address, recipient) "
        "VALUES (%(tenant)s, %(channel)s, %(contact)s, 'twilio', %(address)s, 'US.1349') RETURNING id",
        tenant=office.tenant, channel=office.channel("twilio"), contact=contact, address=VICTIMS_ADDRESS,
    )[0]["id"]  # fmt: skip
    migrate.apply(office.url)
    rows = office.worker("SELECT id, address, recipient, contact_id FROM conversations")
    found = {row["id"]: (row["address"], row["recipient"]) for row in rows}
    (holder,) = {row["contact_id"] for row in rows if row["id"] != elsewhere}
    assert office.worker("SELECT contact_id FROM contact_addresses WHERE canonical = %(a)s", a=VICTIMS_ADDRESS) == [
        {"contact_id": holder}
    ], "who was split is one contact"
    assert found == {
        split["id"]: (VICTIMS_ADDRESS, VICTIM),
        taken: (VICTIMS_ADDRESS, VICTIMS_ADDRESS),
        twin: ("5215512345678", "5215512345678"),
        elsewhere: (OTHER, OTHER),
        by_id: (VICTIMS_ADDRESS, "US.1349"),
    }
    assert [stopped(office, one) for one in (split["id"], taken, twin, by_id)] == ["all"] * 4
    assert stopped(office, elsewhere) is None
