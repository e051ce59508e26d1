"""What the API answers when it refuses: RFC 9457 problems, each with its status and tRPC's code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MOST_ERRORS: Final = 20  # fields named in one problem
LONGEST_POINTER: Final = 200  # characters; a stranger's field may be called anything

# tRPC's codes with their JSON-RPC numbers, as its clients know them.
CODES: Final[Mapping[str, int]] = {
    "PARSE_ERROR": -32700,
    "BAD_REQUEST": -32600,
    "INTERNAL_SERVER_ERROR": -32603,
    "SERVICE_UNAVAILABLE": -32603,
    "UNAUTHORIZED": -32001,
    "FORBIDDEN": -32003,
    "NOT_FOUND": -32004,
    "METHOD_NOT_SUPPORTED": -32005,
    "TIMEOUT": -32008,
    "CONFLICT": -32009,
    "PRECONDITION_FAILED": -32012,
    "PAYLOAD_TOO_LARGE": -32013,
    "UNSUPPORTED_MEDIA_TYPE": -32015,
    "UNPROCESSABLE_CONTENT": -32022,
    "TOO_MANY_REQUESTS": -32029,
}


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem. `meaning` is for the reference page, whose anchor the type's URI is."""

    name: str
    status: int
    title: str
    code: str  # tRPC's
    meaning: str

    @property
    def number(self) -> int:
        """JSON-RPC's number of the code, as tRPC's clients know it."""
        return CODES[self.code]

    @property
    def uri(self) -> str:
        """The `type` of a problem: a reference to the page that this API serves."""
        return f"/docs#problem-{self.name}"


PARSE_ERROR: Final = ProblemType(
    "parse-error", 400, "The request can't be read", "PARSE_ERROR", "The body or the request is no valid JSON or HTTP."
)
INVALID_INPUT: Final = ProblemType(
    "invalid-input", 400, "The input is not right", "BAD_REQUEST", "`errors` names each field, and what to change."
)
UNAUTHENTICATED: Final = ProblemType(
    "unauthenticated", 401, "No valid key", "UNAUTHORIZED", "The key is missing, mistyped, unknown, expired or revoked."
)
FORBIDDEN: Final = ProblemType(
    "forbidden", 403, "The key may not do this", "FORBIDDEN", "The key lacks the scope that the procedure needs."
)
NOT_FOUND: Final = ProblemType(
    "not-found", 404, "There is no such thing", "NOT_FOUND", "The tenant of this key has nothing with this id."
)
UNKNOWN_PATH: Final = ProblemType(
    "unknown-path", 404, "Nothing is here", "NOT_FOUND", "No procedure has this path. Compare it with the reference."
)
METHOD_NOT_ALLOWED: Final = ProblemType(
    "method-not-allowed", 405, "Another method", "METHOD_NOT_SUPPORTED", "The header Allow names the methods."
)
TIMEOUT: Final = ProblemType("timeout", 408, "The body came too slowly", "TIMEOUT", "Send it again, faster.")
CONFLICT: Final = ProblemType(
    "conflict", 409, "It contradicts what is there", "CONFLICT", "`detail` names the row or the state in the way."
)
VERSION_MISMATCH: Final = ProblemType(
    "version-mismatch", 412, "It has changed since", "PRECONDITION_FAILED",
    "If-Match names another version than the present one. Get it again, and repeat the change.",
)  # fmt: skip
TOO_LARGE: Final = ProblemType(
    "too-large", 413, "It is too large", "PAYLOAD_TOO_LARGE",
    "`detail` says how much is allowed: of a body, of the answers to a batch, or of an export over tRPC.",
)  # fmt: skip
UNSUPPORTED_MEDIA_TYPE: Final = ProblemType(
    "unsupported-media-type", 415, "Not this content type", "UNSUPPORTED_MEDIA_TYPE",
    "Bodies are application/json, in UTF-8 and not compressed.",
)  # fmt: skip
IDEMPOTENCY_MISMATCH: Final = ProblemType(
    "idempotency-mismatch", 422, "This Idempotency-Key was used for something else", "UNPROCESSABLE_CONTENT",
    "A key belongs to one procedure and one input. Take a new key for another request.",
)  # fmt: skip
TOO_MANY_REQUESTS: Final = ProblemType(
    "too-many-requests", 429, "Too many requests", "TOO_MANY_REQUESTS",
    "Wait as long as Retry-After says. The header RateLimit says how many more are allowed.",
)  # fmt: skip
HEADER_TOO_LARGE: Final = ProblemType(
    "header-too-large", 431, "A line of the request's head is too long", "PAYLOAD_TOO_LARGE",
    "Each header, and the first line with path and query string, has at most 64 KiB. Send less, or in a body.",
)  # fmt: skip
INTERNAL: Final = ProblemType(
    "internal", 500, "Something went wrong here", "INTERNAL_SERVER_ERROR", "The log has the details under `instance`."
)
UNAVAILABLE: Final = ProblemType(
    "unavailable", 503, "Not now", "SERVICE_UNAVAILABLE",
    "The database does not answer, or too much is under way. Send it again after Retry-After. A mutation may have been "
    "done: `detail` says so. Repeat it with the same Idempotency-Key, so that it is done once.",
)  # fmt: skip
PROVIDER_AWAY: Final = ProblemType(
    "provider-away", 503, "The provider does not answer", "SERVICE_UNAVAILABLE",
    "The messaging provider gave no answer, or none that can be used. Nothing was changed: send it again later.",
)  # fmt: skip

TYPES: Final = tuple(value for value in list(globals().values()) if isinstance(value, ProblemType))


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field, and what to do. `pointer` is a JSON pointer as a fragment: `#/phoneNumber`."""

    pointer: str
    detail: str
    remedy: str


class Problem(Exception):
    """A refusal of a request, which ends it and rolls its transaction back."""

    def __init__(
        self,
        type_: ProblemType,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        instance: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`retry_after` is seconds; `headers` are for the transports that have some."""
        super().__init__(f"{type_.name}: {detail}")
        self.type = type_
        self.detail = detail
        self.errors = tuple(errors)
        self.instance = instance
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, -int(-retry_after // 1)))

    def document(self) -> dict[str, object]:
        """The problem as RFC 9457 writes it, with `errors` where fields are named."""
        document: dict[str, object] = {
            "type": self.type.uri, "title": self.type.title, "status": self.type.status, "detail": self.detail,
        }  # fmt: skip
        if self.instance is not None:
            document["instance"] = self.instance
        if self.errors:
            document["errors"] = [
                {"pointer": error.pointer, "detail": error.detail, "remedy": error.remedy} for error in self.errors
            ]
        return document


def pointer(*path: str | int) -> str:
    """A JSON pointer (RFC 6901) as a fragment."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "".join(["#", *(f"/{step}" for step in steps)])[:LONGEST_POINTER]


def not_found(what: str, *path: str | int) -> Problem:
    """There is no such `what` (`contact`), named by the field at `path`, by default `id`."""
    error = FieldError(pointer(*(path or ("id",))), f"No {what} has this id.", "Give an id that this API has returned.")
    return Problem(NOT_FOUND, f"There is no {what} with this id.", errors=[error])


def invalid(path: str | tuple[str | int, ...], detail: str, remedy: str) -> Problem:
    """The input is not right in one field."""
    steps = (path,) if isinstance(path, str) else path
    return Problem(INVALID_INPUT, f"{'/'.join(map(str, steps))[:LONGEST_POINTER]}: {detail}",
                   errors=[FieldError(pointer(*steps), detail, remedy)])  # fmt: skip


_DETAILS: Final = {"missing": "It is missing.", "extra_forbidden": "There is no such field."}
_REMEDIES: Final[Mapping[str, str]] = {
    "missing": "Add it.",
    "extra_forbidden": "Leave it out, or correct its name.",
    "string_type": "Give a string.",
    "bool_type": "Give true or false.",
    "bool_parsing": "Give true or false.",
    "int_type": "Give a whole number.",
    "int_parsing": "Give a whole number.",
    "int_from_float": "Give a whole number.",
    "float_type": "Give a number.",
    "list_type": "Give a list.",
    "tuple_type": "Give a list.",
    "dict_type": "Give an object.",
    "model_type": "Give an object.",
    "string_too_long": "Give at most {max_length} characters.",
    "string_too_short": "Give at least {min_length} characters.",
    "too_long": "Give at most {max_length} of them.",
    "too_short": "Give at least {min_length} of them.",
    "string_pattern_mismatch": "Give a text of the form {pattern}.",
    "uuid_type": "Give an id as this API returns it.",
    "uuid_parsing": "Give an id as this API returns it.",
    "datetime_type": "Give a time such as 2026-11-28T16:00:00Z.",
    "datetime_parsing": "Give a time such as 2026-11-28T16:00:00Z.",
    "datetime_from_date_parsing": "Give a time such as 2026-11-28T16:00:00Z.",
    "timezone_aware": "Add the time zone: 2026-11-28T16:00:00Z.",
    "greater_than": "Give more than {gt}.",
    "greater_than_equal": "Give {ge} or more.",
    "less_than": "Give less than {lt}.",
    "less_than_equal": "Give {le} or less.",
    "literal_error": "Give one of: {expected}.",
    "enum": "Give one of: {expected}.",
}
_ANY_OTHER: Final = "Compare it with the reference."


def of_validation(error: ValidationError, *within: str | int) -> Problem:
    """The problem of an input that its model refuses, with a pointer and a remedy for each field.

    `within` leads to the part of the input that the model is about.
    """
    found = error.errors(include_url=False, include_input=False)
    errors = [_field_error(one, within) for one in found[:MOST_ERRORS]]
    first = errors[0]
    more = f" {len(found) - 1} more." if len(found) > 1 else ""
    return Problem(INVALID_INPUT, f"{first.pointer}: {first.detail}{more}", errors=errors)


def _field_error(error: ErrorDetails, within: tuple[str | int, ...]) -> FieldError:
    context = error.get("ctx", {})
    detail = _DETAILS.get(error["type"]) or error["msg"].replace("Input should", "It should").rstrip(".") + "."
    own: str | None = context.get("remedy")  # of a type in models.py
    remedy = own or _REMEDIES.get(error["type"], _ANY_OTHER).format_map(context)
    return FieldError(pointer(*within, *error["loc"]), detail, remedy)
