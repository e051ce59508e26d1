"""Sets up a mailbox: the SMTP login that sends, and the URL to which a mail service posts what comes in."""

from pydantic import ValidationError

from ops.errors import Problem
from ops.onboarding import base
from ops.onboarding.base import Given
from ops.onboarding.prompts import asked, secret
from shared.actions.channels import Account, Urls
from shared.domain.model import ChannelKind
from shared.providers.email import onboarding
from shared.providers.email.onboarding import EmailAccount
from shared.store.channels import Listed

CALLER = "the mail service"


def address(given: Given, _: ChannelKind) -> str:
    return _mail_address(asked("--address", given.address, "E-mail address, such as hello@example.com"), "--address")


def _mail_address(given: str, option: str) -> str:
    """A mailbox's address. Raises Problem."""
    with base.option(option):
        return onboarding.address(given, "email")


def account(given: Given) -> Account:
    """Raises Problem that names each wrong field."""
    host = asked("--smtp-host", given.smtp_host, "SMTP server, such as smtp.sendgrid.net")
    user = asked("--smtp-user", given.smtp_user, "SMTP user").strip()
    fields = {
        "host": host.strip(),
        "port": given.smtp_port,
        "tls": given.smtp_tls,
        "user": user,
        "password": secret("SMTP_PASSWORD", "SMTP password"),
        "from_address": _mail_address(given.from_address, "--from-address") if given.from_address else "",
        "from_name": given.from_name,
    }
    try:
        return EmailAccount.model_validate(fields)
    except ValidationError as error:
        wrong = ", ".join(f"--smtp-{part['loc'][0]}: {part['msg']}" for part in error.errors())
        raise Problem(
            f"Wrong: {wrong}.", "Your mail service's help names them, often under `SMTP` or `outgoing mail`."
        ) from None


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
