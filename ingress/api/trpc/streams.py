"""How httpBatchStreamLink reads answers that are written as they are ready: versions 11 (JSONL) and 10. No I/O."""

import json

import orjson

from ingress.api.trpc.requests import Form


class Lines:
    """The pieces of one streamed answer."""

    def __init__(self, form: Form, count: int) -> None:
        self._form = form
        self._count = count
        self._written = 0

    def head(self) -> bytes:
        """What comes first. Version 11 is given a promise for each call; `[null, 0, n]`: it is kept by the chunk n."""
        if self._form == "stream10":
            return b""
        return orjson.dumps({str(place): [[0], [None, 0, place]] for place in range(self._count)}) + b"\n"

    def one(self, place: int, body: bytes) -> bytes:
        """The answer to the call at this place."""
        if self._form == "jsonl":
            return b"[%d,0,[[%b]]]\n" % (place, body)
        self._written += 1
        return b'%b"%d":%b\n' % (b"{" if self._written == 1 else b",", place, _ascii(body))

    def tail(self) -> bytes:
        """What comes last."""
        return b"}" if self._form == "stream10" else b""


def _ascii(body: bytes) -> bytes:
    """The same JSON without the bytes that version 10 misreads where a packet ends within a character."""
    return body if body.isascii() else json.dumps(orjson.loads(body), separators=(",", ":")).encode()
