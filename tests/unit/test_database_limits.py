"""The settings sent at connect: when PostgreSQL ends a connection that rests in a transaction, or has vanished."""

import asyncpg
import pytest

from shared import database
from shared.database import options
from shared.settings import Settings


@pytest.mark.parametrize(
    ("idle", "peer", "expected"),
    [
        (
            30.0,
            30,
            {
                "idle_in_transaction_session_timeout": "30000",
                "tcp_user_timeout": "30000",
                "tcp_keepalives_idle": "15",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
            },
        ),
        (0.5, 0, {"idle_in_transaction_session_timeout": "500"}),
        (
            0,
            1,
            {
                "tcp_user_timeout": "1000",
                "tcp_keepalives_idle": "1",
                "tcp_keepalives_interval": "1",
                "tcp_keepalives_count": "3",
            },
        ),
        (0, 0, {}),
    ],
)
def test_limits_are_sent_unless_they_are_unset(idle: float, peer: int, expected: dict[str, str]) -> None:
    settings = Settings(_env_file=None, database_idle_in_transaction=idle, database_peer_timeout=peer)
    assert options.limits(settings) == expected
    assert options.server_settings(settings, "palomar_worker", "send").items() >= expected.items()


def test_a_connection_that_postgresql_ended_is_an_outage_and_no_failure_of_the_item() -> None:
    assert database.is_outage(asyncpg.IdleInTransactionSessionTimeoutError("terminating connection"))
