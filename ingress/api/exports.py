"""Answers subscriptions that end over REST as files, a line an item: CSV or NDJSON, written as the rows are read."""

import csv
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final, Literal

import orjson
from aiohttp import hdrs, web

from ingress.api import query_string
from ingress.api.declaration import AnyProcedure
from ingress.api.front import Front
from ingress.api.models import Output
from ingress.api.problems import METHOD_NOT_ALLOWED, Problem
from ingress.api.rest_paths import ROOT, kebab
from shared.process.log import get_logger

Format = Literal["csv", "ndjson"]
TYPES: Final[dict[Format, str]] = {"csv": "text/csv; charset=utf-8; header=present", "ndjson": "application/x-ndjson"}
AT_ONCE: Final = 64 * 1024  # bytes that are written together
# A spreadsheet takes a cell that begins with one of these for a formula, which may call out or run a program.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Export:
    """An export, and the format that its path asks for."""

    procedure: AnyProcedure
    format: Format


class Exports:
    """All exports, by their paths: `/v1/messages-history/export.csv`."""

    def __init__(self, front: Front, procedures: Iterable[AnyProcedure]) -> None:
        self._front = front
        self._by_path = {
            f"{ROOT}/{kebab(one.family)}/{kebab(one.verb)}.{format_}": Export(one, format_)
            for one in procedures
            if one.is_file
            for format_ in TYPES
        }

    def find(self, path: str) -> Export | None:
        """The export at this path; None where there is none."""
        return self._by_path.get(path)

    async def answer(
        self, request: web.BaseRequest, export: Export, given: Sequence[tuple[str, str]]
    ) -> web.StreamResponse:
        """Answer with a file; `given` is the query string. Raises a Problem as long as nothing has been written."""
        if request.method != "GET":
            raise Problem(METHOD_NOT_ALLOWED, "Here is only: GET.", headers={"Allow": "GET"})
        caller = await self._front.caller(request)
        accepted = await self._front.executor.open(
            caller, export.procedure, query_string.read(export.procedure.input, given)
        )
        async with aclosing(_items(export.procedure.stream(accepted.call, accepted.given))) as items:
            first = await anext(items, None)  # what is refused is refused here
            response = web.StreamResponse(headers={**_headers(export), **caller.rate_limit_headers()})
            if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower():
                response.enable_compression(web.ContentCoding.gzip)
            await response.prepare(request)
            try:
                await _write(response, export, first, items)
            except ConnectionError:  # the client has left
                raise
            except Exception as error:
                log.error("export broken off", procedure=export.procedure.name, error=type(error).__name__)
                if request.transport is not None:
                    request.transport.abort()  # without its last chunk, so that no client takes it for the whole file
            return response


async def _items(stream: AsyncIterator[Output]) -> AsyncGenerator[dict[str, Any]]:
    async for item in stream:
        yield item.model_dump(mode="json", by_alias=True)


async def _write(
    response: web.StreamResponse, export: Export, first: dict[str, Any] | None, items: AsyncIterator[dict[str, Any]]
) -> None:
    names = [field.alias or name for name, field in export.procedure.output.model_fields.items()]
    waiting = bytearray(csv_line(names) if export.format == "csv" else b"")
    if first is not None:
        waiting += _line(export.format, first)
        async for item in items:
            waiting += _line(export.format, item)
            if len(waiting) >= AT_ONCE:
                await response.write(bytes(waiting))
                waiting.clear()
    await response.write(bytes(waiting))
    await response.write_eof()


def _line(format_: Format, item: dict[str, Any]) -> bytes:
    return csv_line(item.values()) if format_ == "csv" else orjson.dumps(item) + b"\n"


def csv_line(values: Iterable[Any]) -> bytes:
    """A line of CSV (RFC 4180): objects and lists as JSON, nothing for null, and no cell that is a formula."""
    text = StringIO()
    csv.writer(text).writerow([_cell(value) for value in values])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"'{text}" if text.startswith(_FORMULA) else text


def _headers(export: Export) -> dict[str, str]:
    family, verb = kebab(export.procedure.family), kebab(export.procedure.verb)
    name = family if verb == "export" else f"{family}-{verb}"
    return {
        hdrs.CONTENT_TYPE: TYPES[export.format],
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}.{export.format}"',
        hdrs.VARY: hdrs.ACCEPT_ENCODING,
    }
