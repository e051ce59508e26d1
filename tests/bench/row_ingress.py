"""Row 1: signed webhooks a second that are acknowledged, from 64 connections at once.

Both answer the same requests of the same load generator, each on a virtual host of its own. Every webhook that was
answered 2xx must stand in the queue afterwards, or the row fails.
"""

from dataclasses import dataclass

from ops.demo.twilio import DEMO
from ops.errors import Problem
from shared.queue import topology
from tests.bench import queues
from tests.bench.arena import Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Peak, Result, percentile

ROW = "ingress"
WEBHOOKS = 16_000  # a round
WARM_UP = 3_000
CONNECTIONS = 64
FLOOR_QUEUE = "floor"


@dataclass(frozen=True, slots=True)
class Round:
    """One side in one round."""

    rate: float  # webhooks a second
    p50: float  # ms
    p99: float
    envelopes: int  # AMQP messages that the webhooks became


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where a webhook was refused or lost."""
    floor_broker, our_broker = arena.vhost("ingress-floor"), arena.vhost("ingress")
    floor = arena.spawn(
        "floor-ingress", ["-m", "tests.bench.floor_ingress", FLOOR_QUEUE], {"AMQP_URL": floor_broker}, serves=True
    )
    variables = {"AMQP_URL": our_broker, "DATABASE_URL": arena.database("ingress")}
    ours = arena.spawn("receive", ["-m", "ingress", "receive"], variables, serves=True)
    await arena.ready(floor, ours)

    async def floor_round(count: int) -> Round:
        sent = await _load(arena, floor, count)
        kept = await queues.settled(floor_broker, FLOOR_QUEUE, count)
        await queues.purge(floor_broker, FLOOR_QUEUE)
        return _round(sent, kept=kept, envelopes=kept)

    known: set[str] = set()  # inbound ids of all rounds

    async def our_round(count: int) -> Round:
        sent = await _load(arena, ours, count)
        before = len(known)
        taken = await queues.take_envelopes(our_broker, topology.PERSIST.name, known, count)
        return _round(sent, kept=len(known) - before, envelopes=len(taken))

    await floor_round(WARM_UP)
    await our_round(WARM_UP)
    advance()
    floors, ourselves = [], []
    for _ in range(rounds):
        floors.append(await floor_round(WEBHOOKS))
        ourselves.append(await our_round(WEBHOOKS))
        arena.check(floor, ours)
        advance()
    result = Result(
        ROW,
        f"{WEBHOOKS} signed webhooks a round over {CONNECTIONS} kept connections, each writing the next as soon as the "
        "last is answered; the time from the first to the last answer. Each round's 2xx are counted in the queue.",
        [
            Measure(
                ROW, "webhooks", "/s", Goal("at least", 1.5), [r.rate for r in floors], [r.rate for r in ourselves]
            ),
            Measure(ROW, "p99", "ms", Goal("below", 1.0), [r.p99 for r in floors], [r.p99 for r in ourselves]),
        ],
        [Peak(ROW, floor.name, floor.peak(), ours=False), Peak(ROW, ours.name, ours.peak())],
        {
            "p50_ms": {"floor": [r.p50 for r in floors], "ours": [r.p50 for r in ourselves]},
            "webhooks_an_envelope": [WEBHOOKS / r.envelopes for r in ourselves],
        },
    )
    arena.end(floor, ours)
    return result


Sent = list[tuple[int, float, float, int]]  # customer, started, answered, status


async def _load(arena: Arena, target: Process, count: int) -> Sent:
    """Send so many; raises Problem where one was not answered 2xx."""
    arguments = [DEMO.webhook_url(target.url), str(count), "FILE", "--connections", str(CONNECTIONS)]
    answer = await arena.result("load", "load", arguments, {})
    sent: Sent = answer["sent"]
    refused = {status for *_, status in sent if not 200 <= status < 300}
    if refused or answer["lost"] or len(sent) != count:
        raise Problem(
            f"{target.name} answered {len(sent)} of {count}, with {sorted(refused) or 'nothing but 2xx'}; "
            f"{answer['lost']} connections were lost.",
            f"Its log is {target.log}.",
        )
    return sent


def _round(sent: Sent, *, kept: int, envelopes: int) -> Round:
    if kept != len(sent):
        raise Problem(
            f"{len(sent)} webhooks were acknowledged and {kept} stand in the queue.",
            "This must never happen; report it.",
        )
    began, ended = min(started for _, started, _, _ in sent), max(answered for _, _, answered, _ in sent)
    waits = [(answered - started) * 1000 for _, started, answered, _ in sent]
    return Round(len(sent) / (ended - began), percentile(waits, 0.5), percentile(waits, 0.99), envelopes)
