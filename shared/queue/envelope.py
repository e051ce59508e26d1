"""Writes jobs into the JSON envelope that travels through RabbitMQ, and reads them from it. No I/O.

An envelope is `{"type": …, "items": […]}`: jobs of one type, which share one publish and one confirm.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

import orjson
from aio_pika.abc import HeadersType
from pydantic import ValidationError

from shared.queue.jobs import QueueMessage

M = TypeVar("M", bound=QueueMessage)


def dump(message: QueueMessage) -> bytes:
    """One item as JSON."""
    return message.__pydantic_serializer__.to_json(message)


def envelope(type_: str, items: Sequence[bytes]) -> bytes:
    """`{"type": …, "items": […]}` of items that are JSON already."""
    return b'{"type":"' + type_.encode() + b'","items":[' + b",".join(items) + b"]}"


def group_key(keys: Sequence[str]) -> str:
    """The message_id of an envelope: the same items in the same order give the same one."""
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
    """An envelope or one of its items that is not what the queue's worker consumes."""


def decode(body: bytes, kind: type[M]) -> tuple[list[M], list[tuple[bytes, str]]]:
    """An envelope's items: those that are fine, and (raw item, reason) of those that are not.

    Raises Undecodable where the envelope itself can't be read.
    """
    try:
        outer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"not JSON: {error}") from error
    if not isinstance(outer, dict) or not isinstance(outer.get("items"), list):
        raise Undecodable("no envelope: it needs `type` and a list `items`")
    if outer.get("type") != kind.type:
        raise Undecodable(f"type is {str(outer.get('type'))[:60]!r}, this queue takes {kind.type!r}")
    good: list[M] = []
    bad: list[tuple[bytes, str]] = []
    for raw in outer["items"]:
        try:
            good.append(kind.model_validate(raw))
        except ValidationError as error:
            fields = ", ".join(
                f"{'.'.join(map(str, part['loc'])) or 'item'}: {part['msg']}" for part in error.errors()[:5]
            )
            bad.append((_as_it_came(raw), f"invalid {kind.type}: {fields}"))
    return good, bad


def _as_it_came(raw: object) -> bytes:
    try:
        return orjson.dumps(raw)
    except orjson.JSONEncodeError as error:  # orjson reads deeper nesting than it writes
        raise Undecodable(f"an item can't be taken out: {error}") from error
