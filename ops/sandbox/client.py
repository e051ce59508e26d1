"""A typed client of the sandbox's control API, for `palomar say`, the tests and the benches."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import orjson
from pydantic import TypeAdapter

from ops.sandbox.client_meta import MetaControls
from ops.sandbox.client_session import SandboxError
from ops.sandbox.observations import (
    CustomerAnswer,
    SeenCompletion,
    SeenFetch,
    SeenFile,
    SeenMessage,
    SeenReport,
    SeenSend,
    SendSummary,
    Shape,
    StandingFault,
)

__all__ = ["SandboxClient", "SandboxError"]


class _Waited(Shape):
    reached: bool
    messages: tuple[SeenMessage, ...]


class _Ids(Shape):
    ids: tuple[str, ...]


class _Smtp(Shape):
    smtp_port: int


_MESSAGES = TypeAdapter(tuple[SeenMessage, ...])
_REPORTS = TypeAdapter(tuple[SeenReport, ...])
_COMPLETIONS = TypeAdapter(tuple[SeenCompletion, ...])
_FILE = TypeAdapter(SeenFile)
_FETCHES = TypeAdapter(tuple[SeenFetch, ...])
_FAULTS = TypeAdapter(tuple[StandingFault, ...])
_WAITED = TypeAdapter(_Waited)
_CUSTOMER = TypeAdapter(CustomerAnswer)
_IDS = TypeAdapter(_Ids)
_SMTP = TypeAdapter(_Smtp)


class SandboxClient(MetaControls):
    """`async with SandboxClient("http://127.0.0.1:4010") as sandbox: …`. Every method may raise SandboxError."""

    async def customer(
        self,
        *,
        sender: str,
        to: str,
        webhook_url: str,
        text: str = "",
        account: str | None = None,
        profile_name: str | None = None,
        media: Sequence[tuple[str, str]] = (),
        message_sid: str | None = None,
        times: int = 1,
        extra: Mapping[str, str | None] | None = None,
    ) -> CustomerAnswer:
        """Let a customer write: a signed inbound webhook to `webhook_url`, `times` times at once.

        `media` are pairs of URL and content type. Returns once every webhook was answered or given up (15 s).
        """
        said: dict[str, object] = {
            "from": sender,
            "to": to,
            "text": text,
            "webhook_url": webhook_url,
            "profile_name": profile_name,
            "media": media,
            "message_sid": message_sid,
            "times": times,
            "extra": extra or {},
        }
        if account is not None:
            said["account"] = account
        return _CUSTOMER.validate_json(await self._call("POST", "customer", body=said))

    async def email_customer(
        self,
        *,
        sender: str,
        webhook_url: str,
        to: str | None = None,
        subject: str = "Consulta",
        text: str = "",
        html: str = "",
        message_id: str | None = None,
        times: int = 1,
        headers: Mapping[str, str | None] | None = None,
    ) -> CustomerAnswer:
        """Let a customer write a mail, which a service posts to `webhook_url`. `headers` changes the mail's.

        Returns once every webhook was answered or given up (15 s).
        """
        said: dict[str, object] = {
            "from": sender,
            "subject": subject,
            "text": text,
            "html": html,
            "webhook_url": webhook_url,
            "message_id": message_id,
            "times": times,
            "headers": headers or {},
        }
        if to is not None:
            said["to"] = to
        return _CUSTOMER.validate_json(await self._call("POST", "email/customer", body=said))

    async def email_bounce(self, message_id: str, *, webhook_url: str, **report: str) -> CustomerAnswer:
        """Let a mail of ours come back; `report` may change `code` and `diagnostic`."""
        said = {"message_id": message_id, "webhook_url": webhook_url, **report}
        return _CUSTOMER.validate_json(await self._call("POST", "email/bounce", body=said))

    async def smtp_port(self) -> int:
        """Where the sandbox takes mails."""
        return _SMTP.validate_json(await self._call("GET", "email")).smtp_port

    async def media(self, provider: str, **fields: object) -> SeenFile:
        """A file that a customer may send: `customer(media=[(file.url, file.mime_type)])`, or for Meta in the message's
        `image`; fields of `ops.sandbox.media.NewFile`."""
        return _FILE.validate_json(await self._call("POST", "media", body={"provider": provider, **fields}))

    async def fetches(self, file: SeenFile) -> tuple[SeenFetch, ...]:
        """The calls for the file, in order."""
        return _FETCHES.validate_json(await self._call("GET", f"media/{file.id}/calls"))

    async def kommo_says(
        self, who: Literal["customer", "manager"], *, chat_id: str, webhook_url: str, text: str = "", **more: object
    ) -> CustomerAnswer:
        """Let a customer or a manager write in a chat of Kommo's; fields of `ops.sandbox.kommo.Says`.

        Returns once every webhook was answered or given up (15 s).
        """
        said = {"chat_id": chat_id, "webhook_url": webhook_url, "text": text, **more}
        return _CUSTOMER.validate_json(await self._call("POST", f"kommo/{who}", body=said))

    async def kommo_reports(self) -> tuple[SeenReport, ...]:
        """Delivery statuses of all of Kommo's channels in order of arrival, refused ones too."""
        return _REPORTS.validate_json(await self._call("GET", "kommo/reports"))

    async def kommo_channel(self, scope_id: str, **fields: object) -> None:
        """Add a channel of Kommo's, or change it; fields of `ops.sandbox.kommo.KommoChannel`."""
        await self._call("POST", "kommo/channels", body={"scope_id": scope_id, **fields})

    async def messages(
        self, *, to: str | None = None, sender: str | None = None, account: str | None = None, since: int = 0
    ) -> tuple[SeenMessage, ...]:
        """Messages in order of arrival, refused and dropped ones too; `since` is the last `seq` already known."""
        query = {"to": to, "from": sender, "account": account, "since": since}
        return _MESSAGES.validate_json(await self._call("GET", "messages", query=query))

    async def wait(
        self, *, to: str | None = None, count: int = 1, within: float = 10.0, since: int = 0
    ) -> tuple[SeenMessage, ...]:
        """The accepted messages to `to` (None: to anybody), once there are `count`.

        Raises TimeoutError after `within` seconds, saying how many there were.
        """
        query = {"to": to, "count": count, "timeout": within, "since": since}
        waited = _WAITED.validate_json(await self._call("GET", "wait", query=query))
        if not waited.reached:
            raise TimeoutError(f"{len(waited.messages)} of {count} messages after {within:g} s")
        return waited.messages

    async def sends(self, *, since: int = 0) -> list[SeenSend]:
        """Every call that sends a message, from the place `since` on; refused and dropped ones too. 100,000 take some
        0.5 s."""
        found: list[SeenSend] = []
        more = True
        while more:
            page = orjson.loads(await self._call("GET", "sends", query={"since": since}))
            found += itertools.starmap(SeenSend, page["sends"])
            since, more = page["next"], page["more"]
        return found

    async def send_summary(self, *, since: int = 0) -> SendSummary:
        """How many messages were accepted, for how many recipients, and what came twice; `next` is the `since` of the
        calls to come."""
        return SendSummary.model_validate_json(await self._call("GET", "sends/summary", query={"since": since}))

    async def keep(self, messages: int) -> None:
        """Remember so many of the newest messages and no more. `sends` still has a line of each."""
        await self._call("POST", "keep", body={"messages": messages})

    async def clear(self) -> None:
        """Forget messages, completions and which customers wrote; faults and accounts stay."""
        await self._call("DELETE", "messages")

    async def completions(self) -> tuple[SeenCompletion, ...]:
        """What the model was asked, in order of arrival."""
        return _COMPLETIONS.validate_json(await self._call("GET", "completions"))

    async def faults(self, *rules: Mapping[str, object]) -> tuple[str, ...]:
        """Add rules of `ops.sandbox.faults`, as JSON objects; their ids."""
        return _IDS.validate_json(await self._call("POST", "faults", body=rules)).ids

    async def standing_faults(self) -> tuple[StandingFault, ...]:
        return _FAULTS.validate_json(await self._call("GET", "faults"))

    async def clear_faults(self) -> None:
        await self._call("DELETE", "faults")

    async def account(
        self,
        sid: str,
        token: str,
        *,
        enforce_window: bool = False,
        window_by: str = "receipt",
        window_seconds: float = 86_400.0,
    ) -> None:
        """Add a Twilio account, or change it. A strict one refuses free-form WhatsApp outside the window with 63016."""
        await self._call(
            "POST",
            "accounts",
            body={
                "sid": sid,
                "token": token,
                "enforce_window": enforce_window,
                "window_by": window_by,
                "window_seconds": window_seconds,
            },
        )
