"""Writes a call as a user would: with curl, in Python, in TypeScript. No I/O.

Each takes the address of the API and the key from the environment: API and KEY.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pprint import pformat
from typing import Any, Final
from urllib.parse import urlencode

from ingress.api.declaration import AnyProcedure
from ingress.api.rest_paths import Route

_WIDTH: Final = 96  # columns


@dataclass(frozen=True, slots=True)
class Snippet:
    """A call in a language, as its users name it."""

    language: str
    text: str


def snippets(route: Route, given: Mapping[str, Any]) -> list[Snippet]:
    """The call of this procedure with this input, in each language."""
    request = _Request.of(route, given)
    return [Snippet(language, write(request)) for language, write in _WRITERS.items()]


def subscribing(procedure: AnyProcedure, given: Mapping[str, Any]) -> list[Snippet]:
    """The same of a subscription, which is for clients of tRPC."""
    return [Snippet("TypeScript", _SUBSCRIBING.format(name=procedure.name, given=_object(given, "")))]


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str  # with the id, and the query
    body: Mapping[str, Any] | None
    content_type: str | None = None  # of a file that is the body

    @classmethod
    def of(cls, route: Route, given: Mapping[str, Any]) -> "_Request":
        path = route.path
        rest = dict(given)
        if route.id_field is not None and route.id_field in rest:
            path = path.replace(f"{{{route.id_field}}}", str(rest.pop(route.id_field)))
        if route.has_body:
            return cls(route.method, path, rest)
        path += f"?{urlencode(_pairs(rest))}" if rest else ""
        return cls(route.method, path, None, route.procedure.takes[0] if route.takes_file else None)

    @property
    def file(self) -> str:
        """The name that a file may have: `contacts.csv`."""
        family = self.path.split("/")[2]
        return f"{family}.{(self.content_type or '').rpartition('/')[2]}"


def _pairs(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """An input as a query string has it: a list is its name once for each value."""
    return [
        (name, one if isinstance(one, str) else json.dumps(one))
        for name, value in given.items()
        for one in (value if isinstance(value, list) else [value])
    ]


def _curl(request: _Request) -> str:
    method = "" if request.method == "GET" else f"-X {request.method} "
    lines = [f'curl {method}"$API{request.path}" -H "Authorization: Bearer $KEY"']
    if request.content_type is not None:
        lines += [f"    -H 'Content-Type: {request.content_type}' -H 'Idempotency-Key: {request.file}'"]
        lines += [f"    -T {request.file}"]
    if request.body is not None:
        lines += ["    -H 'Content-Type: application/json' -H \"Idempotency-Key: $(uuidgen)\""]
        lines += [f"    -d {shlex.quote(json.dumps(request.body, ensure_ascii=False))}"]
    return " \\\n".join(lines)


def _python(request: _Request) -> str:
    lines = [
        "import os",
        *(["import uuid"] if request.body is not None else []),
        "",
        "import requests",
        "",
        f"answer = requests.{request.method.lower()}(",
        f'    os.environ["API"] + "{request.path}",',
    ]
    authorization = '"Authorization": f"Bearer {os.environ[\'KEY\']}"'
    if request.content_type is not None:
        own = f'"Content-Type": "{request.content_type}", "Idempotency-Key": "{request.file}"'
        lines += ["    headers={", f"        {authorization},", f"        {own},", "    },"]
        lines.append(f'    data=open("{request.file}", "rb"),')
    elif request.body is None:
        lines.append(f"    headers={{{authorization}}},")
    else:
        lines.append(f'    headers={{{authorization}, "Idempotency-Key": str(uuid.uuid4())}},')
        literal = pformat(dict(request.body), sort_dicts=False, width=_WIDTH).replace("\n", "\n         ")
        lines.append(f"    json={literal},")
    timeout = 30 if request.content_type is None else 3600
    return "\n".join([*lines, f"    timeout={timeout},", ")", "print(answer.json())"])


def _typescript(request: _Request) -> str:
    imports = [] if request.content_type is None else ['import { openAsBlob } from "node:fs";', ""]
    lines = [*imports, f"const answer = await fetch(`${{process.env.API}}{request.path}`, {{"]
    if request.method != "GET":
        lines.append(f'  method: "{request.method}",')
    lines += ["  headers: {", "    Authorization: `Bearer ${process.env.KEY}`,"]
    if request.content_type is not None:
        lines += [f'    "Content-Type": "{request.content_type}",', f'    "Idempotency-Key": "{request.file}",', "  },"]
        lines.append(f'  body: await openAsBlob("{request.file}"),')
    elif request.body is None:
        lines.append("  },")
    else:
        body = _object(request.body, "  ")
        lines += ['    "Content-Type": "application/json",', '    "Idempotency-Key": crypto.randomUUID(),', "  },"]
        lines.append(f"  body: JSON.stringify({body}),")
    return "\n".join([*lines, "});", "console.log(await answer.json());"])


def _object(given: Mapping[str, Any], indent: str) -> str:
    return json.dumps(given, ensure_ascii=False, indent=2).replace("\n", f"\n{indent}") if given else "{}"


_SUBSCRIBING: Final = """\
import {{ createTRPCClient, httpSubscriptionLink }} from "@trpc/client";
import type {{ AppRouter }} from "./router"; // ./palomar trpc-types writes it

const trpc = createTRPCClient<AppRouter>({{
  links: [
    httpSubscriptionLink({{
      url: `${{process.env.API}}/trpc`,
      connectionParams: {{ authorization: `Bearer ${{process.env.KEY}}` }},
    }}),
  ],
}});
trpc.{name}.subscribe({given}, {{ onData: console.log, onError: console.error }});"""
_WRITERS: Final[Mapping[str, Callable[[_Request], str]]] = {
    "curl": _curl,
    "Python": _python,
    "TypeScript": _typescript,
}
