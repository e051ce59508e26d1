"""A made-up provider, as a folder of shared/providers would hold it: signed JSON comes in, and one POST goes out.

A test copies this file into a temporary folder, where it is found like the real ones.
"""

import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final

import aiohttp
import orjson
from pydantic import BaseModel, Field

from shared.domain import addresses
from shared.domain.model import InboundMessage, Outgoing, Receipt
from shared.providers.base import (
    Accepted,
    Ambiguous,
    Parsed,
    RawWebhook,
    RecipientInvalid,
    Refusal,
    Sender,
    SendResult,
    SentList,
)
from shared.providers.declaration import Provider
from shared.providers.webhook_spec import EndpointSecrets, WebhookSpec, is_json
from shared.settings import Settings


class PigeonSecrets(EndpointSecrets):
    EXAMPLE: ClassVar[str] = '{"seals": ["…"]}'

    seals: tuple[str, ...] = Field(min_length=1)

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        return self.seals


def signature(seal: str, body: bytes) -> str:
    return hmac.digest(seal.encode(), body, "sha256").hex()


def _verify(raw: RawWebhook, secrets: Sequence[str]) -> bool:
    claimed = raw.headers.get("x-pigeon-seal", "")
    return any(hmac.compare_digest(signature(seal, raw.body), claimed) for seal in secrets)


def _parse(raw: RawWebhook) -> Parsed:
    fields = orjson.loads(raw.body)
    if "status" in fields:
        return Parsed(receipts=(Receipt(external_id=fields["id"], status=fields["status"]),))
    sender = addresses.phone(fields["from"])
    assert sender is not None
    message = InboundMessage(
        external_id=fields["id"],
        channel_kind="sms",
        sender=(sender,),
        channel_address=fields["to"],
        message_type="text",
        text=fields["text"],
    )
    return Parsed(messages=(message,))


class _Credentials(BaseModel):
    api_url: str
    key: str


class _PigeonSender:
    def __init__(self, credentials: _Credentials) -> None:
        self._url = credentials.api_url
        self._session = aiohttp.ClientSession(headers={"Authorization": credentials.key})

    async def send(self, message: Outgoing) -> SendResult:
        letter = {"from": message.sender, "to": message.recipient, "text": message.text}
        async with self._session.post(self._url, json=letter) as answer:
            if answer.status != 200:
                return Ambiguous(str(answer.status))
            return Accepted((await answer.json())["id"])

    async def find(self, message: Outgoing, since: datetime) -> SentList | None:
        return None

    async def check(self, address: str) -> str | None:
        return None

    async def close(self) -> None:
        await self._session.close()


def _make_sender(credentials: str, settings: Settings) -> Sender:
    return _PigeonSender(_Credentials.model_validate_json(credentials))


def _error_class(code: str) -> type[Refusal] | None:
    return RecipientInvalid if code == "no_such_loft" else None


PROVIDER: Final = Provider(
    webhooks=WebhookSpec(
        verify=_verify,
        signature_hint="X-Pigeon-Seal must be made with one of the endpoint's seals",
        accepts=is_json,
        accepted_types="application/json",
    ),
    endpoint_secrets=PigeonSecrets,
    parse=_parse,
    make_sender=_make_sender,
    error_class=_error_class,
)
