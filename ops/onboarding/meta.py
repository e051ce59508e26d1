"""Sets up a number at Meta. An app has one webhook URL for all tenants' numbers, so its endpoint has no tenant."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from pydantic import SecretStr

from ops.errors import Problem
from ops.onboarding import endpoint_secrets
from ops.onboarding.base import Given, Urls
from ops.onboarding.prompts import asked, chosen, secret
from shared.crypto import KeyRing
from shared.database import Connection, new_id
from shared.domain.model import ChannelKind
from shared.providers.meta.send import MetaCredentials
from shared.store import endpoints
from shared.store.channels import Listed
from shared.store.endpoints import EndpointRow

KINDS: tuple[ChannelKind, ...] = ("whatsapp",)
CALLER = "Meta"
URL_HOLDS_SECRET = False


def address(given: Given, _: ChannelKind) -> str:
    """The id of a phone number, which then is the channel's address."""
    number_id = asked("--phone-number-id", given.phone_number_id, "Phone number id").strip()
    if not (number_id.isascii() and number_id.isdigit() and 5 <= len(number_id) <= 20):
        raise Problem(
            f"--phone-number-id: {number_id!r} is none.",
            "It is digits, and not the number itself: WhatsApp → API Setup shows both.",
        )
    return number_id


def account(given: Given) -> "MetaAccount":
    business_id = asked("--account-id", given.account_id, "WhatsApp Business Account id").strip()
    access_token = secret("META_ACCESS_TOKEN", "Access token")
    app_secret = secret("META_APP_SECRET", "App secret")
    verify_token = chosen("META_VERIFY_TOKEN", "Verify token (empty: the one there is, or a new one)")
    return MetaAccount.checked(business_id, access_token, app_secret, verify_token)


@dataclass(frozen=True, slots=True)
class MetaAccount:
    """The access token makes the calls, the app's secret signs webhooks, the verify token says that the URL is ours."""

    business_id: str | None
    access_token: SecretStr
    app_secret: SecretStr
    verify_token: SecretStr | None = None  # None: the endpoint's, or a new one
    settings: ClassVar[Mapping[str, object]] = {}

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
        app_secret = self.app_secret.get_secret_value()
        for row in await endpoints.live(connection):
            ours = row.provider == "meta" and row.tenant_id in (None, tenant_id)
            known = endpoint_secrets.opened(keys, row) if ours else {}
            if app_secret in endpoint_secrets.texts(known.get("app_secrets")):
                await self.accept(connection, keys, row.id)
                return row.id
        row = EndpointRow(new_id(), None, "meta", "")
        opened = {"app_secrets": [app_secret], "verify_token": self._verify_token()}
        await endpoints.add(connection, row._replace(secrets=endpoint_secrets.sealed(keys, row, opened)))
        return row.id

    async def accept(self, connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
        row = {row.id: row for row in await endpoints.live(connection)}.get(endpoint_id)
        if row is not None:
            known = endpoint_secrets.opened(keys, row)
            before = endpoint_secrets.texts(known.get("app_secrets"))
            changed = {
                "app_secrets": endpoint_secrets.newest_first(self.app_secret.get_secret_value(), before),
                "verify_token": self._verify_token(known.get("verify_token")),
            }
            if changed != known:
                await endpoints.set_secrets(connection, row.id, endpoint_secrets.sealed(keys, row, changed))

    def _verify_token(self, known: object = None) -> str:
        if self.verify_token is not None:
            return self.verify_token.get_secret_value()
        return known if isinstance(known, str) and known else endpoint_secrets.new()


def urls(base: str, _: str) -> Urls:
    return Urls(base, None)


def entered_secret(keys: KeyRing, row: EndpointRow) -> str:
    """The verify token."""
    token = endpoint_secrets.opened(keys, row).get("verify_token")
    return token if isinstance(token, str) else ""


def entered(_: Listed, urls: Urls, verify_token: str) -> list[str]:
    return [
        "Enter at Meta, in the app: WhatsApp → Configuration → Webhook → Edit:",
        "  Callback URL:",
        f"    {urls.messages}",
        "  Verify token:",
        f"    {verify_token}",
        "",
        "Subscribe there to: messages, user_preferences, account_update, message_template_status_update;",
        "where people also write in the WhatsApp Business app, to smb_message_echoes too.",
        "All numbers of the app, of whatever tenant, share this URL.",
    ]
