"""Sets up a mailbox: the SMTP login that sends, and the URL to which a mail service posts what comes in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from pydantic import ValidationError

from ops.errors import Problem
from ops.onboarding import endpoint_secrets
from ops.onboarding.base import Given, Urls
from ops.onboarding.prompts import asked, secret
from shared.crypto import KeyRing
from shared.database import Connection, new_id
from shared.domain import addresses
from shared.domain.model import ChannelKind
from shared.providers.email.send import EmailCredentials
from shared.store import endpoints
from shared.store.channels import Listed
from shared.store.endpoints import EndpointRow

KINDS: tuple[ChannelKind, ...] = ("email",)
CALLER = "the mail service"
URL_HOLDS_SECRET = True

_PORTS: Mapping[str, int] = {"starttls": 587, "tls": 465, "none": 25}


def address(given: Given, _: ChannelKind) -> str:
    return _mail_address(asked("--address", given.address, "E-mail address, such as hello@example.com"), "--address")


def _mail_address(given: str, option: str) -> str:
    """A mailbox's address, its domain in lower case. Raises Problem."""
    found = addresses.email(given)
    if found is None:
        raise Problem(f"{option}: {given!r} is no e-mail address.", "Write it as hello@example.com.")
    user, _, domain = found.given.rpartition("@")
    return f"{user}@{domain.lower()}"


def account(given: Given) -> "EmailAccount":
    host = asked("--smtp-host", given.smtp_host, "SMTP server, such as smtp.sendgrid.net")
    user = asked("--smtp-user", given.smtp_user, "SMTP user").strip()
    password = secret("SMTP_PASSWORD", "SMTP password")
    return EmailAccount.checked(
        host, given.smtp_port, given.smtp_tls, user, password, given.from_address, given.from_name
    )


@dataclass(frozen=True, slots=True)
class EmailAccount:
    """The SMTP login makes the calls; what comes in proves itself by the end of the URL, a secret of ours."""

    credentials: EmailCredentials
    business_id: str | None = None
    settings: ClassVar[Mapping[str, object]] = {}

    @classmethod
    def checked(
        cls, host: str, port: int | None, tls: str, user: str, password: str, from_address: str, from_name: str
    ) -> "EmailAccount":
        """Raises Problem that names each wrong field."""
        given = {
            "host": host.strip(),
            "port": _PORTS.get(tls, 587) if port is None else port,
            "tls": tls,
            "user": user.strip(),
            "password": password,
            "from_address": _mail_address(from_address, "--from-address") if from_address else "",
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
        opened = {"url_secrets": [endpoint_secrets.new()]}
        await endpoints.add(connection, row._replace(secrets=endpoint_secrets.sealed(keys, row, opened)))
        return row.id

    async def accept(self, connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
        """Nothing to do: the secret is in the URL, and does not depend on the account."""


def urls(base: str, secret: str) -> Urls:
    return Urls(f"{base}/{endpoint_secrets.ending(secret)}", None)


def entered_secret(keys: KeyRing, row: EndpointRow) -> str:
    return endpoint_secrets.in_url(keys, row)


def entered(channel: Listed, urls: Urls, _: str) -> list[str]:
    domain = channel.address.rpartition("@")[2]
    return [
        "Enter at SendGrid, Settings → Inbound Parse → Add Host & URL (or at a service that posts mails in its form):",
        f"  Receiving domain: {domain}",
        "    (its MX record leads to mx.sendgrid.net; where your mail stays elsewhere, forward it to an address of a",
        "    domain that does)",
        "  Destination URL:",
        f"    {urls.messages}",
        "",
        "Keep this URL secret: it lets anyone write to you under any name. For another one:",
        "  ./palomar channels set CHANNEL --new-url",
    ]
