"""Runs the queries and mutations of a request or frame, some of them at once, and makes the answer to each."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ingress.api import idempotency
from ingress.api.caller import Caller
from ingress.api.declaration import AnyProcedure
from ingress.api.execute import Executor
from ingress.api.failures import problem_of
from ingress.api.problems import METHOD_NOT_ALLOWED, TOO_LARGE, UNKNOWN_PATH, Problem, invalid
from ingress.api.rest_paths import ROOT
from ingress.api.trpc.shapes import failed, succeeded

KEY_MEMBER: Final = "idempotencyKey"  # of a mutation's input
AT_ONCE: Final = 4  # calls of one request that work; the others wait, so that one batch takes no tenant's every turn


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call led to: its answer as tRPC writes it, and what a lone call adds to the response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that a client makes."""

    path: str
    given: object
    may_change: bool = True  # a GET may not
    idempotency_key: str | None = None
    if_match: str | None = None
    is_counted: bool = False  # its request has been counted already, before it was read


class CallRunner:
    """Runs calls by the names of their procedures."""

    def __init__(self, executor: Executor, procedures: Mapping[str, AnyProcedure]) -> None:
        self._executor = executor
        self._procedures = procedures

    def procedure(self, path: str) -> AnyProcedure:
        """The procedure of this name. Raises a Problem."""
        found = self._procedures.get(path)
        if found is None:
            raise Problem(UNKNOWN_PATH, "No procedure has this name. The reference lists them: /docs.")
        return found

    async def each(
        self, caller: Caller, asked: Sequence[Asked], *, most: float = math.inf
    ) -> AsyncIterator[tuple[int, Outcome]]:
        """The outcome of each call with its place, as they end; a call begins once there is room for its outcome.

        Once the outcomes hold `most` bytes, the calls that have not begun are refused.
        """
        waiting, working, size = deque(enumerate(asked)), set[asyncio.Task[tuple[int, Outcome]]](), 0
        try:
            while waiting or working:
                while waiting and len(working) < AT_ONCE:
                    place, one = waiting.popleft()
                    if size >= most:
                        yield place, _too_much(one, most)
                    else:
                        working.add(asyncio.create_task(self._placed(caller, place, one)))
                if working:
                    done, working = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        size += len(task.result()[1].body)
                        yield task.result()
        finally:  # the client may have left
            for task in working:
                task.cancel()

    async def _placed(self, caller: Caller, place: int, asked: Asked) -> tuple[int, Outcome]:
        return place, await self.run(caller, asked)

    async def run(self, caller: Caller, asked: Asked) -> Outcome:
        """The outcome of a call, which is an answer also where it fails."""
        try:
            return await self._run(caller, asked)
        except Exception as error:
            problem = problem_of(error)
            return Outcome(problem.type.status, failed(problem, asked.path), problem.headers)

    async def _run(self, caller: Caller, asked: Asked) -> Outcome:
        if not asked.is_counted:
            caller.count()
        procedure = self.procedure(asked.path)
        if procedure.kind == "upload":
            raise Problem(METHOD_NOT_ALLOWED, f"It takes a file, and only over REST: {ROOT}, as the reference shows.")
        if procedure.kind == "subscription":
            raise Problem(METHOD_NOT_ALLOWED, "This is a subscription: use httpSubscriptionLink or wsLink.")
        if procedure.kind == "mutation" and not asked.may_change:
            raise Problem(METHOD_NOT_ALLOWED, "A mutation is called by POST.", headers={"Allow": "POST"})
        given, key = keyed(asked) if procedure.kind == "mutation" else (asked.given, None)
        answer = await self._executor.execute(caller, procedure, given, idempotency_key=key, if_match=asked.if_match)
        headers = {} if answer.version is None else {"ETag": answer.version}
        return Outcome(200, succeeded(answer.body), headers, answer.replayed)


def keyed(asked: Asked) -> tuple[object, str | None]:
    """The input of a mutation without the key that it may hold, and the effective key. Raises a Problem.

    What a client sends over a socket has no headers, and the id of a message is another one when it is sent again. So
    the input is the only place in which every link carries a key of one call; it goes before the header's.
    """
    if not isinstance(asked.given, dict) or KEY_MEMBER not in asked.given:
        return asked.given, asked.idempotency_key
    given = {name: value for name, value in asked.given.items() if name != KEY_MEMBER}
    key = asked.given[KEY_MEMBER]
    if not isinstance(key, str):
        raise invalid((KEY_MEMBER,), "It is no text.", "Give a text, such as a UUID, or leave it out.")
    idempotency.check_key(key, KEY_MEMBER)
    return given, key


def _too_much(asked: Asked, most: float) -> Outcome:
    detail = f"The answers to this batch hold more than {most:.0f} bytes, so this call was not run. "
    problem = Problem(TOO_LARGE, f"{detail}Ask in fewer or smaller calls, or use httpBatchStreamLink.")
    return Outcome(problem.type.status, failed(problem, asked.path))


def key_of_call(header: str | None, path: str, place: int, *, is_batch: bool) -> str | None:
    """The effective Idempotency-Key of a call. Raises the problem of a header that can't be one."""
    if header is None or not is_batch:
        return header
    idempotency.check_key(header)
    return idempotency.key_of_one(header, path, place)
