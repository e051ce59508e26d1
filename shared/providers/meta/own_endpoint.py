"""What a number's secrets mean for its endpoint: Meta verifies the URL by one, and signs with the other. No I/O.

They have the names of the documented table `whatsapp_settings`: `webhook_token` is the verify token, `api_key` the
secret of the number's app.
"""

from dataclasses import dataclass, field
from typing import Final

from shared.providers.own_endpoint import Secrets

APP_SECRETS: Final = 2  # the previous one stays valid while the secret is rotated at Meta


@dataclass(frozen=True, slots=True)
class NumberEndpoint:
    """The endpoint of a number's app: all numbers of one app share it."""

    verify_token: str = field(repr=False)
    app_secret: str = field(repr=False)

    def is_one_with(self, known: Secrets) -> bool:
        return self.app_secret in _app_secrets(known)

    def secrets(self, known: Secrets) -> Secrets:
        return {
            "app_secrets": list(dict.fromkeys([self.app_secret, *_app_secrets(known)]))[:APP_SECRETS],
            "verify_token": self.verify_token,
        }


def own_endpoint(secrets: Secrets) -> NumberEndpoint | None:
    """The endpoint for a number with these secrets; None where they don't suffice."""
    token, app_secret = secrets.get("webhook_token"), secrets.get("api_key")
    if not isinstance(token, str) or not isinstance(app_secret, str) or not token or not app_secret:
        return None
    return NumberEndpoint(token, app_secret)


def _app_secrets(known: Secrets) -> list[str]:
    every = known.get("app_secrets")
    return [str(one) for one in every] if isinstance(every, list) else []
