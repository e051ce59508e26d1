"""Sends messages by SMTP: one connection and one mail a call, whose outcome is one class of the closed set.

RFC 5321. A server's reply is binding. The outcome is unknown only where no reply follows the mail.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Literal

import aiosmtplib
from aiosmtplib import SMTP, SMTPException, SMTPResponseException
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from shared.domain.model import Outgoing
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ChannelBroken,
    RecipientInvalid,
    Refusal,
    SendResult,
    SentList,
    Unreachable,
)
from shared.providers.credentials import read_credentials
from shared.providers.email.compose import as_bytes, mail_of, mailbox
from shared.providers.email.errors import Step, refusal, scrub
from shared.providers.email.smtp_connect import PrivateAddressError, connected_socket

_CONNECT_TIMEOUT = 5.0
_QUIT_TIMEOUT = 1.0  # seconds; the mail is accepted by then


class EmailCredentials(BaseModel):
    """A channel's credentials. The channel's address is the From where `from_address` is empty."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    host: str = Field(min_length=1, max_length=253)
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "tls", "none"] = "starttls"  # on the open connection, from the first byte, never
    user: str = Field(default="", max_length=320)
    password: SecretStr = SecretStr("")
    from_address: str = Field(default="", max_length=320)
    from_name: str = Field(default="", max_length=100)


class _Refused(Exception):
    """A step failed, and the outcome is known."""

    def __init__(self, outcome: Refusal) -> None:
        super().__init__(type(outcome).__name__)
        self.outcome = outcome


class EmailSender:
    """A `base.Sender` of one mailbox. `timeout` bounds one call in seconds, connecting included."""

    def __init__(self, credentials: EmailCredentials, *, private_hosts: str, timeout: float) -> None:
        self._credentials = credentials
        self._private = frozenset(host.strip().lower() for host in private_hosts.split(",") if host.strip())
        self._timeout = timeout
        self._context = ssl.create_default_context() if credentials.tls != "none" else None

    async def send(self, message: Outgoing) -> SendResult:
        """One mail, never repeated here. Raises nothing but CancelledError, after which the outcome is unknown."""
        credentials = self._credentials
        sender = credentials.from_address or message.sender
        mail = mail_of(message, sender, credentials.from_name, datetime.now(UTC))
        if not isinstance(mail, EmailMessage):
            return mail
        external_id, content = str(mail["Message-ID"]), as_bytes(mail)
        del mail  # with its files it is megabytes
        if not isinstance(content, bytes):
            return content
        handed_over = False  # whether the mail itself may have left
        client = self._client()
        try:
            async with asyncio.timeout(self._timeout):
                await self._open(client)
                await self._address(client, message, len(content))
                handed_over = True
                await _step("content", lambda: client.data(content))
        except _Refused as refused:
            return refused.outcome
        except PrivateAddressError as error:
            return ChannelBroken("private_host", str(error))
        except Exception as error:
            return _lost(error, handed_over=handed_over)
        finally:
            await _quit(client)
        return Accepted(external_id)

    async def find(self, message: Outgoing, since: datetime) -> SentList | None:
        """None: SMTP has no list of accepted mails. A bounce may resolve an unknown outcome."""
        return None

    async def check(self, address: str) -> str | None:
        """None where the server accepts the login, else a sentence with the remedy."""
        if mailbox(self._credentials.from_address or address) is None:
            return "from_address is no e-mail address: enter one such as hello@example.com"
        client = self._client()
        try:
            async with asyncio.timeout(self._timeout):
                await self._open(client)
        except _Refused as refused:
            return self._remedy(refused.outcome)
        except PrivateAddressError as error:
            return str(error)
        except Exception as error:
            where = f"{self._credentials.host}:{self._credentials.port}"
            return f"{where} can't be reached ({scrub(type(error).__name__)}): check host, port and tls"
        finally:
            await _quit(client)
        return None

    async def close(self) -> None:
        """Nothing stays open between two mails."""

    def _client(self) -> SMTP:
        return SMTP(
            hostname=self._credentials.host,
            use_tls=self._credentials.tls == "tls",
            start_tls=False,
            tls_context=self._context,
            timeout=self._timeout,
            local_hostname="palomar.invalid",
        )

    async def _open(self, client: SMTP) -> None:
        """Connected, encrypted and logged in. Raises _Refused, or what the network does."""
        credentials = self._credentials
        connecting = min(_CONNECT_TIMEOUT, self._timeout / 2)
        sock = await connected_socket(credentials.host, credentials.port, self._private, connecting)
        client.sock, client.port = sock, None
        try:
            await _step("connect", client.connect)
        except BaseException:
            sock.close()
            raise
        if credentials.tls == "starttls":
            await _step("tls", lambda: client.starttls(tls_context=self._context))
        if credentials.user:
            user, password = credentials.user, credentials.password.get_secret_value()
            await _step("login", lambda: client.login(user, password))

    async def _address(self, client: SMTP, message: Outgoing, size: int) -> None:
        sender, recipient = mailbox(self._credentials.from_address or message.sender), mailbox(message.recipient)
        assert sender is not None, "mail_of has looked at it"
        assert recipient is not None, "mail_of has looked at it"
        # RFC 1870: the server refuses a mail that is too large before it is sent.
        options = [f"SIZE={size}"] if client.supports_extension("size") else []
        encoding: Literal["ascii", "utf-8"] = "ascii"
        # A refusal because of letters in the recipient's address is not the channel's fault.
        step: Step = "sender" if recipient.addr_spec.isascii() else "recipient"
        if not (sender.addr_spec + recipient.addr_spec).isascii():
            if not client.supports_extension("smtputf8"):
                raise _Refused(RecipientInvalid("smtputf8", "the server takes no address with letters beyond ASCII"))
            options, encoding = [*options, "SMTPUTF8"], "utf-8"
        await _step(step, lambda: client.mail(sender.addr_spec, options=options, encoding=encoding))
        await _step("recipient", lambda: client.rcpt(recipient.addr_spec, encoding=encoding))

    def _remedy(self, outcome: Refusal) -> str:
        what = f"{outcome.code}: {outcome.detail}" if outcome.detail else outcome.code
        if isinstance(outcome, ChannelBroken):
            return f"{self._credentials.host} refuses ({what}): check user, password and tls"
        return f"{self._credentials.host} does not let us in now ({what}): try again later"


async def _step(step: Step, call: Callable[[], Awaitable[object]]) -> None:
    """One exchange with the server. Raises _Refused for a reply that settles the outcome, else the error itself."""
    try:
        await call()
    except SMTPResponseException as error:
        # 250 itself raises no error here, unless it was the reply to DATA, before the mail was sent.
        if step == "content" and 250 < error.code < 300:
            return
        raise _Refused(refusal(step, error.code, error.message)) from error
    except aiosmtplib.SMTPRecipientsRefused as error:
        raise _Refused(refusal(step, error.recipients[0].code, error.recipients[0].message)) from error
    except ssl.SSLError as error:
        raise _Refused(ChannelBroken("tls", scrub(str(error)))) from error
    except (aiosmtplib.SMTPConnectError, aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError) as error:
        if isinstance(error.__cause__, ssl.SSLError):
            raise _Refused(ChannelBroken("tls", scrub(str(error.__cause__)))) from error
        raise
    except SMTPException as error:  # no AUTH, no STARTTLS: the server lacks what the channel's settings demand
        if step == "content":
            raise
        raise _Refused(ChannelBroken(step, scrub(str(error)))) from error


def _lost(error: Exception, *, handed_over: bool) -> Refusal:
    """The class of a call without a reply: harmless before the mail left, unknown afterwards."""
    name = scrub(f"{type(error).__name__}: {error}")
    code = "timeout" if isinstance(error, (TimeoutError, aiosmtplib.SMTPTimeoutError)) else "connection"
    return Ambiguous(code, name) if handed_over else Unreachable(code, name)


async def _quit(client: SMTP) -> None:
    with contextlib.suppress(Exception):
        if client.is_connected:
            await client.quit(timeout=_QUIT_TIMEOUT)
    client.close()


def make_sender(credentials: str, *, private_hosts: str, timeout: float) -> EmailSender:
    """A sender for a channel's opened credentials, the JSON of EmailCredentials. Made inside a running loop.

    `private_hosts` are names and addresses, comma separated. Raises ValueError that names each wrong field, and none of
    their values.
    """
    opened = read_credentials(EmailCredentials, credentials, "e-mail")
    return EmailSender(opened, private_hosts=private_hosts, timeout=timeout)
