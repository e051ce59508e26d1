"""A provider that hangs delays only its own channels, and a channel that hangs delays no other one."""

from collections.abc import Sequence

import pytest

from shared.process import metrics
from shared.queue import topology
from shared.sending.senders import CONCURRENCY
from shared.settings import Settings
from tests.support.meta_stage import add_app, add_number
from tests.support.stage import Ours, Stage, staged

HEALTHY = 20  # messages that must leave all the same
OTHER_ACCOUNT = ("AC" + "7" * 32, "token of the account that hangs")


def customer(number: int) -> str:
    return f"+34600{number:06}"


async def channels_of(stage: Stage, provider: str, count: int) -> list[Ours]:
    """So many channels at a provider, each of a tenant of its own."""
    if provider == "twilio":
        return [await stage.add_channel(address=f"+1415555{number:04}") for number in range(count)]
    app = await add_app(stage)
    numbers = [f"2000000000{number:05}" for number in range(count)]
    for phone_number_id in numbers:
        await stage.sandbox.meta_number(phone_number_id)
    return [await add_number(stage, app, phone_number_id) for phone_number_id in numbers]


async def owe(stage: Stage, through: Sequence[Ours], count: int, text: str) -> None:
    """Owe so many customers a message each, through these channels in turn."""
    requests = []
    for number in range(count):
        ours = through[number % len(through)]
        conversation = await stage.converse(customer=customer(number), ours=ours)
        requests.append(await stage.requested(conversation, text, ours=ours))
    await stage.deliver(*requests)


async def taken(stage: Stage, text: str) -> int:
    """Messages of this text that a provider has taken."""
    return sum((seen.body, seen.outcome) == (text, "accepted") for seen in await stage.sandbox.messages())


async def hanging_calls(stage: Stage) -> int:
    """Calls that are under way and get no answer."""
    return sum(seen.outcome == "hung" and seen.finished_at is None for seen in await stage.sandbox.messages())


@pytest.mark.parametrize(("hanging", "healthy"), [("meta", "twilio"), ("twilio", "meta")])
async def test_a_provider_that_hangs_on_every_call_takes_nothing_that_another_one_needs(
    settings: Settings, hanging: str, healthy: str
) -> None:
    async with (
        staged(settings, send_timeout=60.0, stop_grace=0.2) as stage,
        stage.working("window", "send", "clock"),
    ):
        await stage.sandbox.faults({"provider": hanging, "action": "hang", "seconds": 60})
        await owe(stage, await channels_of(stage, hanging, CONCURRENCY), CONCURRENCY + 16, "cuelga")
        await stage.until(hanging_calls, stage, equals=CONCURRENCY, within=60)

        await owe(stage, await channels_of(stage, healthy, 2), HEALTHY, "sale")
        await stage.until(taken, stage, "sale", equals=HEALTHY, within=30)
        assert await hanging_calls(stage) == CONCURRENCY, "it no longer hangs: nothing was shown"


async def test_a_channel_that_hangs_leaves_its_neighbours_at_the_provider_their_calls(settings: Settings) -> None:
    async with (
        staged(settings, send_timeout=60.0, stop_grace=0.2) as stage,
        stage.working("window", "send", "clock"),
    ):
        await stage.sandbox.account(*OTHER_ACCOUNT)
        hanging = await stage.add_channel(address="+14155550001", account=OTHER_ACCOUNT)
        hangs = {"provider": "twilio", "action": "hang", "seconds": 60, "match": {"account": OTHER_ACCOUNT[0]}}
        await stage.sandbox.faults(hangs)
        await owe(stage, [hanging], CONCURRENCY + 16, "cuelga")
        await stage.until(hanging_calls, stage, equals=CONCURRENCY // 2, within=60)

        await owe(stage, [stage.ours], HEALTHY, "sale")
        await stage.until(taken, stage, "sale", equals=HEALTHY, within=30)
        assert await hanging_calls(stage) == CONCURRENCY // 2, "it no longer hangs: nothing was shown"


async def test_what_finds_no_place_leaves_as_soon_as_its_channel_has_one_and_only_once(settings: Settings) -> None:
    """No clock runs here: it would come back by its due time too, but seconds later."""
    count = 3 * CONCURRENCY
    async with staged(settings, {"rate": 1000}, handoff_lease=60.0) as stage, stage.working("window", "send"):
        await stage.sandbox.faults({"provider": "twilio", "action": "slow", "delay_ms": 700})
        before = without_place()
        await owe(stage, [stage.ours], count, "sale")
        await stage.until(stage.statuses, equals=["sent"] * count, within=60)
        assert await taken(stage, "sale") == len(await stage.sandbox.messages()) == count
        # A newer one never takes the place that a waiting one gets, which would have to wait again.
        assert 0 < without_place() - before <= count - CONCURRENCY // 2


def without_place() -> float:
    """How many sends this process has had no place for."""
    return float(metrics.SENDS_POSTPONED.labels(topology.send_queue("twilio").name)._value.get())
