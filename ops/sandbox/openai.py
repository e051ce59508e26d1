"""Plays an OpenAI-compatible model: deterministic answers, recorded prompts, the shared faults.

Facts from platform.openai.com/docs/api-reference (chat, models, errors).
"""

import itertools
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ops.sandbox.answer import answer, refused
from ops.sandbox.bodies import json_answer, problems
from ops.sandbox.faults import FaultBook
from ops.sandbox.record import Call, Moment

API_KEY = "sk-sandbox"
MODEL = "sandbox-echo"
PROVIDER = "openai"
KEEP = 10_000  # completions


class Part(BaseModel):
    """One part of a message's content; parts other than text are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    text: str = ""


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: str | tuple[Part, ...] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, tuple):
            return " ".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class Prompt(BaseModel):
    """The part of a chat completion request that matters here; the rest is accepted and left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream: Literal[False] | None = Field(default=None, description="streaming is not played")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def last_said(self) -> str:
        """The last user message, or nothing."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")


_PROMPT = TypeAdapter(Prompt)


@dataclass(slots=True, kw_only=True)
class Completion(Call):
    """One prompt and what was answered (empty where nothing was)."""

    key: str
    prompt: Prompt
    text: str = ""

    def view(self) -> dict[str, object]:
        return Call.view(self) | {
            "model": self.prompt.model,
            "messages": [{"role": message.role, "content": message.text} for message in self.prompt.messages],
            "max_tokens": self.prompt.limit,
            "text": self.text,
        }


class OpenAISandbox:
    """One model endpoint, open to one key."""

    def __init__(self, faults: FaultBook) -> None:
        self._faults = faults
        self._seq = itertools.count(1)
        self._started = int(time.time())
        self._completions: deque[Completion] = deque(maxlen=KEEP)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self._complete),
            web.get("/v1/models", self._models),
            web.get("/sandbox/completions", self._recorded),
        ]

    def clear(self) -> None:
        self._completions.clear()

    async def _complete(self, request: web.Request) -> web.Response:
        received_at = Moment.now()
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if key != API_KEY:
            return _refuse(401, "invalid_api_key", "Incorrect API key provided.")
        try:
            prompt = _PROMPT.validate_json(await request.read())
        except ValidationError as error:
            field, problem = problems(error)[0]
            return _refuse(400, "invalid_value", f"{field}: {problem}")
        completion = Completion(seq=next(self._seq), received_at=received_at, key=key, prompt=prompt)
        self._completions.append(completion)
        try:
            if prompt.model != MODEL:
                missing = _refuse(404, "model_not_found", f"The model does not exist; the sandbox has {MODEL}.")
                return refused(completion, missing, "model_not_found")
            fault = self._faults.answer_fault(PROVIDER, to=None, body=prompt.last_said, account=key)
            return await answer(request, completion, fault, accept=partial(_accept, completion), refuse=_refuse)
        finally:
            completion.finished_at = Moment.now()

    async def _models(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return _refuse(401, "invalid_api_key", "Incorrect API key provided.")
        model = {"id": MODEL, "object": "model", "created": self._started, "owned_by": "sandbox"}
        return json_answer({"object": "list", "data": [model]})

    async def _recorded(self, _: web.Request) -> web.Response:
        return json_answer([completion.view() for completion in self._completions])


def echo(said: str, limit: int | None) -> tuple[str, bool]:
    """The answer to `said`, and whether the limit cut it. A word counts as one token, which is near enough."""
    words = f"You said: {said}".split(" ")
    if limit is None or len(words) <= limit:
        return " ".join(words), False
    return " ".join(words[:limit]), True


def _accept(completion: Completion) -> web.Response:
    prompt = completion.prompt
    completion.outcome = "accepted"
    completion.text, cut = echo(prompt.last_said, prompt.limit)
    asked = sum(len(message.text.split()) for message in prompt.messages)
    said = len(completion.text.split())
    return json_answer(
        {
            "id": f"chatcmpl-sandbox{completion.seq}",
            "object": "chat.completion",
            "created": int(completion.received_at.wall),
            "model": prompt.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": completion.text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "length" if cut else "stop",
                }
            ],
            "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
        }
    )


def _refuse(
    status: int, code: int | str | None = None, message: str = "", retry_after: int | None = None
) -> web.Response:
    """OpenAI's error body; without a code its own for that HTTP status."""
    usual = {429: ("rate_limit_exceeded", "Rate limit reached"), 500: ("server_error", "The server had an error")}
    default, text = usual.get(429 if status == 429 else 500, ("", ""))
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return json_answer(
        {"error": {"message": message or text, "type": kind, "param": None, "code": default if code is None else code}},
        status,
        None if retry_after is None else {"Retry-After": str(retry_after)},
    )
