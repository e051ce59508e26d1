"""palomar parse: show what Palomar reads in a provider's raw webhook. Checks no signature, stores nothing."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.pretty import Pretty
from rich.table import Table
from rich.text import Text

from ops.errors import Problem
from shared import providers
from shared.domain.model import AgentMessage, InboundMessage, Receipt
from shared.providers.base import Parsed, RawWebhook

Parse = Callable[[RawWebhook], Parsed]
_FORM = "application/x-www-form-urlencoded"


def parse(
    provider: Annotated[str, typer.Argument(help="twilio, meta, …: a module of shared/providers")],
    source: Annotated[
        Path | None, typer.Argument(help="file with one raw body; standard input where left out", dir_okay=False)
    ] = None,
    jsonl: Annotated[
        bool,
        typer.Option(
            "--jsonl", help="a request {content_type, headers, body, url, method} a line in, a result a line out"
        ),
    ] = False,
) -> None:
    """Show what Palomar reads in a raw webhook."""
    read = _parser_of(provider)
    given = sys.stdin.buffer.read() if source is None else _content(source)
    if jsonl:
        for line in given.splitlines():
            if line.strip():
                sys.stdout.buffer.write(_as_line(_result_of_line(line, read)))
        sys.stdout.flush()
        return
    body = given.strip()
    _show(read(RawWebhook("POST", "", _content_type(body), {}, body)))


def _content_type(body: bytes) -> str:
    """What a raw body most likely came as; a multipart one begins with its own boundary."""
    if body[:1] in (b"{", b"["):
        return "application/json"
    first = body[:200].splitlines()[:1]
    if first and first[0].startswith(b"--"):
        return f'multipart/form-data; boundary="{first[0][2:].decode("ascii", "replace")}"'
    return _FORM


def _parser_of(provider: str) -> Parse:
    if provider not in providers.names():
        raise Problem(f"There is no provider {provider!r}.", f"Name one of: {', '.join(providers.names())}.")
    return providers.provider(provider).parse


def _content(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise Problem(f"{source} can't be read: {error.strerror}.", "Name a file with one raw body.") from error


def _result_of_line(line: bytes, read: Parse) -> dict[str, object]:
    try:
        case = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return result(Parsed(errors=(f"line: no JSON ({error.msg}); one request as an object a line is needed",)))
    if not isinstance(case, dict):
        return result(Parsed(errors=("line: one request as an object a line is needed",)))
    headers = case.get("headers")
    named = {str(k).lower(): str(v) for k, v in headers.items()} if isinstance(headers, dict) else {}
    body = case.get("body")
    raw = RawWebhook(
        method=str(case.get("method") or "POST"),
        url=str(case.get("url") or ""),
        content_type=str(case.get("content_type") or named.get("content-type") or _FORM),
        headers=named,
        body=body.encode() if isinstance(body, str) else b"" if body is None else orjson.dumps(body),
    )
    return result(read(raw))


def _as_line(facts: dict[str, object]) -> bytes:
    try:
        return orjson.dumps(facts, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as error:  # orjson reads deeper nesting than it writes
        return _as_line(result(Parsed(errors=(f"body: can't be printed as JSON ({error})",))))


def result(parsed: Parsed) -> dict[str, object]:
    """The line `--jsonl` prints for one webhook."""
    return {
        "messages": [
            *(_message(message) for message in parsed.messages),
            *(_of_manager(message) for message in parsed.agent_messages),
        ],
        "statuses": [_status(receipt) for receipt in parsed.receipts],
        "other": [{"name": notice.name, "data": notice.data} for notice in parsed.notices],
        "error": "; ".join(parsed.errors) or None,
    }


def _message(message: InboundMessage) -> dict[str, object]:
    return {
        "external_id": message.external_id,
        "from": message.given_from or next((address.given for address in message.sender), None),
        "to": message.given_to or message.channel_address or None,
        **_shared(message),
        "direction": "inbound",
    }


def _of_manager(message: AgentMessage) -> dict[str, object]:
    return {
        "external_id": message.external_id,
        "from": message.author_name or message.author_id or None,
        "to": next((address.given for address in message.customer), None),
        **_shared(message),
        "direction": "outbound",
    }


def _shared(message: InboundMessage | AgentMessage) -> dict[str, object]:
    return {
        "type": message.message_type,
        "text": message.text,
        "media": [{"url": media.url, "id": media.id, "mime_type": media.mime_type} for media in message.media],
        "timestamp": message.timestamp,
        "contact_name": message.contact_name,
        "reply_to": message.reply_to,
    }


def _status(receipt: Receipt) -> dict[str, object]:
    return {
        "external_id": receipt.external_id,
        "status": receipt.status,
        "error_code": receipt.error_code,
        "error_message": receipt.error_message,
        "timestamp": receipt.timestamp,
        "recipient": receipt.recipient,
    }


def _show(parsed: Parsed) -> None:
    console = Console()
    for message in parsed.messages:
        console.print(_table("message", {**_message(message), "sender": message.sender, **message.extra}))
    for written in parsed.agent_messages:
        console.print(_table("manager's message", {**_of_manager(written), **written.extra}))
    for receipt in parsed.receipts:
        ours = {"message_id": receipt.message_id} if receipt.message_id else {}
        console.print(_table("status", {**_status(receipt), **ours, **receipt.extra}))
    for notice in parsed.notices:
        console.print(_table(f"other: {notice.name}", notice.data))
    for error in parsed.errors:
        console.print("error:", error, style="red", markup=False, highlight=False)
    if parsed.errors:
        raise typer.Exit(1)


def _table(title: str, facts: Mapping[str, object]) -> Table:
    table = Table(title=Text(title), title_justify="left", show_header=False)
    for name, value in facts.items():
        if value not in (None, "", [], ()):
            table.add_row(name, Pretty(value))
    return table
