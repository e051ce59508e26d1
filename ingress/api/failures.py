"""Turns an error of any kind into the problem that answers it."""

import traceback
from typing import Final

import asyncpg

from ingress.api.declaration import AnyProcedure
from ingress.api.problems import CONFLICT, INTERNAL, UNAVAILABLE, FieldError, Problem
from shared import database
from shared.database import new_id
from shared.process.log import get_logger

log = get_logger(__name__)

AGAIN: Final = 1.0  # seconds; Retry-After where the database is away or busy
_TOO_LONG: Final = (
    "The database took too long over this, so it was stopped. Nothing was changed. Ask for less: a shorter time span, "
    "one channel, a smaller limit."
)


def problem_of(error: Exception, procedure: AnyProcedure | None = None) -> Problem:
    """The problem that answers an error of any kind. An unexpected one is logged, under an id that the answer has."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, database.StatementTimeout):
        log.warning("call took too long", procedure=procedure and procedure.name)
        return Problem(UNAVAILABLE, _TOO_LONG, retry_after=AGAIN)
    undone = isinstance(error, database.LockTimeout)
    if undone or database.is_outage(error):
        log.warning("call not possible", procedure=procedure and procedure.name, error=type(error).__name__)
        # The connection may have broken after the commit and before its confirmation.
        in_doubt = not undone and procedure is not None and procedure.kind == "mutation"
        what = "It may have been done: repeat it with the same Idempotency-Key." if in_doubt else "Nothing was changed."
        return Problem(UNAVAILABLE, f"The database did not answer in time. {what}", retry_after=AGAIN)
    if database.is_conflict(error) and not isinstance(error, asyncpg.ForeignKeyViolationError):
        return Problem(UNAVAILABLE, "Others changed the same rows again and again.", retry_after=AGAIN)
    if isinstance(error, asyncpg.ForeignKeyViolationError):
        wrong = FieldError("#", "One of its ids names nothing that is there (any more).", "Get the ids again.")
        return Problem(CONFLICT, wrong.detail, errors=[wrong])
    error_id = new_id()
    # Places and classes only: the text of an error may quote what a client sent.
    log.error(
        "call failed",
        id=str(error_id),
        procedure=procedure and procedure.name,
        error=type(error).__name__,
        at=[f"{one.filename}:{one.lineno}" for one in traceback.extract_tb(error.__traceback__)[-6:]],
    )
    return Problem(INTERNAL, "Something went wrong here. The API's log says what.", instance=f"urn:uuid:{error_id}")
