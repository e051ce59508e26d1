"""Row "campaign": how exactly a campaign keeps its channel's rate, end to end, and what it costs the replies beside it.

First its recipients are frozen (row_campaign_freeze.py). Then the whole system runs, with three `send` and two
`campaign`, and the provider's record says when each message came. At 1,000 a second, where HTTP would be the limit on
most machines, three processes take slots and call nothing.
"""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from ops.demo.twilio import DEMO
from ops.errors import Problem
from ops.local.supervisor import read_procfile
from ops.sandbox.client import SandboxClient
from shared import database
from shared.actions import campaign_life
from shared.domain.campaigns.pace import RESERVE
from shared.queue.publisher import Publisher
from shared.settings import Settings
from shared.store import channels
from shared.store.campaigns.records import Campaign
from shared.store.rate_limits import Request
from tests.bench import row_campaign_freeze
from tests.bench.arena import CHECKOUT, Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Peak, Result, percentile
from tests.bench.pace import Pace, pace
from tests.bench.webhooks import phone
from tests.support import campaigns, pacing
from tests.support.stage import Ours

ROW: Final = "campaign"
SECONDS: Final = float(os.environ.get("PALOMAR_BENCH_CAMPAIGN_SECONDS", "20"))  # of each pace, a round
PACES: Final = (10.0, 80.0)  # messages a second, end to end
WITHOUT_HTTP: Final = 1000.0
PROCESSES: Final = 3
NUMBER: Final[Mapping[str, int]] = {"send": 3, "campaign": 2}  # of the others one
REPLIES: Final = 5.0  # customers' messages a second, beside the campaign and without it
CUSTOMERS: Final = 10_000_000  # the first one's number: none is a recipient
WITHIN: Final = 60.0  # seconds for what is under way
RULES: Final[Mapping[str, object]] = {"reply": {"greeting": "Hello", "menu": []}}
OURS: Final = Ours(DEMO.tenant_id, DEMO.channel_id, DEMO.endpoint_id, DEMO.kind, DEMO.address)


@dataclass(slots=True)
class System:
    """All processes, and ways to look at what they do."""

    processes: Sequence[Process]
    receive: Process
    sandbox: SandboxClient
    pool: database.Pool
    publisher: Publisher
    settings: Settings
    template: UUID


@dataclass(slots=True)
class Rounds:
    """What the rounds of one pace gave: what it may use, the most that any second may have, and both as they were."""

    rate: float  # that these messages may use
    setting: float  # the channel's; higher where a part of it is kept for replies
    paces: list[Pace] = field(default_factory=list)

    def measures(self, name: str) -> list[Measure]:
        allowed = self.setting + max(0.05 * self.setting, 1)
        count = len(self.paces)
        return [
            Measure(
                ROW, f"{name}, used", "/s", Goal("at least", 0.95), [self.rate] * count,
                [self.rate * one.used for one in self.paces],
            ),
            Measure(
                ROW, f"{name}, most in 1 s", "/s", Goal("at most", 1.0), [allowed] * count,
                [float(one.most) for one in self.paces],
            ),
        ]  # fmt: skip


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where a recipient was not messaged, or twice."""
    frozen = await row_campaign_freeze.measure(arena, rounds, lambda: None)
    system = await _system(arena)
    paces = {rate: Rounds(rate, rate) for rate in PACES}
    reserved = Rounds(PACES[-1] * (1 - RESERVE), PACES[-1])
    without_http = Rounds(WITHOUT_HTTP, WITHOUT_HTTP)
    alone: list[list[float]] = []
    beside: list[list[float]] = []
    groups = {rate: await _group(system, int(rate * SECONDS)) for rate in (*PACES, reserved.rate)}
    customer = CUSTOMERS
    for number in range(rounds + 1):
        found = {rate: await _paced(arena, system, groups[rate], rate, reserve=0.0) for rate in PACES}
        held = await _paced(arena, system, groups[reserved.rate], PACES[-1], reserve=RESERVE)
        slots = await _slots(system)
        quiet = await _replies(arena, system, customer)
        campaign = await _start(system, groups[PACES[-1]], PACES[-1], RESERVE)
        busy = await _replies(arena, system, customer + 1_000)
        await _over(arena, system, campaign)
        customer += 2_000
        if number:  # the first was to warm up
            for rate, one in found.items():
                paces[rate].paces.append(one)
            reserved.paces.append(held)
            without_http.paces.append(slots)
            alone.append(quiet)
            beside.append(busy)
        advance()
    paced = _result(system, [*paces.values()], reserved, without_http, alone, beside)
    await _close(arena, system)
    return Result(
        ROW,
        f"{frozen.how} {paced.how}",
        [*frozen.measures, *paced.measures],
        [*frozen.peaks, *paced.peaks],
        {**frozen.seen, **paced.seen},
    )


def _result(
    system: System, paces: Sequence[Rounds], reserved: Rounds, without_http: Rounds,
    alone: Sequence[Sequence[float]], beside: Sequence[Sequence[float]],
) -> Result:  # fmt: skip
    measures = [measure for one in paces for measure in one.measures(f"{one.rate:g}/s")]
    measures += reserved.measures(f"{PACES[-1]:g}/s less the reserve")
    measures += without_http.measures(f"{WITHOUT_HTTP:g}/s, no HTTP")
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        floor, ours = ([percentile(waits, share) for waits in of] for of in (alone, beside))
        measures.append(Measure(ROW, f"a reply, {name}", "ms", Goal("at most", 2.0), floor, ours))
    return Result(
        ROW,
        f"{SECONDS:g} s a round of each pace; the floor of `used` is the setting, that of `most` what any second may "
        f"have: 5 % more, or one. Replies: {REPLIES:g} customers a second who never wrote before, from the webhook to "
        f"the sandbox's receipt of the answer; the floor has no campaign, ours one at {PACES[-1]:g} a second less the "
        f"reserve of {RESERVE:.0%}.",
        measures,
        [Peak(ROW, process.name, process.peak()) for process in system.processes[1:]],
    )


# -- the system --------------------------------------------------------------------------------------------------------


async def _system(arena: Arena) -> System:
    sandbox = arena.spawn("sandbox", ["-m", "ops.sandbox"], {}, serves=True)
    variables = {
        "AMQP_URL": arena.vhost("campaign"),
        "DATABASE_URL": arena.database("campaign"),
        "PALOMAR_TWILIO_API_URL": sandbox.url,
    }
    commands = read_procfile(CHECKOUT / "Procfile")
    receive = arena.spawn("receive", commands.pop("receive").split()[1:], variables, serves=True)
    commands.pop("api")
    variables["PALOMAR_PUBLIC_URL"] = receive.url
    workers = [
        arena.spawn(f"{name}-{number}" if name in NUMBER else name, command.split()[1:], variables, serves=True)
        for name, command in commands.items()
        for number in range(1, NUMBER.get(name, 1) + 1)
    ]
    await arena.ready(sandbox, receive, *workers)
    settings = arena.settings(amqp_url=variables["AMQP_URL"], database_url=variables["DATABASE_URL"])
    publisher = Publisher(
        variables["AMQP_URL"], "bench", timeout=settings.publish_timeout, delays=settings.retry_delays
    )
    await publisher.start()
    await asyncio.wait_for(publisher.wait_ready(), 30)
    pool = await database.make_pool(settings, process="bench", size=2)
    client = await SandboxClient(sandbox.url).__aenter__()
    # Twilio's receipts of a campaign would be three webhooks for each of its messages.
    await client.faults({"provider": "twilio", "action": "no_receipts"})
    await campaigns.add_contacts(pool, DEMO.tenant_id, int(max(PACES) * SECONDS))
    template = await campaigns.add_template(pool, OURS)
    return System([sandbox, receive, *workers], receive, client, pool, publisher, settings, template)


async def _close(arena: Arena, system: System) -> None:
    await system.sandbox.__aexit__(None, None, None)
    await system.publisher.close()
    system.pool.terminate()
    arena.end(*system.processes)


async def _group(system: System, count: int) -> UUID:
    return await campaigns.add_group(system.pool, DEMO.tenant_id, count)


# -- a campaign --------------------------------------------------------------------------------------------------------


async def _start(system: System, group: UUID, rate: float, reserve: float) -> Campaign:
    channel = {**RULES, "rate": rate, "bulk_reserve": reserve}
    assert await channels.set_settings(system.pool, OURS.tenant_id, OURS.id, channel)
    campaign = await campaigns.draft(
        system.pool, OURS, message_template_id=system.template, variables={"1": "{{contact.name}}"},
        recipient_type="groups", recipient_ids=(group,),
    )  # fmt: skip
    async with system.pool.acquire() as connection, connection.transaction():
        moved = await campaign_life.start(connection, campaign.tenant_id, campaign.id)
    assert moved is not None
    await system.publisher.publish(*moved.jobs)
    return campaign


async def _over(arena: Arena, system: System, campaign: Campaign) -> None:
    deadline = time.monotonic() + SECONDS + WITHIN
    while (await campaigns.read(system.pool, campaign)).status == "running":
        arena.check(*system.processes)
        if time.monotonic() > deadline:
            found = await campaigns.tally(system.pool, campaign)
            raise Problem(f"The campaign does not end: {dict(found)}.", f"Logs: {arena.stack.root}/logs.")
        await asyncio.sleep(0.2)


async def _paced(arena: Arena, system: System, group: UUID, rate: float, *, reserve: float) -> Pace:
    """How the messages of a campaign came in at the provider."""
    await system.sandbox.clear()
    campaign = await _start(system, group, rate, reserve)
    await _over(arena, system, campaign)
    accepted = [one for one in await system.sandbox.sends() if one.accepted]
    recipients = (await campaigns.tally(system.pool, campaign)).total()
    if not len(accepted) == len({one.to for one in accepted}) == recipients:
        raise Problem(f"{len(accepted)} messages for {recipients} recipients.", "This must never happen; report it.")
    return pace((one.at for one in accepted), rate * (1 - reserve))


async def _slots(system: System) -> Pace:
    """The moments at which processes would have called, had they anything to send."""
    wanted = Request(OURS.tenant_id, OURS.id, "bulk", rate=WITHOUT_HTTP, bulk_reserve=0.0)
    notes = await pacing.in_processes(system.settings, wanted, SECONDS / 2, processes=PROCESSES)
    return pace(notes.calls, WITHOUT_HTTP)


async def _replies(arena: Arena, system: System, first: int) -> list[float]:
    """Milliseconds from each customer's webhook to the answer's arrival. The first customer has the number `first`."""
    await system.sandbox.clear()
    count = int(REPLIES * SECONDS * 0.8)  # so that the campaign beside it is not over before
    url = DEMO.webhook_url(system.receive.url)
    answer = await arena.result(
        "load", "load", [url, str(count), "FILE", "--rate", str(REPLIES), "--first", str(first)], {}
    )
    started = {f"whatsapp:{phone(customer)}": at for customer, at, _, status in answer["sent"] if status < 300}
    offset = time.time() - time.monotonic()
    deadline = time.monotonic() + WITHIN
    while True:
        arrived = {one.to: one.at - offset for one in await system.sandbox.sends() if one.to in started}
        if len(arrived) == count:
            return [(arrived[to] - at) * 1000 for to, at in started.items()]
        if time.monotonic() > deadline:
            raise Problem(f"{len(arrived)} of {count} customers were answered.", f"Logs: {arena.stack.root}/logs.")
        await asyncio.sleep(0.2)
