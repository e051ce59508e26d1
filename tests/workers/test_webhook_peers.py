"""What went wrong with the webhooks of other systems, by the number of the issue: here it does not.

Each test plays what its reporter did. outpost: hookdeck/outpost. convoy: frain-dev/convoy. polar: polarsource/polar.
chatwoot: chatwoot/chatwoot. courtlistener: freelawproject/courtlistener. nango: NangoHQ/nango.
the-desk: deskhq/the-desk.
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

import aiodns
import pytest

from ingress.api.declaration import registry
from shared import database
from shared.domain.webhooks.schedule import SCHEDULE
from shared.net import dns
from shared.settings import Settings
from tests.support.api import ApiStage, Tenant, serving
from tests.support.name_server import Name, NameServer, name_server
from tests.support.webhook_receiver import HANG, OK, Answer, Received
from tests.support.webhook_stage import WORKERS, Hook, Hooks, hooked
from tests.support.webhooks import number_of

DOWN: Final = Answer(500)
HALF_A_DAY: Final = timedelta(hours=12)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NameServer]:
    """The name server that this test's workers ask."""
    async with name_server() as started:
        resolver = aiodns.DNSResolver([started.address], tries=dns.TRIES)
        monkeypatch.setattr(dns, "_resolver", resolver)
        yield started
        await resolver.close()


@asynccontextmanager
async def api_of(hooks: Hooks) -> AsyncIterator["Caller"]:
    """The API, with a key of the stage's tenant."""
    async with serving(hooks.stage.settings) as api:
        yield Caller(api, await api.key(Tenant(hooks.stage.ours.tenant_id, "", database.new_id()), "*"))


class Caller:
    def __init__(self, api: ApiStage, key: Tenant) -> None:
        self._api, self._key = api, key

    async def __call__(self, procedure: str, hook: Hook, **given: Any) -> Any:
        """Call a procedure about a webhook; its answer, which is no problem."""
        answer = await self._api.call(registry()[procedure], self._key, {"id": str(hook.id), **given})
        assert answer.status < 300, answer.body
        return answer.body


async def keeps_failing(hook: Hook, *, while_happening: int = 0, hooks: Hooks | None = None, most: int = 20) -> int:
    """Let half a day after the other pass, until the webhook is disabled; returns how many."""
    for halves in range(most):
        if (await hook.health())["disabled_at"] is not None:
            return halves
        if hooks is not None and while_happening:
            await hooks.happen(while_happening, first=1_000 * (halves + 1))
        before = len(hook.received())
        await hook.elapse(HALF_A_DAY)
        await hook.receiver.wait(hook.path, before + 1)
        await hook.rests()
    raise AssertionError(f"not disabled after {most / 2:g} days: {await hook.health()}")


async def is_pending(hook: Hook) -> bool:
    return "pending" in await hook.states()


# -- outpost -----------------------------------------------------------------------------------------------------------


async def test_outpost_611_what_happens_while_it_is_disabled_is_kept_and_can_be_replayed(settings: Settings) -> None:
    """Events to a disabled destination were gone: in no list, and nothing to replay once it was enabled again."""
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS), api_of(hooks) as call:
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", Answer(410), OK)
        await hooks.happen()
        await hooks.receiver.wait("/shop", 1)
        await shop.rests()
        assert (await shop.health())["disabled_reason"] == "gone"
        await hooks.happen(5, first=2)
        await shop.until(failed=1, missed=5)
        assert len(shop.received()) == 1
        listed = await call("webhooks.logs", shop, state="missed")
        assert len(listed["logs"]) == 5
        await call("webhooks.update", shop, isActive=True)
        await call("webhooks.recover", shop, since="2020-01-01T00:00:00Z")
        await shop.until(delivered=6)
        assert {number_of(one.json()) for one in shop.received()[1:]} == {1, 2, 3, 4, 5, 6}
        assert hooks.receiver.ids["/shop"] == {str(row["id"]) for row in await shop.log()}


async def test_outpost_596_a_url_that_fails_for_days_is_disabled(settings: Settings) -> None:
    """Automatic disabling did not happen, however long a destination failed."""
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", DOWN)
        await hooks.happen()
        await hooks.receiver.wait("/shop", 1)
        await shop.elapse(timedelta(days=2))
        await hooks.happen(first=2)
        halves = 4 + await keeps_failing(shop)
        assert 10 <= halves <= 14
        assert (await shop.health())["disabled_reason"] == "exhausted"
        assert (await shop.events()).count("webhook.disabled") == 1
        calls = len(shop.received())
        await hooks.happen(first=3)
        await shop.elapse(HALF_A_DAY)
        await shop.rests()
        assert (len(shop.received()), (await shop.states())["missed"]) == (calls, 1)


async def test_outpost_314_a_name_that_does_not_resolve_is_tried_again(settings: Settings, server: NameServer) -> None:
    """A destination whose name could not be resolved failed for good; a server's name may be back in a minute."""
    async with hooked(settings) as hooks:
        shop = await hooks.add("/shop")
        port = hooks.receiver.base.rpartition(":")[2]
        await hooks.stage.pool.execute(
            "UPDATE webhooks SET url = $2 WHERE id = $1", shop.id, f"http://shop.example:{port}/shop"
        )
        async with hooks.stage.working(*WORKERS):
            await hooks.happen()
            await hooks.stage.until(lambda: attempts(shop), equals=[["dns"]])
            assert await shop.states() == {"pending": 1}
            server.names["shop.example"] = Name(("127.0.0.1",))
            await shop.elapse(timedelta(seconds=6))
            await shop.until(delivered=1)
        assert await attempts(shop) == [["dns", None]]


async def attempts(hook: Hook) -> list[list[str | None]]:
    """The errors of the attempts of each delivery that ended."""
    return [[one["error"] for one in row["attempts"] if one["ended_at"]] for row in await hook.log()]


# -- order -------------------------------------------------------------------------------------------------------------


async def test_convoy_1525_the_events_of_a_conversation_come_in_order(settings: Settings) -> None:
    """Asked for since 2023: deliveries run beside each other, and a later event overtook an earlier one."""
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop", in_order=True)
        hooks.receiver.decides("/shop", lambda one: Answer(delay=0.03 if number_of(one.json()) % 3 else 0.0))
        talks = [await hooks.stage.converse(customer=f"+3460000000{n}") for n in range(4)]
        for turn in range(5):
            for place, talk in enumerate(talks):
                await hooks.happen(2, first=100 * place + 2 * turn, conversation_id=talk)
        await shop.until(delivered=40)
        came: dict[object, list[Received]] = defaultdict(list)
        for one in shop.received():
            came[one.json()["data"]["conversationId"]].append(one)  # type: ignore[index]
        assert len(came) == 4
        for received in came.values():
            numbers = [number_of(one.json()) for one in received]
            assert numbers == sorted(numbers)
            assert [one.json()["sequence"] for one in received] == list(range(1, 11))


async def test_polar_9525_who_waits_for_a_turn_does_not_back_off(settings: Settings) -> None:
    """6771, 6789, 9525, 9563: "not my turn yet" was raised as an error, and its retries backed off: the second of two
    events came 24 to 27 seconds late. Here it leaves when the one before it has arrived."""
    slow = 0.05
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop", in_order=True)
        hooks.receiver.answers("/shop", Answer(delay=slow))
        talk = await hooks.stage.converse()
        await hooks.happen(20, conversation_id=talk)
        received = await hooks.receiver.wait("/shop", 20)
        assert shop.numbers() == list(range(1, 21))
        waits = [later.at - one.at - slow for one, later in pairwise(received)]
        assert max(waits) < 1.0, waits
        await shop.until(delivered=20)
        assert {row["attempt_count"] for row in await shop.log()} == {1}


async def test_polar_9525_one_that_fails_thrice_is_overtaken(settings: Settings) -> None:
    """A forerunner that fails holds its conversation up until its third failure, and no longer; it stays owed."""
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop", in_order=True)
        hooks.receiver.decides("/shop", lambda one: DOWN if number_of(one.json()) == 1 else OK)
        talk = await hooks.stage.converse()
        await hooks.happen(3, conversation_id=talk)
        for failures in (1, 2):
            await hooks.receiver.wait("/shop", failures)
            await shop.rests()
            assert await shop.states() == {"pending": 1, "waiting": 2}
            await shop.elapse(timedelta(seconds=1.2 * SCHEDULE[failures]))
        await shop.until(pending=1, delivered=2)
        assert shop.numbers() == [1, 1, 1, 2, 3]
        assert [one.json()["sequence"] for one in shop.received()] == [1, 1, 1, 2, 3]


async def test_polar_8690_deliveries_that_wait_hide_no_failures(settings: Settings) -> None:
    """The newest ten events decided, pending ones too: while events kept coming, a dead URL was never disabled."""
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", DOWN)
        await hooks.happen()
        await hooks.receiver.wait("/shop", 1)
        halves = await keeps_failing(shop, while_happening=20, hooks=hooks)
        assert 10 <= halves <= 14
        await hooks.stage.until(lambda: is_pending(shop), equals=False)
        states = await shop.states()
        assert states.keys() == {"failed", "missed"}
        assert states["failed"] >= 1
        assert states["missed"] >= 20


# -- others ------------------------------------------------------------------------------------------------------------


async def test_chatwoot_15920_a_timeout_is_no_end_but_the_first_attempt(settings: Settings) -> None:
    """A webhook was called once, for five seconds, and the event was dropped with a line in the log."""
    assert Settings.model_fields["webhook_timeout"].default == 15
    assert len(SCHEDULE) == 10
    async with hooked(settings, webhook_timeout=0.5) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", HANG, OK)
        await hooks.happen()
        await hooks.stage.until(lambda: attempts(shop), equals=[["timeout"]])
        await shop.elapse(timedelta(seconds=6))
        await shop.until(delivered=1)
        first, second = shop.received()
        assert (first.id, first.body) == (second.id, second.body)
        assert await attempts(shop) == [["timeout", None]]


async def test_courtlistener_2208_the_tenant_hears_of_an_outage_and_not_of_each_event(settings: Settings) -> None:
    """Each event that failed sent its user mails, some hundred of them for one server that was down."""
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", DOWN)
        await hooks.happen(50)
        await hooks.receiver.wait("/shop", 5)
        await shop.rests()
        assert await shop.events() == ["webhook.failing"]
        hooks.receiver.answers("/shop", OK)
        await shop.elapse(timedelta(seconds=12))
        await shop.until(delivered=50)
        assert await shop.events() == ["webhook.failing", "webhook.recovered"]


async def test_nango_5061_a_dead_url_is_probed_and_one_success_closes_the_breaker(settings: Settings) -> None:
    """A URL that did not answer was called for every event and every retry, and held up all others."""
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS):
        dead, alive = await hooks.add("/dead"), await hooks.add("/alive")
        hooks.receiver.answers("/dead", DOWN)
        await hooks.happen(100)
        await alive.until(delivered=100)
        await dead.rests()
        opened = len(dead.received())
        assert 5 <= opened <= 5 + hooks.stage.settings.webhook_concurrency
        for probes in (1, 2, 3):
            await dead.elapse(timedelta(minutes=16))
            await hooks.receiver.wait("/dead", opened + probes)
            await hooks.happen(10, first=1_000 * probes)
            await dead.rests()
            assert len(dead.received()) == opened + probes
        hooks.receiver.answers("/dead", OK)
        await dead.elapse(timedelta(minutes=16))
        await dead.until(delivered=130)
        assert (await dead.health())["failures"] == 0


async def test_the_desk_1065_a_replay_is_the_same_delivery_once_more(settings: Settings) -> None:
    """A replay keeps the id, is signed with today's secret, is one attempt, does not touch health, and is allowed while
    the webhook is disabled."""
    async with hooked(settings) as hooks, hooks.stage.working(*WORKERS), api_of(hooks) as call:
        shop = await hooks.add("/shop")
        hooks.receiver.answers("/shop", OK, Answer(410), DOWN, OK)
        await hooks.happen()
        await shop.until(delivered=1)
        await hooks.happen(first=2)
        await hooks.receiver.wait("/shop", 2)
        await shop.rests()
        before = await shop.health()
        assert before["disabled_at"] is not None
        secret = (await call("webhooks.rotateSecret", shop, overlapSeconds=0))["secret"]
        first = (await shop.log())[0]["id"]
        for times in (1, 2):  # the first one fails, and is not tried again
            await call("webhooks.replay", shop, logId=str(first))
            await hooks.receiver.wait("/shop", 2 + times)
            await shop.rests()
            await shop.elapse(timedelta(hours=1))
            await shop.rests()
            assert len(shop.received()) == 2 + times
        original, _, failed, replayed = shop.received()
        assert original.id == failed.id == replayed.id == str(first)
        assert original.body == replayed.body
        assert original.is_signed(secret=shop.secret)
        assert replayed.is_signed(secret=secret)
        assert not replayed.is_signed(secret=shop.secret)
        after = await shop.health()
        same = ("failures", "disabled_reason", "probes")
        assert [after[name] for name in same] == [before[name] for name in same]
        assert await shop.states() == {"delivered": 1, "failed": 1}
