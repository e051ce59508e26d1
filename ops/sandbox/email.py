"""Plays a mail service: an SMTP server that takes our mails after a login, customers' mails, and bounces."""

import asyncio
import hashlib
import hmac
import logging
import warnings
from collections.abc import AsyncIterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

import orjson
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ops.sandbox.bodies import bad_request, json_answer, read_json
from ops.sandbox.courier import Courier, RetryPolicy, address_problem
from ops.sandbox.email_forms import ADDRESS, PASSWORD, USER, bounce_fields, customer_fields, new_message_id, webhook
from ops.sandbox.faults import (
    AcceptThenDrop,
    AnswerFault,
    DropBefore,
    FaultBook,
    Hang,
    Refusal,
    ServerError,
    Slow,
    TooMany,
)
from ops.sandbox.record import MessageLog, Moment, SentMessage

PROVIDER = "email"
HOST = "127.0.0.1"  # never more: it trusts every caller
LARGEST = 12 * 1024**2  # bytes of a mail
MOST_MAILS = 10_000  # that may still bounce
_ACCEPTED = "250 2.0.0 OK"
# It warns of each login without encryption, which on loopback is meant, and twice a mail costs more than the mail.
logging.getLogger("mail.log").setLevel(logging.ERROR)
_OF_CONTENT = (552, 554)  # codes that are said of a mail's content; others of its recipient


class CustomerSays(BaseModel):
    """A customer writes to us: what `POST /sandbox/email/customer` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    sender: str = Field(alias="from", min_length=3, description="`ana@example.com`, or with a name before it")
    to: str = ADDRESS
    subject: str = "Consulta"
    text: str = ""
    html: str = ""
    webhook_url: str = Field(description="where the service posts mails; loopback only")
    message_id: str | None = None
    times: int = Field(default=1, ge=1, le=100, description="the same webhook this often, all at once")
    headers: dict[str, str | None] = Field(default={}, description="over the mail's headers; null takes one away")


class Bounces(BaseModel):
    """A mail of ours comes back: what `POST /sandbox/email/bounce` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    message_id: str = Field(description="the Message-ID of a mail that was taken")
    webhook_url: str
    code: str = Field(default="5.1.1", pattern=r"^[245]\.\d{1,3}\.\d{1,3}$")
    diagnostic: str = "550 5.1.1 no such user here"


_CUSTOMER = TypeAdapter(CustomerSays)
_BOUNCE = TypeAdapter(Bounces)


class EmailSandbox:
    """One SMTP server and one inbound-parse service."""

    def __init__(self, messages: MessageLog, faults: FaultBook, courier: Courier, port: int) -> None:
        self._messages = messages
        self._faults = faults
        self._courier = courier
        self.port = port  # 0: a free one, once it is serving
        self._mails: dict[str, EmailMessage] = {}  # Message-ID → as it was taken

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/sandbox/email", self._about),
            web.post("/sandbox/email/customer", self._customer),
            web.post("/sandbox/email/bounce", self._bounce),
        ]

    def clear(self) -> None:
        """Forget the mails that could bounce."""
        self._mails.clear()

    async def serving(self, _: web.Application) -> AsyncIterator[None]:
        """The SMTP server, as long as the application runs. Raises OSError where the port is taken."""
        server = await asyncio.get_running_loop().create_server(self._protocol, HOST, self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    # -- SMTP ----------------------------------------------------------------------------------------------------------

    def _protocol(self) -> SMTP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a login without encryption: it is loopback
            return SMTP(
                _Dialogue(self),
                hostname="smtp.sandbox",
                authenticator=_authenticated,
                auth_required=True,
                auth_require_tls=False,
                enable_SMTPUTF8=True,
                data_size_limit=LARGEST,
            )

    def fault_of(self, recipient: str, body: str) -> AnswerFault | None:
        return self._faults.answer_fault(PROVIDER, to=recipient, body=body, account=USER)

    def record(self, sender: str, recipient: str, mail: EmailMessage | None) -> SentMessage:
        """A mail that arrived, or one that was refused before it did."""
        body = mail.get_body(("plain",)) if mail is not None else None
        headers = {name.lower(): str(value) for name, value in mail.items()} if mail is not None else {}
        message = SentMessage(
            seq=self._messages.next_seq(),
            received_at=Moment.now(),
            provider=PROVIDER,
            sid=headers.get("message-id") or new_message_id(),
            account=USER,
            to=recipient,
            sender=sender,
            body=str(body.get_content()).rstrip("\r\n") if body is not None else "",
            content_variables=orjson.dumps(headers).decode(),
            media_urls=_files(mail) if mail is not None else (),
        )
        self._messages.add(message)
        return message

    def take(self, message: SentMessage, mail: EmailMessage) -> None:
        message.status = "accepted"
        self._mails[message.sid] = mail
        if len(self._mails) > MOST_MAILS:
            del self._mails[next(iter(self._mails))]
        self._messages.accept(message)

    # -- the customer's side -------------------------------------------------------------------------------------------

    async def _about(self, _: web.Request) -> web.Response:
        return json_answer({"smtp_host": HOST, "smtp_port": self.port, "user": USER})

    async def _customer(self, request: web.Request) -> web.Response:
        said = await read_json(request, _CUSTOMER)
        if problem := address_problem(said.webhook_url):
            raise bad_request(("webhook_url", problem))
        message_id = said.message_id or new_message_id()
        body, content_type = webhook(
            customer_fields(
                sender=said.sender,
                to=said.to,
                subject=said.subject,
                text=said.text,
                html=said.html,
                message_id=message_id,
                headers=said.headers,
            )
        )
        return await self._post(said.webhook_url, body, content_type, said.times, message_id)

    async def _bounce(self, request: web.Request) -> web.Response:
        asked = await read_json(request, _BOUNCE)
        mail = self._mails.get(asked.message_id)
        message = self._messages.get(asked.message_id)
        if mail is None or message is None:
            raise bad_request(("message_id", "no mail of this id was taken"))
        if problem := address_problem(asked.webhook_url):
            raise bad_request(("webhook_url", problem))
        body, content_type = webhook(
            bounce_fields(
                to=message.sender,
                recipient=message.to,
                returned=mail,
                code=asked.code,
                diagnostic=asked.diagnostic,
            )
        )
        return await self._post(asked.webhook_url, body, content_type, 1, asked.message_id)

    async def _post(self, url: str, body: bytes, content_type: str, times: int, message_id: str) -> web.Response:
        headers = {"Content-Type": content_type, "User-Agent": "Palomar sandbox"}
        deliveries = await asyncio.gather(
            *(self._courier.deliver(url, body, headers, RetryPolicy()) for _ in range(times))
        )
        views = [delivery.view() for delivery in deliveries]
        return json_answer({"message_sid": message_id, **views[0], "deliveries": views})


def _files(mail: EmailMessage) -> tuple[str, ...]:
    """`name type sha256` of each file in a mail."""
    contents = ((part, bytes(cast(bytes, part.get_payload(decode=True) or b""))) for part in mail.iter_attachments())
    return tuple(
        f"{part.get_filename()} {part.get_content_type()} {hashlib.sha256(content).hexdigest()}"
        for part, content in contents
    )


def _authenticated(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and all(
        hmac.compare_digest(given, known.encode()) for given, known in ((data.login, USER), (data.password, PASSWORD))
    )
    return AuthResult(success=right, handled=False)


class _Dialogue:
    """One connection: what goes wrong in it is drawn at its recipient, else at its content."""

    def __init__(self, sandbox: EmailSandbox) -> None:
        self._sandbox = sandbox
        self._fault: AnswerFault | None = None

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self._fault = fault = self._sandbox.fault_of(address, "")
        answer = _refused(fault)
        if answer and not (isinstance(fault, Refusal) and _code(fault) in _OF_CONTENT):
            message = self._sandbox.record(envelope.mail_from or "", address, None)
            message.outcome, message.code, message.answered = "refused", answer[:3], True
            message.finished_at = Moment.now()
            return answer
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        mail = message_from_bytes(content, policy=policy.default)
        recipient = envelope.rcpt_tos[0]
        message = self._sandbox.record(envelope.mail_from or "", recipient, mail)
        fault = self._fault or self._sandbox.fault_of(recipient, message.body)
        try:
            return await self._answer(server, message, mail, fault)
        finally:
            message.finished_at = Moment.now()

    async def _answer(self, server: SMTP, message: SentMessage, mail: EmailMessage, fault: AnswerFault | None) -> str:
        if answer := _refused(fault):
            message.outcome, message.code, message.answered = "refused", answer[:3], True
            return answer
        match fault:
            case AcceptThenDrop():
                self._sandbox.take(message, mail)
                return _dropped(server)
            case DropBefore():
                message.outcome = "dropped"
                return _dropped(server)
            case Hang():
                message.outcome = "hung"
                await asyncio.sleep(fault.seconds)
                return _dropped(server)
            case Slow(accepted_first=False):
                await asyncio.sleep(fault.delay_ms / 1000)
        self._sandbox.take(message, mail)
        if isinstance(fault, Slow) and fault.accepted_first:
            await asyncio.sleep(fault.delay_ms / 1000)
        message.answered = True
        return _ACCEPTED


def _refused(fault: AnswerFault | None) -> str:
    """What a server says that refuses; empty where the fault is of another kind."""
    match fault:
        case TooMany():
            return "421 4.7.0 too many connections, try again later"
        case ServerError():
            return "451 4.3.0 a local error, try again later"
        case Refusal():
            return f"{_code(fault)} {fault.message or 'refused'}"
    return ""


def _code(fault: Refusal) -> int:
    code = int(fault.code) if str(fault.code).isdigit() else 550
    return code if 400 <= code < 600 else 550


def _dropped(server: SMTP) -> str:
    """Close the connection; the answer has nowhere to go."""
    if server.transport is not None:
        cast(asyncio.WriteTransport, server.transport).abort()
    return _ACCEPTED
