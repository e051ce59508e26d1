"""On an endpoint that several tenants share, a tenant can't take another's address by writing it into its own row."""

from uuid import UUID

import pytest
from psycopg.errors import CheckViolation, ForeignKeyViolation, UniqueViolation

from tests.schema.office import Office, Row

THEIRS, OURS = "106540352242922", "106540352242999"
ENDPOINT = "INSERT INTO endpoints (tenant_id, provider, secrets) VALUES (%(tenant)s, 'meta', 'sealed') RETURNING id"
SERVE = "UPDATE channels SET endpoint_id = %(endpoint)s WHERE id = %(id)s"
PROVE = "UPDATE channels SET proven = true, status = 'active', status_reason = NULL WHERE id = %(id)s"


def served(office: Office, address: str, endpoint: UUID | None = None, tenant: UUID | None = None) -> tuple[UUID, UUID]:
    """A channel that an operator made on an endpoint without a tenant; it and the endpoint."""
    endpoint = endpoint or office.worker(ENDPOINT, tenant=None)[0]["id"]
    channel = office.channel("meta", address=address, tenant=tenant)
    office.worker(SERVE, endpoint=endpoint, id=channel)
    office.worker(PROVE, id=channel)
    return channel, endpoint


def row(office: Office, channel: UUID) -> Row:
    return office.worker("SELECT * FROM channels WHERE id = %(id)s", id=channel)[0]


@pytest.fixture
def shared(office: Office) -> tuple[UUID, UUID, UUID]:
    """The victim's channel, ours, and the endpoint that serves both."""
    victim, endpoint = served(office, THEIRS, tenant=office.new_tenant("Víctima"))
    ours, _ = served(office, OURS, endpoint)
    assert [(row(office, one)["proven"], row(office, one)["status"]) for one in (victim, ours)] == [
        (True, "active")
    ] * 2
    return victim, ours, endpoint


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE channels SET address = %(address)s WHERE id = %(id)s",
        "UPDATE channels SET address = %(address)s, proven = true, status = 'active' WHERE id = %(id)s",
        "UPDATE whatsapp_settings SET phone_number_id = %(address)s WHERE id = %(id)s",
        "UPDATE whatsapp_settings SET phone_number_id = %(address)s, is_active = true WHERE id = %(id)s",
    ],
)
def test_an_address_that_a_tenant_writes_is_nobodys_until_it_is_proven(
    office: Office, shared: tuple[UUID, UUID, UUID], statement: str
) -> None:
    victim, ours, _ = shared
    with office.session() as sql:
        assert sql.count(statement, address=THEIRS, id=ours) == 1
    mine = row(office, ours)
    assert (mine["proven"], mine["status"]) == (False, "stopped")
    assert mine["status_reason"] == "its address waits to be proven: palomar channels test"
    assert row(office, victim)["proven"] is True
    with office.session() as sql:
        sql.all("UPDATE channels SET proven = true, status = 'active' WHERE id = %(id)s", id=ours)
    assert (row(office, ours)["proven"], row(office, ours)["status"]) == (False, "stopped")
    with pytest.raises(UniqueViolation, match="channels_endpoint_address"):
        office.worker(PROVE, id=ours)


def test_a_deleted_row_that_comes_back_is_to_be_proven_again(office: Office, shared: tuple[UUID, UUID, UUID]) -> None:
    victim, ours, endpoint = shared
    office.worker("UPDATE channels SET deleted_at = now() WHERE id = %(id)s", id=victim)
    heir, _ = served(office, THEIRS, endpoint, tenant=office.new_tenant("Heredera"))
    office.worker("UPDATE channels SET deleted_at = NULL WHERE id = %(id)s", id=victim)
    assert (row(office, victim)["proven"], row(office, heir)["proven"]) == (False, True)
    assert row(office, ours)["proven"] is True


@pytest.mark.parametrize("also", ["", ", address = '106540352242333'"])
def test_only_the_operator_changes_the_account_of_a_shared_url(
    office: Office, shared: tuple[UUID, UUID, UUID], also: str
) -> None:
    with office.session() as sql, sql.refused(CheckViolation, "business_id: this channel shares its webhook URL"):
        sql.all(f"UPDATE channels SET business_id = '102290129340398'{also} WHERE id = %(id)s", id=shared[1])


def test_a_tenant_reaches_no_endpoint_of_others(office: Office, shared: tuple[UUID, UUID, UUID]) -> None:
    own = office.channel("meta", address="106540352242933")
    with office.session() as sql, sql.refused(ForeignKeyViolation, "no endpoint of this tenant"):
        sql.all("UPDATE channels SET endpoint_id = %(endpoint)s WHERE id = %(id)s", endpoint=shared[2], id=own)


def test_on_an_endpoint_of_its_own_a_tenant_changes_its_address_at_will(office: Office) -> None:
    endpoint = office.worker(ENDPOINT, tenant=office.tenant)[0]["id"]
    own = office.channel("meta", address=OURS)
    with office.session() as sql:
        sql.all("UPDATE channels SET endpoint_id = %(endpoint)s WHERE id = %(id)s", endpoint=endpoint, id=own)
        sql.all("UPDATE channels SET address = %(address)s WHERE id = %(id)s", address=THEIRS, id=own)
    assert (row(office, own)["proven"], row(office, own)["status"]) == (True, "active")


def test_settings_and_names_change_without_proof(office: Office, shared: tuple[UUID, UUID, UUID]) -> None:
    with office.session() as sql:
        sql.all("UPDATE channels SET name = 'Nueva', settings = '{\"rate\": 5}' WHERE id = %(id)s", id=shared[1])
    assert (row(office, shared[1])["proven"], row(office, shared[1])["status"]) == (True, "active")
