"""Reads which calls an HTTP request holds, from its path and query string, and their inputs. No I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import unquote

from ingress.api import query_string
from ingress.api.front import parsed
from ingress.api.problems import INVALID_INPUT, UNKNOWN_PATH, FieldError, Problem
from ingress.api.trpc.shapes import plain

ROOT: Final = "/trpc"
MOST_CALLS: Final = 100  # of one request or frame; the clients' option `maxItems` makes them divide what is more
JSONL: Final = "application/jsonl"
Form = Literal["json", "jsonl", "stream10"]
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of a request. `form` is how their answers are to be written."""

    paths: tuple[str, ...]  # names of procedures, as the client gives them
    is_batch: bool
    form: Form
    query: Mapping[str, str]

    def inputs(self, given: Any) -> Sequence[Any]:
        """The input of each call, from the body or the parameter `input`; None: undefined. Raises a Problem."""
        if not self.is_batch:
            return [plain(given)]
        given = {} if given is None else given
        if not isinstance(given, dict):
            wrong = FieldError("#", "The input of a batch is no object.", 'Give an object: {"0": …, "1": …}.')
            raise Problem(INVALID_INPUT, wrong.detail, errors=[wrong])
        return [plain(given.get(str(place))) for place in range(len(self.paths))]

    def in_query(self) -> Any:
        """What the parameter `input` holds; None where there is none."""
        text = self.query.get("input")
        return parsed(text) if text else None


def read(raw_path: str, raw_query: str, headers: Mapping[str, str]) -> Calls:
    """The calls of a request with this path and query string, as they came. Raises a Problem."""
    names = _unescaped(raw_path.removeprefix(ROOT).removeprefix("/"))
    query = parameters(raw_query)
    is_batch = "batch" in query  # version 10 takes any value, version 11 sends 1
    paths = tuple(names.split(",")) if is_batch else (names,)
    if paths == ("",):
        raise Problem(UNKNOWN_PATH, "Name a procedure: /trpc/contacts.list.")
    if len(paths) > MOST_CALLS:
        raise Problem(INVALID_INPUT, f"A batch has at most {MOST_CALLS} calls. Set the link's `maxItems` to that.")
    return Calls(paths, is_batch, _form(headers) if is_batch else "json", query)


def parameters(raw_query: str) -> Mapping[str, str]:
    """The parameters of a query string; of one that comes again the last value counts. Raises a Problem."""
    return dict(query_string.pairs(raw_query))


def _unescaped(path: str) -> str:
    try:
        if _BAD_ESCAPE.search(path) is None:
            return unquote(path, errors="strict")
    except UnicodeDecodeError:
        pass
    raise Problem(INVALID_INPUT, "The path holds a % that escapes no character of UTF-8.")


def _form(headers: Mapping[str, str]) -> Form:
    if JSONL in headers.get("trpc-accept", "") or JSONL in headers.get("accept", ""):
        return "jsonl"
    return "stream10" if headers.get("trpc-batch-mode") == "stream" else "json"
