"""An operator's account at a provider: what a channel calls with, and whose webhooks its endpoint lets in.

A Twilio account's endpoint is its tenant's. A Meta app has one webhook URL for all its numbers, whoever's they are, so
its endpoint belongs to no tenant.
"""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import orjson
from pydantic import SecretStr, ValidationError

from ops.errors import Problem
from shared.crypto import CryptoError, KeyRing
from shared.db import Connection, new_id
from shared.providers.kommo_send import KommoCredentials
from shared.providers.meta_send import MetaCredentials
from shared.providers.twilio_send import TwilioCredentials
from shared.store import endpoints
from shared.store.channels import Listed
from shared.store.endpoints import EndpointRow

KEPT_SECRETS = 2  # of an endpoint: the one before stays good while it is being rotated


class Account(Protocol):
    """What a channel is made with."""

    @property
    def business_id(self) -> str | None:
        """What the provider calls the account that the number belongs to, where it is kept with the channel."""
        ...

    def sealed_for_calls(self, keys: KeyRing, tenant_id: UUID, channel_id: UUID) -> str:
        """The channel's credentials."""
        ...

    async def endpoint(self, connection: Connection, keys: KeyRing, own: Sequence[Listed], tenant_id: UUID) -> UUID:
        """The endpoint this account has already (`own`: the tenant's channels), letting its secret in; or a new one."""
        ...

    async def accept(self, connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
        """Let webhooks signed with this account's secret in at an endpoint."""
        ...


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """The auth token both makes calls and signs webhooks."""

    sid: str
    token: SecretStr
    business_id: str | None = None

    @classmethod
    def checked(cls, sid: str, token: str) -> "TwilioAccount":
        """Raises Problem that names the field and where Twilio shows it."""
        try:
            TwilioCredentials(account_sid=sid, auth_token=SecretStr(token))
        except ValidationError as error:
            fields = " and ".join(str(part["loc"][0]) for part in error.errors())
            raise Problem(
                f"Wrong: {fields}.", "Both stand on the first page of Twilio's console; an account SID begins with AC."
            ) from None
        return cls(sid, SecretStr(token))

    def sealed_for_calls(self, keys: KeyRing, tenant_id: UUID, channel_id: UUID) -> str:
        opened = {"account_sid": self.sid, "auth_token": self.token.get_secret_value()}
        return keys.seal(json.dumps(opened), tenant_id=tenant_id, owner=channel_id)

    async def endpoint(self, connection: Connection, keys: KeyRing, own: Sequence[Listed], tenant_id: UUID) -> UUID:
        for channel in own:
            if channel.endpoint_id is not None and _twilio_sid(keys, channel) == self.sid:
                await self.accept(connection, keys, channel.endpoint_id)
                return channel.endpoint_id
        row = EndpointRow(new_id(), tenant_id, "twilio", "")
        opened = {"auth_tokens": [self.token.get_secret_value()]}
        await endpoints.add(connection, row._replace(secrets=_sealed(keys, row, opened)))
        return row.id

    async def accept(self, connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
        row = {row.id: row for row in await endpoints.live(connection)}.get(endpoint_id)
        if row is not None:
            known = _texts(_opened(keys, row).get("auth_tokens"))
            if known[:1] != [self.token.get_secret_value()]:
                tokens = _first(self.token, known)
                await endpoints.set_secrets(connection, row.id, _sealed(keys, row, {"auth_tokens": tokens}))


def _twilio_sid(keys: KeyRing, channel: Listed) -> str | None:
    """The account of a channel; None where its credentials don't open, or are not Twilio's."""
    try:
        opened = keys.open(channel.credentials, tenant_id=channel.tenant_id, owner=channel.id)
        return TwilioCredentials.model_validate_json(opened).account_sid
    except (CryptoError, ValidationError):
        return None


@dataclass(frozen=True, slots=True)
class MetaAccount:
    """The access token makes the calls, the app's secret signs webhooks, the verify token says that the URL is ours."""

    business_id: str | None
    access_token: SecretStr
    app_secret: SecretStr
    verify_token: SecretStr | None = None  # None: the endpoint's, or a new one

    @classmethod
    def checked(cls, business_id: str, access_token: str, app_secret: str, verify_token: str) -> "MetaAccount":
        """Raises Problem that names the field and where Meta shows it."""
        if not (business_id.isascii() and business_id.isdigit()):
            raise Problem("--account-id is no WhatsApp Business Account's id.", "It is digits; WhatsApp → API Setup.")
        for name, given in (("access token", access_token), ("app secret", app_secret)):
            if not given or not given.isascii() or not given.isprintable() or " " in given:
                raise Problem(
                    f"Wrong: {name}.",
                    "The token of a system user: Business settings → System users. The secret: App settings → Basic.",
                )
        MetaCredentials(access_token=SecretStr(access_token))
        return cls(
            business_id,
            SecretStr(access_token),
            SecretStr(app_secret),
            SecretStr(verify_token) if verify_token else None,
        )

    def sealed_for_calls(self, keys: KeyRing, tenant_id: UUID, channel_id: UUID) -> str:
        opened = {"access_token": self.access_token.get_secret_value()}
        return keys.seal(json.dumps(opened), tenant_id=tenant_id, owner=channel_id)

    async def endpoint(self, connection: Connection, keys: KeyRing, own: Sequence[Listed], tenant_id: UUID) -> UUID:
        for row in await endpoints.live(connection):
            ours = row.provider == "meta" and row.tenant_id in (None, tenant_id)
            if ours and self.app_secret.get_secret_value() in _texts(_opened(keys, row).get("app_secrets")):
                await self.accept(connection, keys, row.id)
                return row.id
        row = EndpointRow(new_id(), None, "meta", "")
        opened = {"app_secrets": [self.app_secret.get_secret_value()], "verify_token": self._verify_token()}
        await endpoints.add(connection, row._replace(secrets=_sealed(keys, row, opened)))
        return row.id

    async def accept(self, connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
        row = {row.id: row for row in await endpoints.live(connection)}.get(endpoint_id)
        if row is not None:
            known = _opened(keys, row)
            changed = {
                "app_secrets": _first(self.app_secret, _texts(known.get("app_secrets"))),
                "verify_token": self._verify_token(known.get("verify_token")),
            }
            if changed != known:
                await endpoints.set_secrets(connection, row.id, _sealed(keys, row, changed))

    def _verify_token(self, known: object = None) -> str:
        if self.verify_token is not None:
            return self.verify_token.get_secret_value()
        return known if isinstance(known, str) and known else secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class KommoAccount:
    """The channel's secret makes the calls and signs the Chats API's webhooks; that of the URL lets CRM webhooks in."""

    secret: SecretStr
    bot_id: str
    business_id: str | None = None

    @classmethod
    def checked(cls, secret: str, bot_id: str) -> "KommoAccount":
        """Raises Problem that names the field and where Kommo shows it."""
        try:
            KommoCredentials(secret=SecretStr(secret), bot_id=bot_id)
        except ValidationError as error:
            fields = " and ".join(str(part["loc"][0]) for part in error.errors())
            raise Problem(f"Wrong: {fields}.", "Kommo's support sends both when it registers your channel.") from None
        return cls(SecretStr(secret), bot_id)

    def sealed_for_calls(self, keys: KeyRing, tenant_id: UUID, channel_id: UUID) -> str:
        opened = {"secret": self.secret.get_secret_value(), "bot_id": self.bot_id}
        return keys.seal(json.dumps(opened), tenant_id=tenant_id, owner=channel_id)

    async def endpoint(self, connection: Connection, keys: KeyRing, own: Sequence[Listed], tenant_id: UUID) -> UUID:
        """Always a new one: CRM webhooks don't say which channel they are about, so each channel has its own URL."""
        row = EndpointRow(new_id(), tenant_id, "kommo", "")
        opened = {"channel_secrets": [self.secret.get_secret_value()], "url_secrets": [secrets.token_urlsafe(24)]}
        await endpoints.add(connection, row._replace(secrets=_sealed(keys, row, opened)))
        return row.id

    async def accept(self, connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
        row = {row.id: row for row in await endpoints.live(connection)}.get(endpoint_id)
        if row is not None:
            known = _opened(keys, row)
            changed = {
                "channel_secrets": _first(self.secret, _texts(known.get("channel_secrets"))),
                "url_secrets": _texts(known.get("url_secrets")) or [secrets.token_urlsafe(24)],
            }
            if changed != known:
                await endpoints.set_secrets(connection, row.id, _sealed(keys, row, changed))


def verify_token(keys: KeyRing, row: EndpointRow) -> str:
    """What is entered at Meta beside the webhook URL; empty where the endpoint's secrets don't open."""
    told = _opened(keys, row).get("verify_token")
    return told if isinstance(told, str) else ""


def _opened(keys: KeyRing, row: EndpointRow) -> dict[str, object]:
    """An endpoint's secrets; none where they don't open."""
    try:
        opened = orjson.loads(keys.open(row.secrets, tenant_id=row.tenant_id, owner=row.id))
    except (CryptoError, orjson.JSONDecodeError):
        return {}
    return opened if isinstance(opened, dict) else {}


def _sealed(keys: KeyRing, row: EndpointRow, opened: Mapping[str, object]) -> str:
    return keys.seal(json.dumps(dict(opened)), tenant_id=row.tenant_id, owner=row.id)


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _first(secret: SecretStr, known: Iterable[str]) -> list[str]:
    """This secret, then the one before it."""
    return list(dict.fromkeys([secret.get_secret_value(), *known]))[:KEPT_SECRETS]
