"""The llm engine: system prompt and last messages → any OpenAI-compatible model → a text, else the fallback text.

A customer's text is only data: it is sent in the roles `user` and `assistant`, no tools are offered, and the model's
output is only a text for this conversation.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import SecretStr

from shared.bot.base import Answer, Turn, plain, printable, shortened, unanswered
from shared.bot.hidden_reasoning import visible_text
from shared.domain.channels import LlmSettings, ReplySettings, readable
from shared.domain.model import ChannelKind
from shared.process.log import get_logger
from shared.resilience.backoff import Backoff
from shared.settings import Settings

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI
    from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

log = get_logger(__name__)

_PAUSE = Backoff(first=0.5, longest=0.5)  # before the second try
_LONGEST_PAUSE = 5.0  # seconds; for a longer wait the customer gets the fallback text instead
_LONGEST_TURN = 4096  # characters of one message: the limit of a WhatsApp text
_LimitName = Literal["max_tokens", "max_completion_tokens"]


class NoAnswerError(Exception):
    """The model's answer has nothing that can be sent; the text is one of a few reasons of ours."""


class LlmEngine:
    """Calls the operator's model. Its client is loaded and connected for the first answer."""

    waits: ClassVar[bool] = True

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.llm_base_url, settings.llm_api_key, settings.proxy_for(settings.llm_base_url))

    def __init__(self, base_url: str, api_key: SecretStr, proxy: str | None = None) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._proxy = proxy
        self._client: AsyncOpenAI | None = None
        self._loading = asyncio.Lock()
        self._warned_unset = False
        self._strict_models: set[str] = set()  # those that refuse `max_tokens`

    async def answer(self, settings: ReplySettings, history: Sequence[Turn], new: int, kind: ChannelKind) -> Answer:
        """The model's answer, or the channel's fallback text where there is none. Logs no content."""
        if not self._base_url:
            if not self._warned_unset:
                log.warning("llm engine has no model: set PALOMAR_LLM_BASE_URL; channels say their fallback text")
                self._warned_unset = True
            return _fallback(settings)
        if not any(map(readable, unanswered(history, new))):  # only pictures, for example
            return _fallback(settings)
        try:
            return Answer(_text(await self._ask_twice(settings.llm, history), kind), "model")
        except NoAnswerError as error:
            log.warning("model gave no answer", reason=str(error), model=settings.llm.model)
        except Exception as error:  # a customer is waiting: whatever the error, they get the fallback text
            status = getattr(error, "status_code", None)
            log.warning("model failed", reason=type(error).__name__, status=status, model=settings.llm.model)
        return _fallback(settings)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _ask_twice(self, llm: LlmSettings, history: Sequence[Turn]) -> "ChatCompletion":
        """Call the model, once more where that may help: after a timeout, without a connection, for 429 and 5xx."""
        client = await self._connected()
        from openai import APIConnectionError, APIStatusError

        try:
            return await self._ask(client, llm, history)
        except (TimeoutError, APIConnectionError, APIStatusError) as error:
            pause = _pause_after(error)
            if pause is None:
                raise
        await asyncio.sleep(pause)
        return await self._ask(client, llm, history)

    async def _ask(self, client: "AsyncOpenAI", llm: LlmSettings, history: Sequence[Turn]) -> "ChatCompletion":
        """One try, in `llm.timeout` seconds in all.

        Every compatible server knows `max_tokens`. Some ignore `max_completion_tokens`, which would leave the answer
        unlimited, and others refuse it. Only OpenAI's reasoning models refuse `max_tokens`, by a 400 that names it,
        before they generate anything; they are called again with the new name, from then on at once.
        """
        from openai import BadRequestError

        prompt = _prompt(llm, history)
        async with asyncio.timeout(llm.timeout):
            if llm.model not in self._strict_models:
                try:
                    return await _complete(client, llm, prompt, "max_tokens")
                except BadRequestError as error:
                    if (error.code, error.param) != ("unsupported_parameter", "max_tokens"):
                        raise
                    self._strict_models.add(llm.model)
            return await _complete(client, llm, prompt, "max_completion_tokens")

    async def _connected(self) -> "AsyncOpenAI":
        async with self._loading:
            if self._client is None:
                self._client = await asyncio.to_thread(_load, self._base_url, self._api_key, self._proxy)
            return self._client


def _load(base_url: str, api_key: SecretStr, proxy: str | None) -> "AsyncOpenAI":
    """Import and connect the client. The imports take half a second, so this runs in a thread."""
    from shared.bot import markdown  # noqa: F401 (read by `_text`)
    from shared.bot.openai_client import connect

    return connect(base_url, api_key.get_secret_value(), proxy)


async def _complete(
    client: "AsyncOpenAI", llm: LlmSettings, prompt: "list[ChatCompletionMessageParam]", limit: _LimitName
) -> "ChatCompletion":
    if limit == "max_tokens":
        return await client.chat.completions.create(
            model=llm.model, messages=prompt, max_tokens=llm.max_tokens, timeout=llm.timeout
        )
    return await client.chat.completions.create(
        model=llm.model, messages=prompt, max_completion_tokens=llm.max_tokens, timeout=llm.timeout
    )


def _prompt(llm: LlmSettings, history: Sequence[Turn]) -> "list[ChatCompletionMessageParam]":
    """The tenant's system prompt and the last messages, oldest first.

    Messages in a row from one side are joined: many models' chat templates refuse roles that don't alternate.
    """
    prompt: list[ChatCompletionMessageParam] = []
    if llm.system_prompt:
        prompt.append({"role": "system", "content": llm.system_prompt})
    turns: list[Turn] = []
    for turn in history[-llm.history :]:
        text = turn.text[:_LONGEST_TURN]
        if not readable(text):  # a picture, for example; some servers refuse an empty message
            continue
        if turns and turns[-1].role == turn.role:
            turns[-1] = Turn(turn.role, f"{turns[-1].text}\n{text}")
        else:
            turns.append(Turn(turn.role, text))
    for turn in turns:
        if turn.role == "user":
            prompt.append({"role": "user", "content": turn.text})
        else:
            prompt.append({"role": "assistant", "content": turn.text})
    return prompt


def _text(completion: "ChatCompletion", kind: ChannelKind) -> str:
    """The text of an answer, in the form of a channel of this kind. Raises NoAnswerError. It checks the answer's shape,
    as there are many servers."""
    from shared.bot import markdown

    try:
        choice = completion.choices[0]
        content, reason = choice.message.content, choice.finish_reason
        tools = choice.message.tool_calls or choice.message.function_call
    except (AttributeError, IndexError, TypeError):
        raise NoAnswerError("not a chat completion") from None
    if tools:
        raise NoAnswerError("calls a tool though none was offered")
    if reason == "content_filter":
        raise NoAnswerError("stopped by the model's content filter")
    if not isinstance(content, str):
        raise NoAnswerError("no text")
    text = plain(markdown.in_form_of(kind, printable(visible_text(content))))
    if reason == "length":
        text = shortened(text) if text and not text.endswith("…") else text
    if not readable(text):
        raise NoAnswerError("no text")
    return text


def _pause_after(error: "TimeoutError | APIError") -> float | None:
    """Seconds until a second try; None where it would not help."""
    from openai import APIStatusError

    pause = _PAUSE.delay(1)
    if not isinstance(error, APIStatusError):
        return pause
    if error.status_code not in (408, 429) and error.status_code < 500:
        return None
    try:
        wanted = float(error.response.headers.get("Retry-After", "0"))
    except ValueError:  # a date; none of the models' servers sends one
        wanted = 0.0
    if math.isnan(wanted) or wanted > _LONGEST_PAUSE:
        return None
    return max(pause, wanted)


def _fallback(settings: ReplySettings) -> Answer:
    return Answer(plain(settings.fallback), "fallback")
