"""An SMTP server of aiosmtpd's that answers each step as a test sets it, and a sender that is pointed at it."""

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast
from uuid import UUID

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from shared.domain.model import Outgoing
from shared.providers.base import Sender
from shared.providers.email.send import make_sender

MESSAGE_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
USER, PASSWORD = "hola", "s3cret pass"


@dataclass
class Server:
    """`answers` by step (greeting, login, sender, recipient, content): what is said instead of yes. `drop` and `hang`
    name the step at which the connection is cut, or nothing is said any more."""

    answers: Mapping[str, str] = field(default_factory=dict)
    drop: str = ""
    hang: str = ""
    taken: list[EmailMessage] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    port: int = 0

    async def _at(self, server: SMTP, step: str) -> str | None:
        if self.hang == step:
            await asyncio.sleep(60)
        if self.drop == step and server.transport is not None:
            cast(asyncio.WriteTransport, server.transport).abort()
        return self.answers.get(step)

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return await self._at(server, "sender") or "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._at(server, "recipient")
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        self.taken.append(message_from_bytes(envelope.original_content or b"", policy=policy.default))
        return await self._at(server, "content") or "250 OK"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        if answer := self.answers.get("login"):
            return AuthResult(success=False, handled=False, message=answer)
        return AuthResult(success=right, handled=False)

    def protocol(self) -> SMTP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a login without encryption, on loopback
            return _Smtp(
                self, hostname="mx.example", authenticator=self.authenticate, auth_required=True,
                auth_require_tls=False, enable_SMTPUTF8=True,
            )  # fmt: skip


class _Smtp(SMTP):
    """With a greeting that may be another one."""

    async def push(self, status: Any) -> None:
        greeting = self.event_handler.answers.get("greeting")
        if greeting and isinstance(status, str) and status.startswith("220 mx.example"):
            status = greeting
        await super().push(status)


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    listening = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


def sender_to(
    port: int, *, private: str = "127.0.0.1", timeout: float = 5.0, host: str = "127.0.0.1", **changed: object
) -> Sender:
    credentials = {"host": host, "port": port, "tls": "none", "user": USER, "password": PASSWORD, **changed}
    return make_sender(json.dumps(credentials), private_hosts=private, timeout=timeout)


def outgoing(**changed: Any) -> Outgoing:
    given: dict[str, Any] = {
        "message_id": MESSAGE_ID, "channel_kind": "email", "sender": "hola@shop.example",
        "recipient": "Ana@example.com", "text": "Son 12 €.",
    }  # fmt: skip
    return Outgoing(**(given | changed))
