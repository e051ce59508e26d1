"""Checks a broker and a database that are not ours, and names the variable to correct."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aio_pika
import aiormq
import psycopg
from yarl import URL

from ops.errors import Problem
from schema import locks, migrate, repair

PATIENCE: Final = 5.0  # seconds
_BROKER: Final = "Correct AMQP_URL, or unset it: `palomar up` then starts a RabbitMQ of its own."
_DATABASE: Final = "Correct DATABASE_URL, or unset it: `palomar up` then starts a PostgreSQL of its own."


async def reach_broker(url: str) -> None:
    """Return once RabbitMQ has let us in. Raises Problem, which holds no password."""
    try:
        where = URL(url)
        place = f"{where.host}:{where.port or 5672}"
        connection = await aio_pika.connect(url, timeout=PATIENCE)
    except (aiormq.exceptions.AuthenticationError, aiormq.exceptions.ProbableAuthenticationError):
        raise Problem(f"AMQP_URL: RabbitMQ at {place} refuses user {where.user!r} or the password.", _BROKER) from None
    except aiormq.exceptions.InvalidFrameError:  # it closes instead of opening the virtual host
        raise Problem(f"AMQP_URL: RabbitMQ at {place} has no virtual host {where.path!r} for us.", _BROKER) from None
    except (OSError, TimeoutError, aiormq.AMQPError) as error:
        why = str(error) or type(error).__name__
        raise Problem(f"AMQP_URL: no RabbitMQ lets us in at {place}: {why}.", _BROKER) from None
    except ValueError:
        raise Problem("AMQP_URL: this is no address.", "Give amqp://USER:PASSWORD@HOST:PORT/VHOST.") from None
    await connection.close()


@contextmanager
def migrating() -> Iterator[None]:
    """Raises Problem that says why migrations can't be applied here."""
    try:
        yield
    except locks.Blocked as error:
        raise Problem(str(error), "Wait for those sessions or end them (pg_terminate_backend); run again.") from error
    except migrate.NotGranted as error:
        raise Problem(
            str(error), f"As a superuser or as their maker, run: {error.statement} Then run this again."
        ) from error
    except repair.NotRepaired as error:
        raise Problem(f"{error}.", "Mend or drop what stands in its way; run again.") from error
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:  # PostgreSQL's; without a code it is psycopg's, which can't read the address
            raise _failed(error) from error
        raise Problem("DATABASE_URL: this is no address.", "Give postgresql://USER:PASSWORD@HOST:PORT/NAME.") from None
    except psycopg.OperationalError as error:
        raise Problem(f"DATABASE_URL: PostgreSQL does not let us in: {str(error).strip()}", _DATABASE) from error
    except psycopg.Error as error:
        raise _failed(error) from error


def _failed(error: psycopg.Error) -> Problem:
    return Problem(f"A migration failed, and left nothing behind: {str(error).strip()}", "Mend it; run again.")
