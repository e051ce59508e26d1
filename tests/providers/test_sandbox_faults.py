"""Faults on demand, as the SDK and our webhook receiver meet them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from twilio.base.exceptions import TwilioRestException

from ops.sandbox.app import STOP_WITHIN
from ops.sandbox.client import SandboxClient, SandboxError
from ops.sandbox.twilio import ACCOUNT_SID
from tests.support.sandbox_stage import CHANNEL, CUSTOMER, SDK_WARNINGS, Stage, playing, receiving

pytestmark = SDK_WARNINGS


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with playing() as stage:
        yield stage


async def _send(stage: Stage, body: str = "hola", to: str = CUSTOMER, callback: str | None = None) -> None:
    async with stage.twilio() as twilio:
        fields = {"status_callback": callback} if callback else {}
        await twilio.messages.create_async(to=to, from_=CHANNEL, body=body, **fields)


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [
        ({"action": "429", "retry_after": 2}, 429, 20429),
        ({"action": "5xx"}, 503, 20503),
        ({"action": "5xx", "status": 500}, 500, 20500),
        ({"action": "error", "code": 63016}, 400, 63016),
        ({"action": "error", "code": 21610, "status": 403, "message": "no more"}, 403, 21610),
    ],
)
async def test_a_refusal_on_demand_reaches_the_sdk_and_accepts_nothing(
    stage: Stage, rule: dict[str, object], status: int, code: int
) -> None:
    await stage.sandbox.faults({"provider": "twilio", "times": 1, **rule})
    with pytest.raises(TwilioRestException) as refusal:
        await _send(stage)
    assert (refusal.value.status, refusal.value.code) == (status, code)
    await _send(stage)
    refused, accepted = await stage.sandbox.messages()
    assert (refused.outcome, refused.code, accepted.outcome) == ("refused", str(rule.get("code", status)), "accepted")


async def test_retry_after_is_a_header(stage: Stage) -> None:
    await stage.sandbox.faults({"provider": "twilio", "action": "429", "retry_after": 7})
    async with stage.twilio() as twilio:
        with pytest.raises(TwilioRestException):
            await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola")
        answer = twilio.http_client._test_only_last_response
    assert answer is not None
    assert answer.headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    ("action", "outcome", "receipts"), [("accept_then_drop", "accepted", 3), ("drop_before", "dropped", 0)]
)
async def test_a_dropped_connection_may_or_may_not_have_taken_the_message(
    stage: Stage, action: str, outcome: str, receipts: int
) -> None:
    await stage.sandbox.faults({"provider": "twilio", "action": action, "times": 1})
    async with receiving() as ours:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await _send(stage, callback=ours.url)
        await ours.got(receipts)
    (seen,) = await stage.sandbox.messages()
    assert (seen.outcome, seen.answered) == (outcome, False)
    assert seen.finished_at is not None
    async with stage.twilio() as twilio:
        listed = await twilio.messages.list_async(to=CUSTOMER)
    assert [message.sid for message in listed] == ([seen.sid] if outcome == "accepted" else [])


async def test_a_hanging_provider_answers_nothing_and_accepts_nothing(stage: Stage) -> None:
    await stage.sandbox.faults({"provider": "twilio", "action": "hang", "seconds": 30})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await _send(stage)
    (seen,) = await stage.sandbox.messages()
    assert (seen.outcome, seen.finished_at) == ("hung", None)


async def test_who_hangs_or_waits_does_not_keep_the_sandbox_from_stopping() -> None:
    started = time.monotonic()
    async with AsyncExitStack() as others:
        async with playing() as stage:
            waiter = await others.enter_async_context(SandboxClient(stage.base_url))
            twilio = await others.enter_async_context(stage.twilio())
            await stage.sandbox.faults({"provider": "twilio", "action": "hang", "seconds": 300})
            hanging = asyncio.create_task(twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola"))
            waiting = asyncio.create_task(waiter.wait(within=300))
            await asyncio.sleep(0.1)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await hanging
        with pytest.raises(TimeoutError, match="0 of 1"):
            await waiting
    assert time.monotonic() - started < STOP_WITHIN, "it waits for no request in vain"


@pytest.mark.parametrize("accepted_first", [True, False])
async def test_a_slow_answer_comes_late_and_receipts_may_overtake_it(stage: Stage, accepted_first: bool) -> None:
    rule = {"provider": "twilio", "action": "slow", "delay_ms": 1000, "accepted_first": accepted_first}
    await stage.sandbox.faults(rule)
    async with receiving() as ours:
        sending = asyncio.create_task(_send(stage, callback=ours.url))
        assert await ours.got_any(0.7) is accepted_first
        assert not sending.done()
        await sending
        await ours.got(3)
    (seen,) = await stage.sandbox.messages()
    assert seen.finished_at is not None
    assert seen.finished_at.monotonic - seen.received_at.monotonic >= 1


async def test_a_message_is_taken_even_if_its_sender_did_not_wait(stage: Stage) -> None:
    await stage.sandbox.faults({"provider": "twilio", "action": "slow", "delay_ms": 300})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await _send(stage)
    assert [seen.outcome for seen in await stage.sandbox.messages()] == ["pending"]
    (seen,) = await stage.sandbox.wait(to=CUSTOMER)
    assert seen.body == "hola"


@pytest.mark.parametrize(
    ("rule", "statuses"),
    [
        ({"action": "receipt_error", "code": 63016}, [("sent", None), ("undelivered", "63016")]),
        ({"action": "receipt_error", "code": 30005, "status": "failed", "after_sent": False}, [("failed", "30005")]),
        ({"action": "no_receipts"}, []),
        ({"action": "receipts_repeated", "copies": 2}, [(s, None) for s in ("sent", "delivered", "read")] * 2),
    ],
)
async def test_receipts_go_wrong_on_demand(
    stage: Stage, rule: dict[str, object], statuses: list[tuple[str, str | None]]
) -> None:
    await stage.sandbox.faults({"provider": "twilio", **rule})
    async with receiving() as ours:
        await _send(stage, callback=ours.url)
        receipts = await ours.got(len(statuses))
    said = [(receipt.form["MessageStatus"], receipt.form.get("ErrorCode")) for receipt in receipts]
    assert sorted(said, key=str) == sorted(statuses, key=str)
    tokens = {receipt.headers["I-Twilio-Idempotency-Token"] for receipt in receipts}
    assert len(tokens) == len(set(said)), "a repeat carries the token of the first"


async def test_several_receipt_rules_apply_together(stage: Stage) -> None:
    await stage.sandbox.faults(
        {"provider": "twilio", "action": "receipts_shuffled"},
        {"provider": "twilio", "action": "late_receipts", "seconds": 0.2},
    )
    async with receiving() as ours:
        await _send(stage, callback=ours.url)
        await asyncio.sleep(0.15)
        assert ours.taken == []
        receipts = await ours.got(3)
    said = [receipt.form["MessageStatus"] for receipt in receipts]
    assert sorted(said) == ["delivered", "read", "sent"]
    assert said[-1] != "read"
    (seen,) = await stage.sandbox.messages()
    assert seen.status == "read", "what was said late does not turn the message back"


@pytest.mark.parametrize(
    ("match", "struck"),
    [
        ({}, True),
        ({"to": CUSTOMER}, True),
        ({"to": "whatsapp:+34600000001"}, False),
        ({"body_contains": "hol"}, True),
        ({"body_contains": "adiós"}, False),
        ({"account": ACCOUNT_SID}, True),
        ({"account": "AC" + "b" * 32}, False),
        ({"to": CUSTOMER, "body_contains": "adiós"}, False),
    ],
)
async def test_a_rule_strikes_only_what_it_matches(stage: Stage, match: dict[str, str], struck: bool) -> None:
    await stage.sandbox.faults({"provider": "twilio", "action": "error", "code": 1, "match": match})
    if struck:
        with pytest.raises(TwilioRestException):
            await _send(stage)
    else:
        await _send(stage)
    (rule,) = await stage.sandbox.standing_faults()
    assert rule.applied == int(struck)


async def test_a_rule_expires_and_another_takes_over(stage: Stage) -> None:
    first, second = await stage.sandbox.faults(
        {"provider": "twilio", "action": "error", "code": 1, "times": 2},
        {"provider": "twilio", "action": "error", "code": 2, "times": 1, "id": "second"},
    )
    assert (second, first != second) == ("second", True)
    codes = []
    for _ in range(4):
        try:
            await _send(stage)
            codes.append(0)
        except TwilioRestException as refusal:
            codes.append(refusal.code)
    assert codes == [1, 1, 2, 0]
    await stage.sandbox.faults({"provider": "twilio", "action": "error", "code": 3, "id": "second"})
    with pytest.raises(TwilioRestException) as replaced:
        await _send(stage)
    assert replaced.value.code == 3
    await stage.sandbox.clear_faults()
    await _send(stage)
    assert await stage.sandbox.standing_faults() == ()


async def test_chance_falls_the_same_way_again(stage: Stage) -> None:
    rule = {"provider": "twilio", "action": "error", "code": 1, "probability": 0.5, "id": "dice", "seed": 7}

    async def fates() -> list[str]:
        await stage.sandbox.clear()
        await stage.sandbox.faults(rule)
        for _ in range(12):
            try:
                await _send(stage)
            except TwilioRestException:
                continue
        return [seen.outcome for seen in await stage.sandbox.messages()]

    first = await fates()
    assert set(first) == {"accepted", "refused"}
    assert await fates() == first


@pytest.mark.parametrize(
    ("rule", "field", "problem"),
    [
        ({"provider": "twilio", "action": "explode"}, "0.action", "'429', '5xx', 'error', 'hang', 'accept_then_drop'"),
        ({"provider": "twilio"}, "0.action", "Unable to extract tag"),
        ({"provider": "nobody", "action": "429"}, "0.429.provider", "'twilio', 'meta', 'kommo', 'email' or 'openai'"),
        ({"provider": "openai", "action": "no_receipts"}, "0.no_receipts.provider", "'twilio'"),
        ({"provider": "twilio", "action": "5xx", "status": 404}, "0.5xx.status", "greater than or equal to 500"),
        ({"provider": "twilio", "action": "error"}, "0.error.code", "required"),
        ({"provider": "twilio", "action": "429", "tiems": 1}, "0.429.tiems", "not permitted"),
        ({"provider": "twilio", "action": "429", "probability": 2}, "0.429.probability", "less than or equal to 1"),
        ({"provider": "twilio", "action": "429", "match": {"from": "x"}}, "0.429.match.from", "not permitted"),
    ],
)
async def test_a_wrong_rule_is_refused_naming_the_field(
    stage: Stage, rule: dict[str, object], field: str, problem: str
) -> None:
    with pytest.raises(SandboxError) as refusal:
        await stage.sandbox.faults(rule)
    assert f'"field":"{field}"' in str(refusal.value)
    assert problem in str(refusal.value)
    assert await stage.sandbox.standing_faults() == ()
