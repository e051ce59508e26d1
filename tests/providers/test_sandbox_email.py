"""The sandbox as a mail server: what our sender makes of each fault that it plays."""

import json
import time
from contextlib import AsyncExitStack

import pytest

from ops.sandbox.app import STOP_WITHIN
from ops.sandbox.email_forms import ADDRESS, PASSWORD, USER
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    RecipientInvalid,
    Refusal,
    SendResult,
    Throttled,
)
from shared.providers.email.send import make_sender
from tests.support.sandbox_stage import Stage, playing
from tests.support.smtp_stage import outgoing


async def send(stage: Stage) -> SendResult:
    """One mail, with a second in all."""
    port = await stage.sandbox.smtp_port()
    login = {"host": "127.0.0.1", "port": port, "tls": "none", "user": USER, "password": PASSWORD}
    sender = make_sender(json.dumps(login), private_hosts="127.0.0.1", timeout=1.0)
    return await sender.send(outgoing(sender=ADDRESS))


@pytest.mark.parametrize(
    ("fault", "kind", "taken"),
    [
        ({"action": "429"}, Throttled, 0),
        ({"action": "5xx"}, Throttled, 0),  # 451: at a mail server that is for a while too
        ({"action": "error", "code": 550}, RecipientInvalid, 0),
        ({"action": "error", "code": 554}, ContentRejected, 0),
        ({"action": "error", "code": 530}, ChannelBroken, 0),
        ({"action": "hang", "seconds": 30}, Ambiguous, 0),
        ({"action": "drop_before"}, Ambiguous, 0),
        ({"action": "accept_then_drop"}, Ambiguous, 1),
        ({"action": "slow", "delay_ms": 50}, Accepted, 1),
    ],
)
async def test_each_fault_of_the_sandbox_has_its_class(
    fault: dict[str, object], kind: type[Refusal] | type[Accepted], taken: int
) -> None:
    async with playing() as stage:
        await stage.sandbox.faults({"provider": "email", "times": 1, **fault})
        assert isinstance(await send(stage), kind)
        seen = await stage.sandbox.messages()
        assert [message.outcome == "accepted" for message in seen].count(True) == taken
        assert isinstance(await send(stage), Accepted)


async def test_a_mail_that_hangs_does_not_keep_the_sandbox_from_stopping() -> None:
    async with AsyncExitStack() as sandbox:
        stage = await sandbox.enter_async_context(playing())
        await stage.sandbox.faults({"provider": "email", "action": "hang", "seconds": 300})
        assert isinstance(await send(stage), Ambiguous)
        started = time.monotonic()
    assert time.monotonic() - started < STOP_WITHIN + 1
