"""What signs the calls to a tenant's webhooks can be written by SQL and never be read; what is sealed is not theirs."""

import psycopg

from schema import migrate
from tests.schema.office import Office

MASK = "••••••••"
BEFORE = "0031_secrets"
ADD = "INSERT INTO webhooks (name, url, secret) VALUES ('ours', 'https://shop.example/in', %(secret)s)"


def waiting(office: Office) -> list[object]:
    return [row["secret"] for row in office.worker("SELECT secret FROM unsealed_webhook_secrets ORDER BY seq")]


def test_a_secret_reads_back_masked_and_nobody_reads_where_it_waits(office: Office) -> None:
    with office.session() as sql:
        sql.all(ADD, secret="the-secret")
        sql.all(ADD, secret="")
        rows = sql.all("SELECT secret, sealed_secret FROM webhooks ORDER BY secret")
        assert rows == [{"secret": "", "sealed_secret": ""}, {"secret": MASK, "sealed_secret": ""}]
        with sql.refused(psycopg.errors.InsufficientPrivilege, "unsealed_webhook_secrets"):
            sql.all("SELECT secret FROM unsealed_webhook_secrets")
    assert waiting(office) == ["the-secret"]


def test_what_was_read_is_written_back_and_says_nothing_new(office: Office) -> None:
    with office.session() as sql:
        sql.all(ADD, secret="the-secret")
        sql.all("UPDATE webhooks SET name = 'renamed', secret = %(mask)s, is_active = false", mask=MASK)
        with sql.refused(psycopg.errors.CheckViolation, "needs its secret itself"):
            sql.all(ADD, secret=MASK)
    assert waiting(office) == ["the-secret"]


def test_a_new_secret_replaces_the_old_one_and_an_empty_one_takes_it_away(office: Office) -> None:
    with office.session() as sql:
        sql.all(ADD, secret="first")
        sql.all("UPDATE webhooks SET secret = 'second'")
        assert sql.one("SELECT secret FROM webhooks") == {"secret": MASK}
        sql.all("UPDATE webhooks SET secret = ''")
        assert sql.one("SELECT secret FROM webhooks") == {"secret": ""}
    assert waiting(office) == ["first", "second", ""]


def test_what_is_sealed_is_not_a_tenants_to_write(office: Office) -> None:
    with office.session() as sql:
        sql.all(ADD, secret="the-secret")
        sql.all("UPDATE webhooks SET sealed_secret = 'forged'")
        sql.all("INSERT INTO webhooks (url, sealed_secret) VALUES ('https://shop.example/2', 'forged')")
        assert sql.all("SELECT DISTINCT sealed_secret FROM webhooks") == [{"sealed_secret": ""}]


def test_a_row_that_is_kept_out_leaves_no_secret_behind(office: Office) -> None:
    with office.session() as sql:
        made = sql.one(ADD + " RETURNING id", secret="")["id"]
        sql.all(
            "INSERT INTO webhooks (id, url, secret) VALUES (%(id)s, 'https://shop.example/2', 'other') "
            "ON CONFLICT DO NOTHING",
            id=made,
        )
    assert waiting(office) == []


def test_a_scheme_in_capitals_is_one(office: Office) -> None:
    with office.session() as sql:
        sql.all("INSERT INTO webhooks (url) VALUES ('HTTPS://shop.example/in')")
        with sql.refused(psycopg.errors.CheckViolation, "check_webhook_url"):
            sql.all("INSERT INTO webhooks (url) VALUES ('shop.example/in')")


def test_the_migration_masks_what_is_there_sealed_or_in_clear(office: Office) -> None:
    names = [step.name for step in migrate.status(office.url)]
    migrate.rollback(office.url, len(names) - names.index(BEFORE))
    with office.session() as sql:
        for secret in ("in clear", "v1.k1.AAAA", ""):
            sql.all(ADD, secret=secret)
    migrate.apply(office.url)
    with office.session() as sql:
        rows = sql.all("SELECT secret, sealed_secret FROM webhooks ORDER BY secret, sealed_secret")
    assert [tuple(row.values()) for row in rows] == [("", ""), (MASK, ""), (MASK, "v1.k1.AAAA")]
    assert waiting(office) == ["in clear"]
