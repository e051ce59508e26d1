"""What does not let us in, of a broker or database of somebody else, is told in a sentence that holds no password."""

from collections.abc import Callable

import psycopg
import pytest
from yarl import URL

from ops import outside
from ops.errors import Problem
from schema import migrate
from tests.ports import free_port


async def test_a_broker_that_lets_us_in_is_no_problem(amqp_url: str) -> None:
    await outside.reach_broker(amqp_url)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda url: url.with_password("not-the-word"), "refuses user 'palomar' or the password"),
        (lambda url: url.with_path("/nowhere"), "no virtual host '/nowhere' for us"),
        (lambda url: url.with_port(free_port()), "no RabbitMQ lets us in at 127.0.0.1:"),
        (lambda url: url.with_host("nowhere.invalid"), "no RabbitMQ lets us in at nowhere.invalid:"),
        (lambda url: "nonsense", "this is no address"),
    ],
    ids=["password", "vhost", "port", "host", "nonsense"],
)
async def test_what_is_wrong_with_a_broker_is_told(
    amqp_url: str, change: Callable[[URL], URL | str], told: str
) -> None:
    wrong = str(change(URL(amqp_url)))
    with pytest.raises(Problem) as caught:
        await outside.reach_broker(wrong)
    assert caught.value.message.startswith("AMQP_URL: ")
    assert told in caught.value.message
    assert "AMQP" in caught.value.remedy.upper()
    assert (URL(wrong).password or "not-the-word") not in caught.value.message


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://nobody:secret@127.0.0.1:{port}/x", "PostgreSQL does not let us in"),
        ("nonsense", "this is no address"),
    ],
)
def test_what_is_wrong_with_a_database_is_told(url: str, told: str) -> None:
    with pytest.raises(Problem) as caught, outside.migrating():
        migrate.apply(url.format(port=free_port()))
    assert caught.value.message.startswith("DATABASE_URL: ")
    assert told in caught.value.message
    assert "secret" not in caught.value.message


def test_a_migration_that_fails_is_told_as_one() -> None:
    with pytest.raises(Problem, match="A migration failed, and left nothing behind"), outside.migrating():
        raise psycopg.errors.UndefinedTable("relation does not exist")
