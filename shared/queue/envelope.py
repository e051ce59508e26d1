"""Writes jobs into the JSON envelopes that travel through RabbitMQ, and reads them from there. No I/O.

An envelope is `{"type": …, "items": […]}`: jobs of one type, which share one publish and one confirm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

import orjson
from aio_pika.abc import HeadersType
from pydantic import ValidationError

from shared.domain.field_errors import field_errors
from shared.queue.jobs import Job

J = TypeVar("J", bound=Job)


def dump(job: Job) -> bytes:
    """One job as JSON."""
    return job.__pydantic_serializer__.to_json(job)


def envelope(type_: str, jobs: Sequence[bytes]) -> bytes:
    """The envelope of jobs that are JSON already."""
    return b'{"type":"' + type_.encode() + b'","items":[' + b",".join(jobs) + b"]}"


def group_key(keys: Sequence[str]) -> str:
    """The message_id of an envelope: the same jobs in the same order give the same one."""
    return sha256("\n".join(keys).encode()).hexdigest()[:40]


def amqp_headers(headers: Mapping[str, str | int] | None) -> HeadersType:
    """These headers as AMQP can carry them, without the broker's own.

    The broker's x-* headers are left out: RabbitMQ drops a replayed message that carries x-death, as it takes it for a
    cycle. Half a surrogate pair, which a traceback may hold, becomes a question mark.
    """
    return {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in (headers or {}).items()
        if not name.startswith("x-")
    }


class Undecodable(Exception):
    """An envelope, or a job in it, that is not what the queue's worker consumes."""


@dataclass(frozen=True, slots=True)
class Opened(Generic[J]):
    """What an envelope holds: jobs of one type, and (raw job, reason) of each that is not valid."""

    type: str
    valid: list[J]
    invalid: list[tuple[bytes, str]]


def decode(body: bytes, kinds: Sequence[type[J]]) -> Opened[J]:
    """Open an envelope of jobs of one of these types. Raises Undecodable where the envelope itself can't be read, or
    has another type."""
    try:
        outer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"not JSON: {error}") from error
    if not isinstance(outer, dict) or not isinstance(outer.get("items"), list):
        raise Undecodable("no envelope: it needs `type` and a list `items`")
    kind = next((one for one in kinds if one.type == outer.get("type")), None)
    if kind is None:
        taken = " and ".join(repr(one.type) for one in kinds)
        raise Undecodable(f"type is {str(outer.get('type'))[:60]!r}, this queue takes {taken}")
    valid: list[J] = []
    invalid: list[tuple[bytes, str]] = []
    for raw in outer["items"]:
        try:
            valid.append(kind.model_validate(raw))
        except ValidationError as error:
            invalid.append((_json_of(raw), f"invalid {kind.type}: {field_errors(error, 'job')}"))
    return Opened(kind.type, valid, invalid)


def _json_of(raw: object) -> bytes:
    try:
        return orjson.dumps(raw)
    except orjson.JSONEncodeError as error:  # orjson reads deeper nesting than it writes
        raise Undecodable(f"a job can't be taken out: {error}") from error
