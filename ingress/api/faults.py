"""Answers a request that can't be read as HTTP, or whose lines are too long, with a problem instead of plain text."""

from http import HTTPStatus

import orjson
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from ingress.api.problems import HEADER_TOO_LARGE, INTERNAL, PARSE_ERROR, Problem
from ingress.api.trpc.shapes import error_shape
from shared.http.connections import BoundedServer
from shared.process.log import get_logger

log = get_logger(__name__)


class ApiServer(BoundedServer):
    """A server whose connections answer faults as this API answers everything."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that could not be parsed, or whose handler failed. It ends the connection.

        Which path was asked is not known, so the answer is a problem and, in the member `error`, what tRPC's clients
        read.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; no other one can be sent")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request failed", error=type(exc).__name__)
            problem = Problem(INTERNAL, "Something went wrong here. The log of the API says what.")
        elif isinstance(exc, LineTooLong):
            problem = Problem(HEADER_TOO_LARGE, "A header or the first line of this request is too long.")
        else:
            problem = Problem(PARSE_ERROR, "This is no HTTP request that can be read.")
        response = web.Response(
            status=problem.type.status,
            body=orjson.dumps(problem.document() | {"error": error_shape(problem)}),
            content_type="application/problem+json",
        )
        response.force_close()
        return response
