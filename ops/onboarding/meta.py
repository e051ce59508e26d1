"""Sets up a number at Meta. An app has one webhook URL for all tenants' numbers, so its endpoint has no tenant."""

from pydantic import SecretStr, ValidationError

from ops.errors import Problem
from ops.onboarding import base
from ops.onboarding.base import Given
from ops.onboarding.prompts import asked, chosen, secret
from shared.actions.channels import Account, Urls
from shared.domain.model import ChannelKind
from shared.providers.meta import onboarding
from shared.providers.meta.onboarding import MetaAccount
from shared.store.channels import Listed

CALLER = "Meta"


def address(given: Given, kind: ChannelKind) -> str:
    """The id of a phone number, which then is the channel's address."""
    with base.option("--phone-number-id"):
        return onboarding.address(asked("--phone-number-id", given.phone_number_id, "Phone number id"), kind)


def account(given: Given) -> Account:
    """Raises Problem that names the field and where Meta shows it."""
    business_id = asked("--account-id", given.account_id, "WhatsApp Business Account id").strip()
    access_token = secret("META_ACCESS_TOKEN", "Access token")
    app_secret = secret("META_APP_SECRET", "App secret")
    verify_token = chosen("META_VERIFY_TOKEN", "Verify token (empty: the one there is, or a new one)")
    try:
        return MetaAccount(
            business_id=business_id,
            access_token=SecretStr(access_token),
            app_secret=SecretStr(app_secret),
            verify_token=SecretStr(verify_token) if verify_token else None,
        )
    except ValidationError as error:
        wrong = base.fields(error)
        if "business_id" in wrong:
            raise Problem(
                "--account-id is no WhatsApp Business Account's id.", "It is digits; WhatsApp → API Setup."
            ) from None
        raise Problem(
            f"Wrong: {wrong[0].replace('_', ' ')}.",
            "The token of a system user: Business settings → System users. The secret: App settings → Basic.",
        ) from None


def entered(_: Listed, urls: Urls, verify_token: str) -> list[str]:
    return [
        "Enter at Meta, in the app: WhatsApp → Configuration → Webhook → Edit:",
        "  Callback URL:",
        f"    {urls.messages}",
        "  Verify token:",
        f"    {verify_token}",
        "",
        "Subscribe there to: messages, user_preferences, account_update, message_template_status_update,",
        "template_category_update; where people also write in the WhatsApp Business app, smb_message_echoes too.",
        "All numbers of the app, of whatever tenant, share this URL.",
    ]
