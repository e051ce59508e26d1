"""Turns the refusal of a dead letter's queue or id into a command's Problem."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from ops.errors import Problem
from shared.actions.dead_letters import Reason, Refused
from shared.queue import topology

_REMEDIES: Final[Mapping[Reason, str]] = {
    "no_such_queue": f"Name one of: {', '.join(queue.name for queue in topology.QUEUES)}.",
    "not_declared": "Start Palomar once with ./palomar up: it makes them.",
    "unknown_id": "See ./palomar dead show {queue}.",
    "ambiguous_id": "Give more of the id.",
}


@contextmanager
def problems() -> Iterator[None]:
    """Raise Problem for what is refused in the block, or in a function that this decorates."""
    try:
        yield
    except Refused as refused:
        raise Problem(refused.detail, _REMEDIES[refused.reason].format(queue=refused.queue)) from None
