"""python -m tests.support.dying MOMENT NAME…: workers that kill themselves with -9 at the first such moment.

`MOMENT:5` is the fifth one. The moments are those at which a commit stands and nothing is published, a call is made and
nothing is recorded, and so on: MOMENTS names them. Production code has no hook for this: what a worker calls at that
moment is wrapped here, from outside.

PALOMAR_DYING_NOTES names a file to which the process adds, before it dies, the id of each message whose call is in
flight in it: only these may be of unknown outcome afterwards.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

import workers.__main__
import workers.campaign.steps
import workers.campaign.worker
import workers.webhook.matching
from shared import database
from shared.queue.jobs import CampaignDue, SendReady
from shared.queue.worker import Context
from shared.store.webhook_deliveries import cursor, turns
from workers.reply import answering
from workers.send import provider_call, recording, unknown_lookup
from workers.send.admission import Admission
from workers.send.batches import Batches
from workers.send.gates import Attempt
from workers.webhook import recording as webhook_recording
from workers.webhook.desk import Desk
from workers.webhook.straight import Noted, Straight
from workers.webhook.turn import Delivering

P = ParamSpec("P")
T = TypeVar("T")

NOTES: Final = "PALOMAR_DYING_NOTES"
_in_flight: set[UUID] = set()
_left = 1  # such moments until the last one


def _moment() -> None:
    """Die, if this is the one."""
    global _left
    _left -= 1
    if _left > 0:
        return
    if (notes := os.environ.get(NOTES)) and _in_flight:
        with Path(notes).open("a") as file:
            file.writelines(f"{message_id}\n" for message_id in _in_flight)
    os.kill(os.getpid(), signal.SIGKILL)


def _before(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    async def dying(*args: P.args, **kwargs: P.kwargs) -> T:
        _moment()
        return await work(*args, **kwargs)

    return dying


def _after(work: Callable[P, Awaitable[T]], only: object = None) -> Callable[P, Awaitable[T]]:
    async def dying(*args: P.args, **kwargs: P.kwargs) -> T:
        result = await work(*args, **kwargs)
        if result is not False and only in (None, result):
            _moment()
        return result

    return dying


def _publishing(self: Context[object], *jobs: object) -> Awaitable[None]:
    if jobs:
        _moment()
    return _publish(self, *jobs)  # type: ignore[arg-type]


def _beginning(self: Straight, noted: Noted) -> None:
    if noted.deliveries:
        _moment()
    _begin(self, noted)


def _publishing_only(kind: type[object]) -> Callable[..., Awaitable[None]]:
    def publishing(self: Context[object], *jobs: object) -> Awaitable[None]:
        if any(isinstance(job, kind) for job in jobs):
            _moment()
        return _publish(self, *jobs)  # type: ignore[arg-type]

    return publishing


async def _published(self: Context[object], *jobs: object) -> None:
    await _publish(self, *jobs)  # type: ignore[arg-type]
    if jobs:
        _moment()


@asynccontextmanager
async def _committed(self: Context[object]) -> AsyncIterator[database.Connection]:
    async with _transaction(self) as connection:
        yield connection
    _moment()


@asynccontextmanager
async def _committing(self: Context[object]) -> AsyncIterator[database.Connection]:
    async with _transaction(self) as connection:
        yield connection
        _moment()


async def _noted(attempt: Attempt, ctx: Context[Any]) -> Admission:
    """Claim, call and record. What raises leaves the message of unknown outcome, so it stays noted."""
    _in_flight.add(attempt.message.id)
    result = await _claim_and_send(attempt, ctx)
    _in_flight.discard(attempt.message.id)
    return result


_begin = Straight.begin
_publish, _transaction = Context.publish, Context.transaction
_claim_and_send = provider_call.claim_and_send
MOMENTS: Final[dict[str, Callable[[], None]]] = {
    # a transaction has done its work, and is not committed
    "committing": lambda: setattr(Context, "transaction", _committing),
    # it is committed, and nothing that follows is done
    "committed": lambda: setattr(Context, "transaction", _committed),
    # committed, and no job published for the next worker
    "publishing": lambda: setattr(Context, "publish", _publishing),
    # the jobs are published, and the delivery not acked
    "published": lambda: setattr(Context, "publish", _published),
    # the conversation is locked, or its lease taken, and the engine about to think
    "thinking": lambda: setattr(answering, "make", _before(answering.make)),
    # the engine has answered, and nothing is written down
    "thought": lambda: setattr(answering, "make", _after(answering.make)),
    # a step of a campaign is done, and not committed
    "campaign step": lambda: setattr(workers.campaign.worker, "step", _after(workers.campaign.steps.step)),
    # a step of a campaign is committed, whatever it did
    "campaign stepped": lambda: setattr(workers.campaign.worker, "_step", _after(workers.campaign.worker._step)),
    # a page of messages is committed, and `send` not told
    "campaign page": lambda: setattr(Context, "publish", _publishing_only(SendReady)),
    # the turn of a campaign is over, and the next one not published
    "campaign turn": lambda: setattr(Context, "publish", _publishing_only(CampaignDue)),
    # deliveries are written, and the cursor not moved
    "webhook matching": lambda: setattr(cursor, "move", _before(cursor.move)),
    # deliveries are committed, and no job published
    "webhook matched": lambda: setattr(
        workers.webhook.matching.Matching, "_publish", _before(workers.webhook.matching.Matching._publish)
    ),
    # attempts are committed with their deliveries, and not begun
    "webhook handing": lambda: setattr(Straight, "begin", _beginning),
    # a webhook is held, and nothing taken of it
    "webhook claimed": lambda: setattr(turns, "claim", _after(turns.claim)),
    # the attempt is in the log, and not made
    "webhook noted": lambda: setattr(Delivering, "_post", _before(Delivering._post)),
    # the other side has answered, and nothing is written down
    "webhook answered": lambda: setattr(Delivering, "_post", _after(Delivering._post)),
    # what it answered is written down, and not committed
    "webhook recording": lambda: setattr(webhook_recording, "record", _after(webhook_recording.record)),
    # it is committed, and the webhook held
    "webhook recorded": lambda: setattr(Desk, "record", _after(Desk.record)),
    # the webhook is free, and the delivery of its job not acked
    "webhook released": lambda: setattr(Desk, "release", _after(Desk.release)),
    # the message is `sending`, and the provider not called
    "claimed": lambda: setattr(Batches, "claim", _after(Batches.claim, "claimed")),
    # the provider has answered, and nothing is written down
    "answered": lambda: setattr(recording, "record_result", _before(recording.record_result)),
    # what the provider said is written down, and the delivery not acked
    "recorded": lambda: setattr(recording, "record_result", _after(recording.record_result)),
    # the provider's list is seen without a message, and nothing decided
    "looked": lambda: setattr(unknown_lookup, "_look", _after(unknown_lookup._look)),
    # what follows from the list is written down, and the delivery not acked
    "resolved": lambda: setattr(unknown_lookup, "look_up", _after(unknown_lookup.look_up)),
}

if __name__ == "__main__":
    moment, _, count = sys.argv[1].partition(":")
    _left = int(count or 1)
    provider_call.claim_and_send = _noted
    MOMENTS[moment]()
    sys.exit(workers.__main__.main(sys.argv[2:]))
