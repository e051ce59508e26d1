"""Runs a call, on one path for every transport: scope → validate → tenant → transaction → handler → answer.

A transport finds the caller once a request (`authenticate`), counts each call against its rate limit before it reads
what is asked, runs it (`execute`), and writes what comes of it in its own form. It knows no database; this knows no
HTTP.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol
from uuid import UUID

import orjson
from prometheus_client import Counter, Histogram
from pydantic import ValidationError

from ingress.api import idempotency, problems
from ingress.api.answers import Answer, answer_of, replayed_answer
from ingress.api.call import Call
from ingress.api.caller import Authenticator, Caller
from ingress.api.declaration import AnyProcedure
from ingress.api.failures import problem_of
from ingress.api.input_bounds import refuse_vast
from ingress.api.live.engine import Live
from ingress.api.models import Input, Output, TenantInput
from ingress.api.problems import INVALID_INPUT, Problem
from ingress.api.turns import Turns
from shared import database
from shared.crypto import KeyRing
from shared.database import ApiPool, Connection, Pool
from shared.process.log import get_logger
from shared.queue.jobs import Job
from shared.settings import Settings
from shared.store import tenants

log = get_logger(__name__)

A_TENANTS_SHARE: Final = 4  # a tenant has the connections of the pool divided by this, so that two starve no third one
CALLS_OUT: Final = 4  # calls of a tenant, in one process, that a provider is asked for at once: each may take a while

CALLS: Final = Counter("palomar_api_calls", "Calls of procedures by their outcome", ["procedure", "outcome"])
SECONDS: Final = Histogram("palomar_api_seconds", "Time of a call", ["procedure"])


class Publish(Protocol):
    """Publishes jobs of a committed transaction. An error is logged: the rows are due all the same."""

    async def __call__(self, *jobs: Job) -> None: ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """A call that may be run: its caller may make it, and its input is right."""

    call: Call
    procedure: AnyProcedure
    given: Input


class Executor:
    """Runs calls. Belongs to one event loop."""

    def __init__(
        self,
        settings: Settings,
        keys: KeyRing,
        authenticator: Authenticator,
        *,
        tenants: ApiPool,
        operators: Pool,
        publish: Publish,
        live: Live,
        lost: Callable[[BaseException], None],
    ) -> None:
        """`tenants` serves tenants' procedures, `operators` (as palomar_worker) those that span tenants; `live` has
        the streams of events. `lost` is called with an error that means that the database is away."""
        self._settings = settings
        self.keys = keys
        self._tenants = tenants
        self._operators = operators
        self._publish = publish
        self._lost = lost
        share = max(1, settings.api_pool // A_TENANTS_SHARE)
        self._turns = Turns(share, settings.api_patience, "calls")
        self._turns_outside = Turns(CALLS_OUT, settings.api_patience, "calls that wait for a provider")
        self._twins = Turns(1, settings.api_patience, "requests with this Idempotency-Key")
        self.authenticator = authenticator
        self.live = live

    async def authenticate(self, key: str | None, address: str | None) -> Caller:
        """The caller with this key, at this address. Raises a Problem."""
        try:
            return await self.authenticator.caller(key, address)
        except Exception as error:
            raise self.problem_of(error) from error

    async def execute(
        self,
        caller: Caller,
        procedure: AnyProcedure,
        given: object,
        *,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> Answer:
        """Run a query or mutation with an input as JSON's Python objects. Raises a Problem, and nothing else.

        `idempotency_key` is the effective one: a transport that takes several calls in one request makes one for each.
        """
        began, outcome = perf_counter(), "ok"
        try:
            if if_match is not None and problems.VERSION_MISMATCH not in procedure.errors:
                raise problems.invalid(("If-Match",), "This procedure compares no versions.", "Leave the header out.")
            accepted = self.accept(caller, procedure, given, if_match=if_match)
            if idempotency_key is None or procedure.kind != "mutation":
                return await self._run(accepted, None)
            idempotency.check_key(idempotency_key)
            accepted.call.idempotency_key = idempotency_key
            return await self._run(accepted, idempotency_key)
        except Exception as error:
            problem = self.problem_of(error, procedure)
            outcome = problem.type.name
            raise problem from error
        finally:
            CALLS.labels(procedure.name, outcome).inc()
            SECONDS.labels(procedure.name).observe(perf_counter() - began)

    def accept(
        self, caller: Caller, procedure: AnyProcedure, given: object, *, if_match: str | None = None
    ) -> Accepted:
        """Check a call without running it: scope, input, tenant. Raises a Problem."""
        caller.require(procedure.scope, operator=procedure.operator)
        checked = validated(procedure, given)
        tenant_id = None if procedure.operator else _tenant_of(caller, checked)
        begin = partial(self._begin, tenant_id)
        call = Call(procedure.name, caller, self._settings, self.keys, self.live, begin, tenant_id, if_match)
        return Accepted(call, procedure, checked)

    async def open(self, caller: Caller, procedure: AnyProcedure, given: object) -> Accepted:
        """Count what streams and check it as `accept` does, and that its tenant is there. Raises Problems alone."""
        try:
            caller.count()
            accepted = self.accept(caller, procedure, given)
            if caller.is_operator:
                async with accepted.call.transaction() as connection:
                    await _check_tenant(accepted.call, connection)
        except Exception as error:
            raise self.problem_of(error, procedure) from error
        return accepted

    async def _run(self, accepted: Accepted, idempotency_key: str | None) -> Answer:
        """Do what the procedure does outside of its transaction, once. Then run the handler in a transaction, and again
        where that lost a deadlock; then publish its jobs."""
        call, procedure = accepted.call, accepted.procedure
        found: tuple[object, ...] = ()
        async with AsyncExitStack() as stack:
            if procedure.outside is not None:
                if idempotency_key is not None:  # a twin in this process waits for the first one's answer
                    whose = call.own_tenant or call.caller.key_id
                    await stack.enter_async_context(self._twins.take((whose, idempotency_key)))
                if (before := await self._answered_before(accepted, idempotency_key)) is not None:
                    return before
                if call.own_tenant is not None:
                    await stack.enter_async_context(self._turns_outside.take(call.own_tenant))
                found = (await procedure.outside(call, accepted.given),)
            answer = await database.repeat(partial(self._once, accepted, idempotency_key, found))
        if call.jobs:
            await self._publish(*call.jobs)
        return answer

    async def _answered_before(self, accepted: Accepted, idempotency_key: str | None) -> Answer | None:
        """The answer that a repeated request had, so that the provider is not called for it again. Claims nothing."""
        call = accepted.call
        if idempotency_key is None and not call.caller.is_operator:
            return None
        async with call.in_transaction():
            await _check_tenant(call, call.connection)
            if idempotency_key is None:
                return None
            request_hash = idempotency.hash_of(accepted.procedure, accepted.given)
            return replayed_answer(await idempotency.known_answer(call, idempotency_key, request_hash))

    async def _once(self, accepted: Accepted, idempotency_key: str | None, found: tuple[object, ...]) -> Answer:
        call, procedure = accepted.call, accepted.procedure
        call.jobs.clear()
        async with call.in_transaction():
            await _check_tenant(call, call.connection)
            if idempotency_key is not None:
                request_hash = idempotency.hash_of(procedure, accepted.given)
                first = replayed_answer(await idempotency.first_answer(call, idempotency_key, request_hash))
                if first is not None:
                    return first
            output: Output = await procedure.run(call, accepted.given, *found)
            if idempotency_key is not None:
                await idempotency.keep(call, idempotency_key, procedure, output)
            return answer_of(output)

    def transaction(self, tenant_id: UUID) -> AbstractAsyncContextManager[Connection]:
        """A transaction of a tenant, for a transport that has another proof than a key."""
        return self._begin(tenant_id)

    def problem_of(self, error: Exception, procedure: AnyProcedure | None = None) -> Problem:
        """The problem that answers an error, which is looked into where the database may be away."""
        if database.is_outage(error) and not isinstance(error, TimeoutError):  # which may be a call's own slowness
            self._lost(error)
        return problem_of(error, procedure)

    @asynccontextmanager
    async def _begin(self, tenant_id: UUID | None) -> AsyncIterator[Connection]:
        """A transaction of this tenant, or one that spans tenants. Raises where no connection is free in time."""
        if tenant_id is not None:
            async with self._turns.take(tenant_id), self._tenants.tenant_transaction(tenant_id) as connection:
                yield connection
            return
        patience = self._settings.api_patience
        async with self._operators.acquire(timeout=patience) as session, session.transaction():
            yield session


def validated(procedure: AnyProcedure, given: object) -> Input:
    """The input as its model. Raises the problem that names each wrong field."""
    refuse_vast(given)
    try:
        text = orjson.dumps({} if given is None else given)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes
        raise Problem(INVALID_INPUT, "The input is nested too deeply. Nest it as the reference shows.") from None
    if b"\\u0000" in text:  # what PostgreSQL can't store
        _refuse_nul(given, ())
    try:
        checked: Input = procedure.input.model_validate_json(text)
    except ValidationError as error:
        raise problems.of_validation(error) from None
    return checked


def _refuse_nul(given: Any, path: tuple[str | int, ...]) -> None:
    if isinstance(given, str) and "\0" in given:
        raise problems.invalid(path, "It holds the character NUL.", "Leave that character out.")
    if isinstance(given, dict):
        for name, value in given.items():
            _refuse_nul(name, (*path, name.replace("\0", "")))
            _refuse_nul(value, (*path, name))
    elif isinstance(given, list):
        for place, value in enumerate(given):
            _refuse_nul(value, (*path, place))


def _tenant_of(caller: Caller, given: Input) -> UUID:
    """The tenant that a call is for: the key's own, or the one that an operator names. Raises a Problem."""
    named = given.tenant_id if isinstance(given, TenantInput) else None
    if caller.tenant_id is None:
        if named is None:
            raise problems.invalid("tenantId", "An operator's key belongs to no tenant.", "Name the tenant.")
        return named
    if named is not None and named != caller.tenant_id:
        raise problems.not_found("tenant", "tenantId")
    return caller.tenant_id


async def _check_tenant(call: Call, connection: Connection) -> None:
    """Raise the problem of a tenant that is not there. A tenant's own key has been checked for it."""
    if not call.caller.is_operator or call.own_tenant is None:
        return
    if not await tenants.lives(connection, call.own_tenant):
        raise problems.not_found("tenant", "tenantId")
