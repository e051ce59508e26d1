"""Answers subscriptions that end over REST as files, a line an item: CSV or NDJSON, written as the rows are read."""

import csv
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final, Literal

import orjson
from aiohttp import hdrs, web

from ingress.api import query_string
from ingress.api.begin import begin
from ingress.api.declaration import AnyProcedure
from ingress.api.execute import Accepted
from ingress.api.front import Front
from ingress.api.problems import METHOD_NOT_ALLOWED, Problem
from ingress.api.rest_paths import ROOT, kebab

Format = Literal["csv", "ndjson"]
TYPES: Final[dict[Format, str]] = {"csv": "text/csv; charset=utf-8; header=present", "ndjson": "application/x-ndjson"}
AT_ONCE: Final = 64 * 1024  # bytes that are written together
# A spreadsheet takes a cell that begins with one of these for a formula, which may call out or run a program.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


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
        async with self._front.room(accepted), aclosing(self._pieces(export, accepted)) as pieces:
            first = await anext(pieces)  # what is refused is refused here
            response = web.StreamResponse(headers={**_headers(export), **caller.rate_limit_headers()})
            if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower():
                response.enable_compression(web.ContentCoding.gzip)
            await begin(request, response)
            await response.write(first)
            async for piece in pieces:
                await self._front.check_key(request)  # a query once in a few seconds
                await response.write(piece)
            await response.write_eof()
            return response

    async def _pieces(self, export: Export, accepted: Accepted) -> AsyncGenerator[bytes]:
        """What is written, in pieces of some AT_ONCE bytes. Raises a Problem, and nothing else."""
        names = [field.alias or name for name, field in export.procedure.output.model_fields.items()]
        waiting = bytearray(csv_line(names) if export.format == "csv" else b"")
        try:
            async for item in export.procedure.stream(accepted.call, accepted.given):
                waiting += _line(export.format, item.model_dump(mode="json", by_alias=True))
                if len(waiting) >= AT_ONCE:
                    yield bytes(waiting)
                    waiting.clear()
        except Exception as error:
            raise self._front.executor.problem_of(error, export.procedure) from error
        yield bytes(waiting)


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
