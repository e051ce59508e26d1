"""The sandbox as campaigns meet it: templates that are held, paused or marketing, rate limits, and every call."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ops.sandbox.client import SandboxError
from ops.sandbox.meta_forms import ACCOUNT, PHONE_NUMBER_ID
from ops.sandbox.record import Moment, SentMessage
from shared.domain.model import Pricing, Template
from shared.providers.base import Accepted, ContentRejected, SendResult, TemplateChange, Throttled
from tests.providers.test_meta_forms import OURS
from tests.providers.test_sandbox_meta import App, listening, send
from tests.support.sandbox_stage import Stage, playing

OFFER = Template("oferta", {"1": "Ana"}, "es_MX")
PEOPLE = ["5215512345678", "5215512345679", "5215512345670"]
LISTED = {"id": "77", "name": "oferta", "language": "es_MX", "status": "APPROVED", "category": "MARKETING"}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with playing() as stage:
        yield stage


async def offer(stage: Stage, to: str = PEOPLE[0]) -> SendResult:
    return await send(stage, template=OFFER, recipient=to)


def codes(app: App) -> list[tuple[str, str | None]]:
    return [(one.status, one.error_code) for parsed in app.read for one in parsed.receipts]


# -- quality -----------------------------------------------------------------------------------------------------------


async def test_messages_of_a_template_are_held_and_released(stage: Stage) -> None:
    async with listening() as app:
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=app.url)
        await stage.sandbox.quality("oferta", "hold", after=1)
        answers = [await offer(stage, one) for one in PEOPLE]
        assert [isinstance(one, Accepted) and one.held for one in answers] == [False, True, True]
        assert isinstance(other := await send(stage, template=Template("other", {}, "es")), Accepted)
        assert not other.held
        assert len(await app.statuses(6)) == 6, "of the first one and the other template, and no more"
        await asyncio.sleep(0.1)
        assert len(codes(app)) == 6
        assert (await stage.sandbox.quality("oferta", "release")).held == 2
        assert len(await app.statuses(12)) == 12
        assert isinstance(again := await offer(stage), Accepted)
        assert not again.held


@pytest.mark.parametrize(
    ("action", "event", "code"), [("pause", "paused", "132015"), ("disable", "disabled", "132016")]
)
async def test_a_template_that_people_dislike_drops_what_is_held_and_is_refused(
    stage: Stage, action: Any, event: str, code: str
) -> None:
    await stage.sandbox.templates("meta", ACCOUNT, LISTED)
    async with listening() as app:
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=app.url)
        await stage.sandbox.quality("oferta", "hold")
        assert isinstance(held := await offer(stage), Accepted)
        assert held.held
        done = await stage.sandbox.quality("oferta", action)
        assert (done.held, done.webhook and done.webhook.status) == (1, 200)
        assert await app.statuses(1) == ["failed"]
        assert codes(app) == [("failed", "132015")]
        (notice,) = [notice for parsed in app.read for notice in parsed.notices]
        assert notice.template == TemplateChange(ACCOUNT, "77", "oferta", "es_MX", event)  # type: ignore[arg-type]
        assert notice.data.get("title") == ("FIRST_PAUSE" if action == "pause" else None)
        assert isinstance(refused := await offer(stage), ContentRejected)
        assert refused.code == code
        await stage.sandbox.quality("oferta", "approve")
        assert isinstance(await offer(stage), Accepted)


async def test_a_state_cannot_be_announced_to_nobody(stage: Stage) -> None:
    with pytest.raises(SandboxError, match="webhook_url"):
        await stage.sandbox.quality("oferta", "pause")
    await stage.sandbox.quality("oferta", "pause", announce=False)
    assert isinstance(await offer(stage), ContentRejected)


# -- the path for marketing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "category"),
    [
        ({"template": OFFER, "marketing": True}, Pricing("marketing_lite", "regular", billable=True)),
        ({"template": OFFER}, Pricing("marketing", "regular", billable=True)),
        ({"template": Template("hello_world", {}, "en_US")}, Pricing("utility", "regular", billable=True)),
        ({}, Pricing("service", "free_customer_service", billable=False)),
    ],
)
async def test_receipts_say_how_a_message_is_charged(stage: Stage, fields: dict[str, Any], category: Pricing) -> None:
    async with listening() as app:
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=app.url)
        assert isinstance(await send(stage, **fields), Accepted)
        await app.statuses(3)
    receipts = {one.status: one.pricing for parsed in app.read for one in parsed.receipts}
    assert receipts == {"sent": category, "delivered": category, "read": None}
    (seen,) = await stage.sandbox.messages()
    assert seen.marketing is (category.category == "marketing_lite")


async def test_the_path_for_marketing_takes_nothing_else(stage: Stage) -> None:
    refused = await send(stage, template=Template("hello_world", {}, "en_US"), marketing=True)
    assert isinstance(refused, ContentRejected)
    assert refused.code == "134100"


@pytest.mark.parametrize("wanted", [(), ("delivered",), ("sent", "delivered")])
async def test_a_number_has_the_receipts_that_it_asks_for(stage: Stage, wanted: tuple[str, ...]) -> None:
    async with listening() as app:
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=app.url, receipts=wanted)
        await send(stage)
        assert await app.statuses(len(wanted)) == list(wanted)
        await asyncio.sleep(0.1)
        assert len(codes(app)) == len(wanted)


async def test_receipts_may_come_many_in_one_webhook(stage: Stage) -> None:
    async with listening() as app:
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=app.url, batch_seconds=0.2)
        for one in PEOPLE:
            await send(stage, recipient=one)
        assert len(await app.statuses(9)) == 9
        assert len(app.read) == 1
    assert [[one.status for one in seen.statuses] for seen in await stage.sandbox.messages()] == [
        ["sent", "delivered", "read"]
    ] * 3


# -- limits ------------------------------------------------------------------------------------------------------------


def meta_limit(**fields: object) -> dict[str, object]:
    return {"provider": "meta", "sender": PHONE_NUMBER_ID, **fields}


async def test_a_number_has_a_rate_and_what_customers_write_counts(stage: Stage) -> None:
    await stage.sandbox.limits(meta_limit(per_second=3, retry_after=2))
    async with listening() as app:
        await stage.sandbox.meta_customer(sender=PEOPLE[0], webhook_url=app.url, text="hola")
        answers = [await send(stage, recipient=one) for one in PEOPLE]
        assert [isinstance(one, Accepted) for one in answers] == [True, True, False]
        assert isinstance(refused := answers[2], Throttled)
        assert (refused.code, refused.retry_after, refused.scope) == ("130429", 2.0, "channel")
        await asyncio.sleep(1.05)
        assert isinstance(await send(stage), Accepted)
        (limit,) = await stage.sandbox.standing_limits()
        assert (limit.sender, limit.exceeded) == (PHONE_NUMBER_ID, {"rate": 1, "pair": 0})
        await stage.sandbox.clear_limits()
        assert [isinstance(await send(stage), Accepted) for _ in range(5)] == [True] * 5


async def test_a_recipient_has_a_turn_of_their_own(stage: Stage) -> None:
    await stage.sandbox.limits(meta_limit(pair_seconds=0.5))
    assert isinstance(await send(stage), Accepted)
    assert isinstance(refused := await send(stage), Throttled)
    assert (refused.code, refused.scope) == ("131056", "message")
    assert isinstance(await send(stage, recipient=PEOPLE[1]), Accepted)
    await asyncio.sleep(0.55)
    assert isinstance(await send(stage), Accepted)


@pytest.mark.parametrize("code", [None, 63018])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_twilio_has_a_rate_too(stage: Stage, code: int | None) -> None:
    sender = "whatsapp:+14155238886"
    await stage.sandbox.limits({"provider": "twilio", "sender": sender, "per_second": 1, "code": code})
    async with stage.twilio() as client:
        await client.messages.create_async(to="whatsapp:+5215512345678", from_=sender, body="hola")
        with pytest.raises(Exception, match="429") as refused:
            await client.messages.create_async(to="whatsapp:+5215512345678", from_=sender, body="hola")
    assert getattr(refused.value, "code", None) == (code or 20429)


# -- calls that send ---------------------------------------------------------------------------------------------------


async def test_every_call_is_kept_in_one_line(stage: Stage) -> None:
    await stage.sandbox.keep(1)
    await stage.sandbox.faults({"provider": "meta", "action": "error", "code": 131026, "times": 1})
    for one in (*PEOPLE, PEOPLE[0]):
        await send(stage, recipient=one)
    seen = await stage.sandbox.sends()
    assert [one.to for one in seen] == [*PEOPLE, PEOPLE[0]]
    assert [one.accepted for one in seen] == [False, True, True, True]
    assert sorted(one.at for one in seen) == [one.at for one in seen]
    assert {(one.own_id, one.sender) for one in seen} == {(str(OURS), PHONE_NUMBER_ID)}
    assert len(await stage.sandbox.messages()) == 1, "the messages themselves are forgotten"
    summary = await stage.sandbox.send_summary()
    assert (summary.calls, summary.accepted, summary.recipients, summary.next) == (4, 3, 3, 4)
    assert (summary.repeated_recipients, list(summary.repeated_ids.values())) == ({}, [3])
    assert await stage.sandbox.sends(since=3) == seen[3:]
    await stage.sandbox.clear()
    assert await stage.sandbox.sends() == []
    await send(stage)
    assert len(await stage.sandbox.sends(since=summary.next)) == 1, "places count on"


@pytest.mark.parametrize(
    "fields",
    [
        {"opaque": str(OURS), "sid": "wamid.1"},
        {"status_callback": f"http://127.0.0.1/webhooks/twilio/{ACCOUNT}/status?m={OURS}#rc=5", "sid": "SM1"},
        {"sid": f"<palomar.{OURS}@example.com>"},
    ],
)
def test_a_call_names_our_message(fields: dict[str, str]) -> None:
    message = SentMessage(
        seq=1, received_at=Moment.now(), provider="", account="", to="", sender="", body="", **fields  # type: ignore[arg-type]
    )  # fmt: skip
    assert message.own_id == str(OURS)
