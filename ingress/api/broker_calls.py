"""Asks the broker for a procedure, and says as a problem what it refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ingress.api.problems import NOT_FOUND, UNAVAILABLE, FieldError, Problem, pointer
from shared.actions.dead_letters import Refused
from shared.queue import depths
from shared.queue.connection import BrokerAway, PublishFailed

PATIENCE: Final = 10.0  # seconds for the broker's part of a call
AGAIN: Final = 5.0  # seconds; Retry-After where the broker is away


@asynccontextmanager
async def broker() -> AsyncIterator[None]:
    """Turn what the broker refuses, or is away for, into a Problem."""
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except Refused as refused:
        error = FieldError(pointer("ids"), refused.detail, "See system.deadLetters.")
        raise Problem(NOT_FOUND, refused.detail, errors=[error]) from None
    except (BrokerAway, PublishFailed, depths.NotDeclared, depths.BrokeOff, TimeoutError):
        raise Problem(UNAVAILABLE, "RabbitMQ does not answer, or not in time.", retry_after=AGAIN) from None
