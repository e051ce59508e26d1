"""Makes the checks of `palomar verify` for system.verify, one call at a time and within a bound of time."""

import asyncio
import threading
from typing import Final

import psycopg

from ingress.api.call import Call
from ingress.api.problems import UNAVAILABLE, Problem
from ingress.api.system_models import CheckResult, Nothing
from shared.settings import Settings

LONGEST: Final = 30.0  # seconds for all checks; they take less than one where the database has nothing else to do
AGAIN: Final = 5.0  # seconds; Retry-After where they can't be made now

_under_way = threading.Lock()


async def findings(call: Call, given: Nothing) -> list[CheckResult]:
    """Every check with what came of it. Raises a Problem where the database does not answer, or they are under way."""
    found = await asyncio.to_thread(_checked, call.settings)
    if found is None:
        raise Problem(UNAVAILABLE, "The database is being verified already.", retry_after=AGAIN)
    return found


def _checked(settings: Settings) -> list[CheckResult] | None:
    """None where another call is under way, whose client may have left: its thread goes on."""
    from schema.verify import verify  # with the library for migrations, which no other call needs

    if not _under_way.acquire(blocking=False):
        return None
    try:
        found = verify(settings.database_session_url, within=LONGEST)
    except psycopg.OperationalError:
        raise Problem(UNAVAILABLE, "The database does not answer.", retry_after=AGAIN) from None
    finally:
        _under_way.release()
    return [
        CheckResult(
            group=one.check.group,
            name=one.check.name,
            ok=one.ok if one.was_made else None,
            detail=one.detail or None,
            remedy=None if one.ok else one.check.remedy,
        )
        for one in found
    ]
