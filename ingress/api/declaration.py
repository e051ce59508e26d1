"""How a procedure is declared, and the registry of all of them. REST, tRPC and the reference read nothing else.

    @mutation("contacts.create", scope="contacts:write", errors=[CONFLICT], examples=[…])
    async def create(call: Call, given: CreateContact) -> ContactAnswer:
        \"\"\"Create a contact.

        What the reference says of it.
        \"\"\"

The annotations are the models. A module of `ingress/api/procedures/` is found by itself: there is no list to edit.

A procedure that calls a provider, or does anything else that takes long, does so before its transaction:

    async def tried(call: Call, given: ChannelId) -> Trial: …

    @mutation("channels.test", outside=tried, scope="channels:write", examples=[…])
    async def test(call: Call, given: ChannelId, trial: Trial) -> Tested: …
"""

import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, TypeVar, cast, get_args, get_type_hints, overload

from pydantic import BaseModel

from ingress.api import problems
from ingress.api.call import Call, SentFile
from ingress.api.models import Input, Output, TenantInput
from ingress.api.problems import ProblemType

Kind = Literal["query", "mutation", "subscription", "upload"]
Given = TypeVar("Given", bound=Input)
Answer = TypeVar("Answer", bound=Output)
Handler = Callable[[Call, Given], Awaitable[Answer]]
Stream = Callable[[Call, Given], AsyncIterator[Answer]]
# What is done before the transaction, and may be done twice of twin requests; and the handler that gets what it found.
Found = TypeVar("Found")
Outside = Callable[[Call, Given], Awaitable[Found]]
Finisher = Callable[[Call, Given, Found], Awaitable[Answer]]
Receiver = Callable[[Call, Given, SentFile], Awaitable[Answer]]
_AnyHandler = Handler[Given, Answer] | Finisher[Given, Any, Answer] | Stream[Given, Answer] | Receiver[Given, Answer]

# What any procedure may answer.
COMMON: Final = (
    problems.PARSE_ERROR, problems.INVALID_INPUT, problems.UNAUTHENTICATED, problems.FORBIDDEN,
    problems.TOO_MANY_REQUESTS, problems.HEADER_TOO_LARGE, problems.INTERNAL, problems.UNAVAILABLE,
)  # fmt: skip
# What a mutation may answer besides: it has a body, and may have an Idempotency-Key.
OF_MUTATIONS: Final = (
    problems.TIMEOUT, problems.CONFLICT, problems.TOO_LARGE, problems.UNSUPPORTED_MEDIA_TYPE,
    problems.IDEMPOTENCY_MISMATCH,
)  # fmt: skip
_WITH_BODY: Final = ("mutation", "upload")


@dataclass(frozen=True, slots=True)
class Example:
    """One call, for the reference: what is given, and what is answered, both as JSON."""

    given: Mapping[str, Any]
    answer: Mapping[str, Any]
    summary: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Procedure(Generic[Given, Answer]):
    """One declared procedure."""

    name: str  # `contacts.create`
    kind: Kind
    scope: str  # `contacts:write`
    input: type[Given]
    output: type[Answer]  # of a subscription: of each of its items
    handler: _AnyHandler[Given, Answer] = field(repr=False)
    summary: str  # the first line of the handler's docstring
    description: str  # the rest of it
    errors: tuple[ProblemType, ...]  # beside those that any procedure may answer
    examples: tuple[Example, ...]
    operator: bool  # spans tenants: only an operator's key may call it, and it works as palomar_worker
    shown_once: tuple[str, ...]  # members of the answer that are not kept, so that a replayed answer has null there
    outside: Outside[Given, object] | None = field(default=None, repr=False)  # called before the handler's transaction
    takes: tuple[str, ...] = ()  # of an upload: the content types of its body
    is_file: bool = False  # a subscription that ends, and that REST answers as a file

    @property
    def family(self) -> str:
        """`contacts` of `contacts.create`."""
        return self.name.partition(".")[0]

    @property
    def verb(self) -> str:
        """`create` of `contacts.create`."""
        return self.name.partition(".")[2]

    @property
    def problems(self) -> tuple[ProblemType, ...]:
        """Every problem that it may answer, each once, by status."""
        every = {*COMMON, *(OF_MUTATIONS if self.kind in _WITH_BODY else ()), *self.errors}
        if not self.operator:
            every.add(problems.NOT_FOUND)  # another tenant's tenantId
        return tuple(sorted(every, key=lambda one: (one.status, one.name)))

    async def run(self, call: Call, given: Given, *found: object) -> Answer:
        """Run the handler of a query or mutation, with what `outside` found where there is that."""
        return await cast("Callable[..., Awaitable[Answer]]", self.handler)(call, given, *found)

    async def receive(self, call: Call, given: Given, file: SentFile) -> Answer:
        """Run the handler of an upload."""
        return await cast("Receiver[Given, Answer]", self.handler)(call, given, file)

    def stream(self, call: Call, given: Given) -> AsyncIterator[Answer]:
        """Run the handler of a subscription."""
        return cast("Stream[Given, Answer]", self.handler)(call, given)


AnyProcedure = Procedure[Any, Any]
_DECLARED: dict[str, AnyProcedure] = {}


@overload
def query(
    name: str, *, scope: str, errors: Sequence[ProblemType] = (), examples: Sequence[Example] = (),
    operator: bool = False,
) -> Callable[[Handler[Given, Answer]], Procedure[Given, Answer]]: ...  # fmt: skip
@overload
def query(
    name: str, *, outside: Outside[Given, Found], scope: str, errors: Sequence[ProblemType] = (),
    examples: Sequence[Example] = (), operator: bool = False,
) -> Callable[[Finisher[Given, Found, Answer]], Procedure[Given, Answer]]: ...  # fmt: skip
def query(
    name: str, *, outside: Outside[Any, Any] | None = None, scope: str, errors: Sequence[ProblemType] = (),
    examples: Sequence[Example] = (), operator: bool = False,
) -> Callable[[_AnyHandler[Given, Answer]], Procedure[Given, Answer]]:  # fmt: skip
    """Declare a procedure that changes nothing. REST calls it by GET. `outside` as of a mutation."""

    def declare(handler: _AnyHandler[Given, Answer]) -> Procedure[Given, Answer]:
        return _declare("query", name, scope, handler, errors, examples, operator, (), outside=outside)

    return declare


@overload
def mutation(
    name: str, *, scope: str, errors: Sequence[ProblemType] = (), examples: Sequence[Example] = (),
    operator: bool = False, shown_once: Sequence[str] = (),
) -> Callable[[Handler[Given, Answer]], Procedure[Given, Answer]]: ...  # fmt: skip
@overload
def mutation(
    name: str, *, outside: Outside[Given, Found], scope: str, errors: Sequence[ProblemType] = (),
    examples: Sequence[Example] = (), operator: bool = False, shown_once: Sequence[str] = (),
) -> Callable[[Finisher[Given, Found, Answer]], Procedure[Given, Answer]]: ...  # fmt: skip
def mutation(
    name: str, *, outside: Outside[Any, Any] | None = None, scope: str, errors: Sequence[ProblemType] = (),
    examples: Sequence[Example] = (), operator: bool = False, shown_once: Sequence[str] = (),
) -> Callable[[_AnyHandler[Given, Answer]], Procedure[Given, Answer]]:  # fmt: skip
    """Declare a procedure that changes rows, in one transaction and through functions that record the event.

    `outside` is awaited before that transaction begins, so that none is open while a provider answers; the handler gets
    what it returns. It reads rows in `call.in_transaction()`, and may find that they have changed since. A repeated
    request with an Idempotency-Key does not come to it, but twins in other processes may, and so does a request whose
    first answer was lost: it has no effect of its own, or one that can't be had twice.

    `shown_once` names members of the answer that may not be stored, as they are where a request with an Idempotency-Key
    may come again.
    """

    def declare(handler: _AnyHandler[Given, Answer]) -> Procedure[Given, Answer]:
        return _declare("mutation", name, scope, handler, errors, examples, operator, shown_once, outside=outside)

    return declare


def subscription(
    name: str, *, scope: str, errors: Sequence[ProblemType] = (), examples: Sequence[Example] = (),
    is_file: bool = False,
) -> Callable[[Stream[Given, Answer]], Procedure[Given, Answer]]:  # fmt: skip
    """Declare a procedure that answers item by item until its client leaves. It opens its own transactions.

    With `is_file` it ends by itself, and REST answers it as a file, of CSV or NDJSON.
    """

    def declare(handler: Stream[Given, Answer]) -> Procedure[Given, Answer]:
        return _declare("subscription", name, scope, handler, errors, examples, False, (), is_file=is_file)

    return declare


def upload(
    name: str, *, scope: str, takes: Sequence[str], errors: Sequence[ProblemType] = (),
    examples: Sequence[Example] = (),
) -> Callable[[Receiver[Given, Answer]], Procedure[Given, Answer]]:  # fmt: skip
    """Declare a procedure that takes a file of any size, as the body of a request to REST; its input is in the query.

    It opens its own transactions. What it does is safe to repeat, as a client may leave in the middle.
    """

    def declare(handler: Receiver[Given, Answer]) -> Procedure[Given, Answer]:
        return _declare("upload", name, scope, handler, errors, examples, False, (), takes=tuple(takes))

    return declare


def _declare(
    kind: Kind,
    name: str,
    scope: str,
    handler: _AnyHandler[Given, Answer],
    errors: Sequence[ProblemType],
    examples: Sequence[Example],
    operator: bool,
    shown_once: Sequence[str],
    *,
    outside: Outside[Any, Any] | None = None,
    takes: tuple[str, ...] = (),
    is_file: bool = False,
) -> Procedure[Given, Answer]:
    hints = get_type_hints(handler)
    given, answer = list(hints.values())[1], hints["return"]
    if kind == "subscription":
        (answer,) = get_args(answer)
    assert issubclass(given, Input), f"{name}: its input is no Input of ingress.api.models"
    assert issubclass(answer, Output), f"{name}: its answer is no Output of ingress.api.models"
    assert operator or issubclass(given, TenantInput), f"{name}: a tenant's procedure takes a TenantInput"
    assert name not in _DECLARED, f"{name} is declared twice"
    summary, _, description = (inspect.getdoc(handler) or "").partition("\n")
    assert summary, f"{name}: its docstring is what the reference says"
    declared: Procedure[Given, Answer] = Procedure(
        name, kind, scope, given, answer, handler, summary, description.strip(), tuple(errors), tuple(examples),
        operator, tuple(shown_once), outside, takes, is_file,
    )  # fmt: skip
    _DECLARED[name] = declared
    return declared


@cache
def registry() -> Mapping[str, AnyProcedure]:
    """All procedures by name, in the order of their names."""
    from ingress.api import procedures

    for module in pkgutil.iter_modules(procedures.__path__):
        importlib.import_module(f"{procedures.__name__}.{module.name}")
    return MappingProxyType(dict(sorted(_DECLARED.items())))


def scopes(*, operator: bool) -> list[str]:
    """The scopes that procedures need, of operators' procedures or of all others, sorted."""
    return sorted({one.scope for one in registry().values() if one.operator == operator})


def models() -> list[type[BaseModel]]:
    """The input and output models of all procedures, each once."""
    every = [model for one in registry().values() for model in (one.input, one.output)]
    return list(dict.fromkeys(every))
