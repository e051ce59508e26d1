"""Makes a mutation with an Idempotency-Key have its effect once: its row is inserted in the effect's own transaction.

A concurrent twin waits at that row until the first transaction ends. After a commit it gets the first answer; after a
rollback, as every problem causes one, it is itself the first. So only answers of effects are kept.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

import orjson

from ingress.api.call import Call
from ingress.api.declaration import AnyProcedure
from ingress.api.models import Input, Output
from ingress.api.problems import CONFLICT, IDEMPOTENCY_MISMATCH, Problem, invalid
from shared.store import idempotency as store
from shared.store.idempotency import Kept, Owner

LONGEST_KEY: Final = 255  # characters
_FIELD: Final = "Idempotency-Key"


def check_key(key: str) -> None:
    """Raise the problem of a key that can't be kept. What a transport adds to a client's key counts too."""
    if not (1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        remedy = f"Give 1 to {LONGEST_KEY} printable ASCII characters, such as a UUID."
        raise invalid((_FIELD,), "It is empty, too long, or holds other characters.", remedy)


def key_of_one(key: str, path: str, place: int) -> str:
    """The key of one of several calls in a request, from the request's key and the call's path and place."""
    whole = f"{key} {place} {path}"
    return whole if len(whole) <= LONGEST_KEY else f"{hashlib.sha256(whole.encode()).hexdigest()} {place} {path[:100]}"


def hash_of(procedure: AnyProcedure, given: Input) -> bytes:
    """SHA-256 of what is asked: the procedure and its input, however its JSON was written.

    What is left out differs from null: an update leaves the one as it is, and removes the other.
    """
    asked = given.model_dump(mode="json", exclude={"tenant_id"}, exclude_unset=True)
    return hashlib.sha256(orjson.dumps([procedure.name, asked], option=orjson.OPT_SORT_KEYS)).digest()


async def first_answer(call: Call, key: str, request_hash: bytes) -> Mapping[str, object] | None:
    """Claim the key in the call's transaction; returns the answer that it led to before, or None: this is the first."""
    return _answer_of(await store.claim(call.connection, _owner(call), key, request_hash), request_hash)


async def known_answer(call: Call, key: str, request_hash: bytes) -> Mapping[str, object] | None:
    """The answer that the key has led to, as `first_answer`; None where there is none yet. Claims nothing."""
    return _answer_of(await store.kept(call.connection, _owner(call), key), request_hash)


def _answer_of(kept: Kept | None, request_hash: bytes) -> Mapping[str, object] | None:
    if kept is None:
        return None
    if kept.request_hash != request_hash:
        raise Problem(
            IDEMPOTENCY_MISMATCH, "This Idempotency-Key came with another procedure or input. Take a new one."
        )
    if not kept.answer:
        raise Problem(CONFLICT, "The first answer is gone: it mentioned a person who has been erased since.")
    return kept.answer


async def keep(call: Call, key: str, procedure: AnyProcedure, answer: Output) -> None:
    """Keep the answer in the call's transaction, without what is shown once."""
    kept = answer.model_dump(mode="json", by_alias=True)
    await store.keep(call.connection, _owner(call), key, kept | dict.fromkeys(procedure.shown_once))


def _owner(call: Call) -> Owner:
    return Owner(call.caller.key_id, operator=True) if call.own_tenant is None else Owner(call.own_tenant)
