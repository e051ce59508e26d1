"""What `palomar import` says where it can't, or may not, begin; and what it does with a row that can't be stored."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from ops.local.stack import Stack
from shared.store.imports import progress
from tests.imports import layouts
from tests.imports.importing import SHOP, Ours, SourceDatabase, counts, furnish, moved, source_database

MESSAGE = "00000000-0000-4000-9000-000000000552"


@pytest.fixture
def source(stack: Stack) -> Iterator[SourceDatabase]:
    with source_database(stack, layouts.KOMMO_GOOD) as made:
        yield made


def refused(environment: dict[str, str], *arguments: str) -> str:
    output = moved(environment, *arguments, code=1)
    assert "Traceback" not in output
    assert Ours(environment).value("SELECT count(*) FROM conversations WHERE tenant_id = %s", SHOP) == 0
    return output


def test_a_url_that_leads_nowhere(environment: dict[str, str], source: SourceDatabase) -> None:
    furnish(environment)
    shop = ("--tenant", "Shop")
    assert "no URL of a PostgreSQL database" in refused(environment, "kommo", "--from", "mysql://there/it", *shop)
    nobody = "postgresql://user:pass-word@127.0.0.1:1/nowhere"
    output = refused(environment, "kommo", "--from", nobody, *shop)
    assert "The source does not answer" in output
    assert "pass-word" not in output
    gone = source.url.replace("test_source_", "test_nothing_")
    assert "does not exist" in refused(environment, "kommo", "--from", gone, *shop)


def test_palomars_own_database(environment: dict[str, str]) -> None:
    furnish(environment)
    output = refused(environment, "kommo", "--from", environment["DATABASE_URL"], "--tenant", "Shop")
    assert "Palomar's own database" in output


def test_another_system_or_a_missing_column_is_named(environment: dict[str, str], source: SourceDatabase) -> None:
    furnish(environment)
    assert "kommo, kommo-twilio" not in refused(environment, "hubspot", "--from", source.url)
    assert "there is no table whatsapp_settings" in refused(
        environment, "whatsapp-module", "--from", source.url, "--tenant", "Shop"
    )
    source.execute("ALTER TABLE kommo_messages DROP COLUMN role")
    output = refused(environment, "kommo", "--from", source.url, "--tenant", "Shop")
    assert "table kommo_messages has no column role" in output


def test_a_source_that_may_not_be_read(environment: dict[str, str], source: SourceDatabase) -> None:
    furnish(environment)
    role = source.url.removeprefix("postgresql://").partition("@")[0]
    source.execute(f"REVOKE SELECT ON kommo_conversations FROM {role}")
    output = refused(environment, "kommo", "--from", source.url, "--tenant", "Shop")
    assert "permission denied for table kommo_conversations" in output


def test_the_tenant_is_to_be_named(environment: dict[str, str], source: SourceDatabase, stack: Stack) -> None:
    furnish(environment)
    assert "There are: Bystander, Shop." in refused(environment, "kommo", "--from", source.url)
    output = refused(environment, "kommo", "--from", source.url, "--tenant", "Shopp")
    assert "There is no tenant 'Shopp'" in output
    assert "--new-tenant" in output
    with source_database(stack, layouts.DISTRIBUTORS) as many:
        output = refused(environment, "distributors", "--from", many.url, "--tenant", "Shop")
        assert "brings its own tenants" in output


def test_of_several_channels_one_is_to_be_named(environment: dict[str, str], source: SourceDatabase) -> None:
    furnish(environment)
    ours = Ours(environment)
    first, second = sorted((uuid4(), uuid4()))
    for channel_id, address in ((first, "+14155550100"), (second, "+14155550101")):
        ours.execute(
            f"""INSERT INTO channels (id, tenant_id, provider, kind, address, credentials)
            VALUES ('{channel_id}', '{SHOP}', 'twilio', 'whatsapp', '{address}', 'sealed')"""
        )
    shop = ("kommo", "--from", source.url, "--tenant", "Shop")
    output = refused(environment, *shop)
    assert f"Name one with --channel: {first} (+14155550100), {second} (+14155550101)." in output
    bystanders = ours.value("SELECT id FROM channels WHERE tenant_id <> %s", SHOP)
    assert "is another tenant's" in refused(environment, *shop, "--channel", str(bystanders))
    moved(environment, *shop, "--channel", str(second))
    used = "SELECT DISTINCT channel_id FROM conversations WHERE provider = 'twilio' AND tenant_id = %s"
    assert ours.value(used, SHOP) == second


def test_one_import_at_a_time(environment: dict[str, str], source: SourceDatabase) -> None:
    furnish(environment)
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (progress.LOCK,))
        output = refused(environment, "kommo", "--from", source.url, "--tenant", "Shop")
    assert "Another import is running." in output


def test_a_row_that_the_database_refuses_costs_the_others_nothing(
    environment: dict[str, str], source: SourceDatabase
) -> None:
    furnish(environment)
    Ours(environment).as_owner(f"ALTER TABLE messages ADD CONSTRAINT not_this CHECK (id <> '{MESSAGE}')")
    output = moved(environment, "kommo", "--from", source.url, "--tenant", "Shop", "--batch", "50")
    assert counts(output)["kommo_messages"] == (440, 439, 439, 0, 1)
    assert "kommo_messages: 1 skipped: PostgreSQL does not take it (CheckViolationError)" in output


def test_counts_that_differ_end_with_1(environment: dict[str, str], source: SourceDatabase) -> None:
    """Rows that the import has written are removed meanwhile."""
    furnish(environment)
    Ours(environment).as_owner(
        f"""
        CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            DELETE FROM messages WHERE id = NEW.id;
            RETURN NULL;
        END $$;
        CREATE TRIGGER lose AFTER INSERT ON messages FOR EACH ROW WHEN (NEW.id = '{MESSAGE}') EXECUTE FUNCTION lose();
        """
    )
    output = moved(environment, "kommo", "--from", source.url, "--tenant", "Shop", code=1)
    assert counts(output)["kommo_messages"] == (440, 439, 440, 0, 0)
    assert "✗ differs" in output
    assert "The counts differ." in output
