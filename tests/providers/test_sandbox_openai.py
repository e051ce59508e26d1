"""The `openai` package against the sandbox's model."""

import time
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from ops.sandbox.openai import API_KEY, MODEL
from tests.support.sandbox_stage import Stage, playing


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with playing() as stage:
        yield stage


@pytest.fixture
async def model(stage: Stage) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{stage.base_url}/v1", api_key=API_KEY, max_retries=0) as model:
        yield model


async def _ask(model: AsyncOpenAI, text: str, max_tokens: int | None = None) -> tuple[str | None, str]:
    completion = await model.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "earlier"},
            {"role": "assistant", "content": "yes?"},
            {"role": "user", "content": text},
        ],
        max_tokens=max_tokens,
    )
    assert completion.usage is not None
    return completion.choices[0].message.content, completion.choices[0].finish_reason


async def test_the_model_repeats_the_last_user_message(stage: Stage, model: AsyncOpenAI) -> None:
    assert await _ask(model, "¿a qué hora abren?") == ("You said: ¿a qué hora abren?", "stop")
    assert [listed.id async for listed in model.models.list()] == [MODEL]
    (asked,) = await stage.sandbox.completions()
    assert [turn.content for turn in asked.messages] == ["Be kind.", "earlier", "yes?", "¿a qué hora abren?"]
    assert (asked.text, asked.outcome) == ("You said: ¿a qué hora abren?", "accepted")


async def test_the_model_stops_at_the_token_limit(model: AsyncOpenAI) -> None:
    assert await _ask(model, "one two three four", max_tokens=4) == ("You said: one two", "length")


async def test_content_may_come_in_parts(model: AsyncOpenAI) -> None:
    completion = await model.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": [{"type": "text", "text": "hola"}]}]
    )
    assert completion.choices[0].message.content == "You said: hola"


async def test_a_wrong_key_or_model_or_prompt_is_refused(stage: Stage, model: AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        await _ask(model.with_options(api_key="wrong"), "hola")
    with pytest.raises(openai.NotFoundError):
        await model.chat.completions.create(model="other", messages=[{"role": "user", "content": "hola"}])
    with pytest.raises(openai.BadRequestError, match="messages"):
        await model.chat.completions.create(model=MODEL, messages=[])
    with pytest.raises(openai.BadRequestError, match="stream"):
        await model.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a"}], stream=True)


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ({"action": "429", "retry_after": 1}, openai.RateLimitError),
        ({"action": "5xx"}, openai.InternalServerError),
        ({"action": "error", "code": "context_length_exceeded"}, openai.BadRequestError),
        ({"action": "accept_then_drop"}, openai.APIConnectionError),
        ({"action": "drop_before"}, openai.APIConnectionError),
        ({"action": "hang", "seconds": 20}, openai.APITimeoutError),
    ],
)
async def test_the_model_fails_on_demand(
    stage: Stage, model: AsyncOpenAI, rule: dict[str, object], error: type[openai.APIError]
) -> None:
    await stage.sandbox.faults({"provider": "openai", "match": {"body_contains": "hola"}, "times": 1, **rule})
    await _ask(model, "something else")
    with pytest.raises(error):
        await _ask(model.with_options(timeout=0.5), "hola")
    assert await _ask(model, "hola") == ("You said: hola", "stop")


async def test_the_model_can_be_slow(stage: Stage, model: AsyncOpenAI) -> None:
    await stage.sandbox.faults({"provider": "openai", "action": "slow", "delay_ms": 200})
    started = time.monotonic()
    await _ask(model, "hola")
    assert time.monotonic() - started >= 0.2
