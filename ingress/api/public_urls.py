"""Checks the URLs that clients give: https, and nothing of a private network."""

from ingress.api.problems import invalid
from shared.net.address_rules import Rules, parsed
from shared.settings import Settings


def checked(settings: Settings, given: str, *path: str | int) -> str:
    """The URL as it will be called. Raises the problem of one that may not be, which names the field at `path`.

    Only the text is looked at: what a name leads to is checked at each call.
    """
    return _checked(Rules(settings.trusted_origins), given, path)


def of_webhook(settings: Settings, given: str, *path: str | int) -> str:
    """The URL of a tenant's own system, checked as the guard of deliveries has it. Raises as `checked`."""
    return _checked(settings.webhook_rules, given, path)


def _checked(rules: Rules, given: str, path: tuple[str | int, ...]) -> str:
    remedy = "Give an https URL of a server in the public network."
    try:
        url = parsed(given)
        wrong = rules.problem(url)
    except ValueError:
        raise invalid(path, "It is no URL.", remedy) from None
    if wrong is not None:
        raise invalid(path, f"{wrong[0].upper()}{wrong[1:]}.", remedy)
    return str(url)
