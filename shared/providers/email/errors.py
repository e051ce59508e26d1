"""Classifies an SMTP server's replies by code and step: RFC 5321 §4.2 (replies), RFC 3463 (enhanced codes).

A 4xx or 5xx at any step means that the mail was not accepted. The outcome is unknown only where no reply follows the
mail's last line.
"""

import re
from typing import Final, Literal

from shared.domain import addresses
from shared.providers.base import (
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    OptedOut,
    RecipientInvalid,
    Refusal,
    Throttled,
    Unreachable,
)
from shared.providers.email.bounces import COMPLAINT
from shared.providers.email.unsubscribe import CODE as UNSUBSCRIBED

Step = Literal["connect", "tls", "login", "sender", "recipient", "content"]

_LONGEST_DETAIL = 300  # characters
_ENHANCED: Final = re.compile(r"\b[245]\.(\d{1,3})\.\d{1,3}\b")
_RELAY: Final = re.compile(r"\brelay(ing)?\b", re.I)
# Marks of a reply of the recipient's own server, which ours quotes.
_OF_ANOTHER: Final = re.compile(r"\b5\.1\.\d|\bsaid:|\bremote (server|host)\b", re.I)
# Replies about the account, at any step: no login, a login without permission, no encryption.
_OF_ACCOUNT: Final = frozenset((523, 530, 534, 535, 538))
_ENHANCED_CLASSES: Final[dict[str, type[Refusal]]] = {"1": RecipientInvalid, "6": ContentRejected, "3": ContentRejected}


def refusal(step: Step, code: int, text: str) -> Refusal:
    """The class of an unsuccessful reply. One that is neither 4xx nor 5xx is no SMTP."""
    name, detail = str(code), scrub(text)
    if 400 <= code < 500:
        # A filter that defers a mail's content defers only this mail. 421 is about the connection, so about all mails.
        one = step == "recipient" or (step == "content" and code != 421)
        return Throttled(name, None, detail, "message" if one else "channel")
    if not 500 <= code < 600:
        return Ambiguous(name, detail) if step == "content" else Unreachable(name, detail)
    if code in _OF_ACCOUNT or step in ("connect", "tls", "login"):
        return ChannelBroken(name, detail)
    if step == "recipient":
        if _RELAY.search(text) and not _OF_ANOTHER.search(text):  # it accepts no mail of ours: a login is missing
            return ChannelBroken(name, detail)
        return RecipientInvalid(name, detail)
    if step == "sender":
        return ContentRejected(name, detail) if code == 552 else ChannelBroken(name, detail)
    enhanced = _ENHANCED.search(text)
    return RecipientInvalid(name, detail) if enhanced and enhanced[1] == "1" else ContentRejected(name, detail)


def error_class(code: str) -> type[Refusal] | None:
    """The class of a receipt's code: a bounce's status (RFC 3463: `5.1.1`), a complaint, or an unsubscription.

    None for an unknown code.
    """
    if code in (COMPLAINT, UNSUBSCRIBED):
        return OptedOut
    kind, _, rest = code.partition(".")
    if kind != "5":
        return None
    return _ENHANCED_CLASSES.get(rest.partition(".")[0]) or (RecipientInvalid if rest in _OF_MAILBOX else None)


def retryable(code: str) -> bool:
    """Whether a new attempt makes sense for a mail that failed with this code, as `Provider.retryable` says.

    A 4xx reply or a bounce `4.…` reports what passes, and so does a full mailbox (5.2.2). An operator can repair the
    account, and our connection to its server.
    """
    passing = code[:1] == "4" and (code[1:2] == "." or (len(code) == 3 and code.isdecimal()))
    return passing or code in _REPAIRABLE


_REPAIRABLE: Final = frozenset(("5.2.2", "connection", "timeout", "tls", "private_host", *map(str, _OF_ACCOUNT)))
_OF_MAILBOX: Final = frozenset(("2.0", "2.1", "4.1", "4.4"))  # disabled, or without a server that accepts its mail


def scrub(text: str) -> str:
    """A server's sentence for the log and the database, on one line with addresses masked."""
    hidden = re.sub(r"([^\s<>@]{1,64})@", lambda found: f"{addresses.mask(found[1])}@", text[: 4 * _LONGEST_DETAIL])
    return " ".join(hidden.encode("utf-8", "replace").decode().replace("\0", "").split())[:_LONGEST_DETAIL]
