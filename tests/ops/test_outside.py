"""An external broker or database that refuses us is reported in a sentence that holds no password."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from yarl import URL

from ops.errors import Problem
from ops.local import external_services
from schema import migrate
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
# `palomar up`, with its state elsewhere than where a developer's own may be running.
UP = """
import sys
from pathlib import Path
from ops import cli
from ops.local import up
up.STATE = Path(sys.argv.pop())
sys.argv[:] = ["palomar", "up"]
cli.main()
"""


async def test_a_broker_that_lets_us_in_is_no_problem(amqp_url: str) -> None:
    await external_services.reach_broker(amqp_url)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda url: url.with_password("not-the-word"), "refuses user 'palomar' or the password"),
        (lambda url: url.with_path("/nowhere"), "no virtual host '/nowhere' for us"),
        (lambda url: url.with_port(free_port()), "no RabbitMQ lets us in at 127.0.0.1:"),
        (lambda url: url.with_host("nowhere.invalid"), "no RabbitMQ lets us in at nowhere.invalid:"),
        (lambda url: "nonsense", "this is no address"),
    ],
    ids=["password", "vhost", "port", "host", "nonsense"],
)
async def test_an_unusable_broker_is_reported(amqp_url: str, change: Callable[[URL], URL | str], problem: str) -> None:
    wrong = str(change(URL(amqp_url)))
    with pytest.raises(Problem) as caught:
        await external_services.reach_broker(wrong)
    assert caught.value.message.startswith("AMQP_URL: ")
    assert problem in caught.value.message
    assert "AMQP" in caught.value.remedy.upper()
    assert (URL(wrong).password or "not-the-word") not in caught.value.message


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://nobody:secret@127.0.0.1:{port}/x", "PostgreSQL does not let us in"),
        ("nonsense", "this is no address"),
    ],
)
def test_an_unusable_database_is_reported(url: str, problem: str) -> None:
    with pytest.raises(Problem) as caught, external_services.migrating():
        migrate.apply(url.format(port=free_port()))
    assert caught.value.message.startswith("DATABASE_URL: ")
    assert problem in caught.value.message
    assert "secret" not in caught.value.message


def test_a_migration_that_fails_is_reported_as_one() -> None:
    with pytest.raises(Problem, match="A migration failed, and left nothing behind"), external_services.migrating():
        raise psycopg.errors.UndefinedTable("relation does not exist")


@pytest.mark.parametrize("wrong", ["AMQP_URL", "DATABASE_URL"])
def test_up_ends_with_that_sentence_and_starts_nothing(wrong: str, amqp_url: str, tmp_path: Path) -> None:
    nowhere = free_port()
    given = {
        "AMQP_URL": amqp_url if wrong != "AMQP_URL" else f"amqp://a:secret@127.0.0.1:{nowhere}/",
        "DATABASE_URL": f"postgresql://a:secret@127.0.0.1:{nowhere}/x",
    }
    result = subprocess.run(
        [sys.executable, "-c", UP, str(tmp_path / "state")],
        env={**os.environ, "PYTHONPATH": str(ROOT), **given}, cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert result.returncode == 1
    first, *rest = result.stderr.splitlines()
    assert first.startswith(f"{wrong}: ")
    assert rest[-1].startswith(f"Correct {wrong}, or unset it")
    assert "Starting" not in result.stdout
    assert "secret" not in result.stdout + result.stderr
