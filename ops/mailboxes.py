"""A mailbox as a channel: what sends from it, and the URL to which a mail service posts what comes in."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import ValidationError

from ops.errors import Problem
from shared import addresses
from shared.crypto import CryptoError, KeyRing
from shared.db import Connection, new_id
from shared.providers.email_send import EmailCredentials
from shared.store import endpoints
from shared.store.channels import Listed
from shared.store.endpoints import EndpointRow

KEPT_SECRETS = 2  # of an endpoint: the one before stays good until the new URL is entered
_PORTS: Mapping[str, int] = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True, slots=True)
class EmailAccount:
    """The SMTP login makes the calls; what comes in proves itself by the end of the URL, a secret of ours."""

    credentials: EmailCredentials
    business_id: str | None = None

    @classmethod
    def checked(
        cls, host: str, port: int | None, tls: str, user: str, password: str, from_address: str, from_name: str
    ) -> "EmailAccount":
        """Raises Problem that names each wrong field."""
        given = {
            "host": host.strip(),
            "port": port or _PORTS.get(tls, 587),
            "tls": tls,
            "user": user.strip(),
            "password": password,
            "from_address": mail_address(from_address, "--from-address") if from_address else "",
            "from_name": from_name,
        }
        try:
            return cls(EmailCredentials.model_validate(given))
        except ValidationError as error:
            fields = ", ".join(f"--smtp-{part['loc'][0]}: {part['msg']}" for part in error.errors())
            raise Problem(
                f"Wrong: {fields}.", "Your mail service's help names them, often under `SMTP` or `outgoing mail`."
            ) from None

    def sealed_for_calls(self, keys: KeyRing, tenant_id: UUID, channel_id: UUID) -> str:
        opened = self.credentials.model_dump(exclude={"password"})
        opened["password"] = self.credentials.password.get_secret_value()
        return keys.seal(json.dumps(opened), tenant_id=tenant_id, owner=channel_id)

    async def endpoint(self, connection: Connection, keys: KeyRing, own: Sequence[Listed], tenant_id: UUID) -> UUID:
        """One of its own: a mail that was forwarded to us does not say whose it was, but its URL does."""
        row = EndpointRow(new_id(), tenant_id, "email", "")
        await endpoints.add(connection, row._replace(secrets=_sealed(keys, row, [_new_secret()])))
        return row.id

    async def accept(self, connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
        """Nothing to do: who posts mails knows the URL, whatever the account is."""


def mail_address(given: str, option: str = "--address") -> str:
    """A mailbox's address, its domain in lower case. Raises Problem."""
    found = addresses.email(given)
    if found is None:
        raise Problem(f"{option}: {given!r} is no e-mail address.", "Write it as hello@example.com.")
    user, _, domain = found.given.rpartition("@")
    return f"{user}@{domain.lower()}"


def url_secret(keys: KeyRing, row: EndpointRow) -> str:
    """What the webhook URL ends with; empty where the endpoint's secrets don't open."""
    return next(iter(_secrets(keys, row)), "")


async def change_url(connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
    """Another secret at the end of the URL; the one before stays good until there is a third. Raises Problem."""
    row = {row.id: row for row in await endpoints.live(connection)}.get(endpoint_id)
    if row is None or row.provider != "email":
        raise Problem("This channel's URL holds no secret.", "Webhooks of its provider are signed.")
    known = [_new_secret(), *_secrets(keys, row)][:KEPT_SECRETS]
    await endpoints.set_secrets(connection, row.id, _sealed(keys, row, known))


def entered(url: str, address: str) -> list[str]:
    """What a person does at the mail service."""
    domain = address.rpartition("@")[2]
    return [
        "Enter at SendGrid, Settings → Inbound Parse → Add Host & URL (or at a service that posts mails in its form):",
        f"  Receiving domain: {domain}",
        "    (its MX record leads to mx.sendgrid.net; where your mail stays elsewhere, forward it to an address of a",
        "    domain that does)",
        "  Destination URL:",
        f"    {url}",
        "",
        "Whoever knows this URL can write to you as anybody: keep it secret. Another one:",
        "  ./palomar channels set CHANNEL --new-url",
    ]


def _new_secret() -> str:
    return secrets.token_urlsafe(24)


def _secrets(keys: KeyRing, row: EndpointRow) -> list[str]:
    try:
        opened = json.loads(keys.open(row.secrets, tenant_id=row.tenant_id, owner=row.id))
    except (CryptoError, ValueError):
        return []
    known = opened.get("url_secrets") if isinstance(opened, dict) else None
    return [str(one) for one in known] if isinstance(known, list) else []


def _sealed(keys: KeyRing, row: EndpointRow, known: Sequence[str]) -> str:
    return keys.seal(json.dumps({"url_secrets": list(known)}), tenant_id=row.tenant_id, owner=row.id)
