"""Checks the URLs that clients give: https, and nothing of a private network."""

from ingress.api.call import Call
from ingress.api.problems import invalid
from shared.net import ssrf_guard


def checked(call: Call, given: str, *path: str | int) -> str:
    """The URL as it will be called. Raises the problem of one that may not be, which names the field at `path`.

    Only the text is looked at: what a name leads to is checked at each call.
    """
    remedy = "Give an https URL of a server in the public network."
    try:
        url = ssrf_guard.parsed(given)
        wrong = ssrf_guard.problem(url, call.settings.trusted_origins)
    except ValueError:
        raise invalid(path, "It is no URL.", remedy) from None
    if wrong is not None:
        raise invalid(path, f"{wrong[0].upper()}{wrong[1:]}.", remedy)
    return str(url)
