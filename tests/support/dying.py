"""python -m tests.support.dying MOMENT NAME…: workers that kill themselves with -9 at the first such moment.

The moments are those at which a commit stands and nothing is published. Production code has no hook for this: what a
worker calls at that moment is wrapped here, from outside.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import workers.__main__
import workers.campaign.steps
import workers.campaign.worker
import workers.reply.worker
from shared.queue.jobs import CampaignDue, SendAdmitted
from shared.queue.worker import Context
from shared.store.messages import sends
from workers.send import provider_call, unknown_lookup

P = ParamSpec("P")
T = TypeVar("T")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    async def dying(*args: P.args, **kwargs: P.kwargs) -> T:
        _die()
        return await work(*args, **kwargs)

    return dying


def _after(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    async def dying(*args: P.args, **kwargs: P.kwargs) -> T:
        result = await work(*args, **kwargs)
        if result is not False:
            _die()
        return result

    return dying


def _publishing(self: Context[object], *jobs: object) -> Awaitable[None]:
    if jobs:
        _die()
    return _publish(self, *jobs)  # type: ignore[arg-type]


def _publishing_only(kind: type[object]) -> Callable[..., Awaitable[None]]:
    def publishing(self: Context[object], *jobs: object) -> Awaitable[None]:
        if any(isinstance(job, kind) for job in jobs):
            _die()
        return _publish(self, *jobs)  # type: ignore[arg-type]

    return publishing


_publish = Context.publish
MOMENTS: dict[str, Callable[[], None]] = {
    # committed, and no job published for the next worker
    "publishing": lambda: setattr(Context, "publish", _publishing),
    # the conversation's lease is taken, the engine about to think
    "thinking": lambda: setattr(workers.reply.worker, "_make", _before(workers.reply.worker._make)),
    # a step of a campaign is done, and not committed
    "campaign step": lambda: setattr(workers.campaign.worker, "step", _after(workers.campaign.steps.step)),
    # a step of a campaign is committed, whatever it did
    "campaign stepped": lambda: setattr(workers.campaign.worker, "_step", _after(workers.campaign.worker._step)),
    # a page of messages is committed, and `send` not told
    "campaign page": lambda: setattr(Context, "publish", _publishing_only(SendAdmitted)),
    # the turn of a campaign is over, and the next one not published
    "campaign turn": lambda: setattr(Context, "publish", _publishing_only(CampaignDue)),
    # the message is `sending`, and the provider not called
    "claimed": lambda: setattr(sends, "claim", _after(sends.claim)),
    # the provider has answered, and nothing is written down
    "answered": lambda: setattr(
        provider_call, "_record_through_outages", _before(provider_call._record_through_outages)
    ),
    # what the provider said is written down, and the delivery not acked
    "recorded": lambda: setattr(
        provider_call, "_record_through_outages", _after(provider_call._record_through_outages)
    ),
    # the provider's list is seen without a message, and nothing decided
    "looked": lambda: setattr(unknown_lookup, "_look", _after(unknown_lookup._look)),
    # what follows from the list is written down, and the delivery not acked
    "resolved": lambda: setattr(unknown_lookup, "look_up", _after(unknown_lookup.look_up)),
}

if __name__ == "__main__":
    MOMENTS[sys.argv[1]]()
    sys.exit(workers.__main__.main(sys.argv[2:]))
