"""What a call led to, as JSON, with the version of the row that it holds."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from ingress.api.call import version
from ingress.api.models import Output, Part


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call led to. `body` is JSON."""

    body: bytes
    replayed: bool = False  # the answer to an earlier request with the same Idempotency-Key
    version: str | None = None  # of the one row that it holds, as ETag writes it


def replayed_answer(first: Mapping[str, object] | None) -> Answer | None:
    """The answer to an earlier request that was stored; None where none was."""
    return None if first is None else Answer(orjson.dumps(first), replayed=True)


def answer_of(output: Output) -> Answer:
    """What a procedure answers, as JSON."""
    return Answer(output.__pydantic_serializer__.to_json(output, by_alias=True), version=_version_of(output))


def _version_of(output: Output) -> str | None:
    """The version of the only row of an answer; None where it holds no or several rows, or one without a time."""
    members = [getattr(output, name) for name in type(output).model_fields]
    rows = [member for member in members if isinstance(member, Part)]
    if len(rows) != 1 or any(isinstance(member, list) for member in members):
        return None
    row = rows[0]
    updated_at = getattr(row, "updated_at", None) or getattr(row, "last_updated_at", None)
    return None if updated_at is None else version(updated_at, _digest_apart(row))


def _digest_apart(row: Part) -> str:
    """A digest of the members that change without a change of the row, such as counts; empty where it has none."""
    if not row.CHANGE_APART:
        return ""
    found = orjson.dumps([getattr(row, name) for name in row.CHANGE_APART])
    return hashlib.sha256(found).hexdigest()[:12]
