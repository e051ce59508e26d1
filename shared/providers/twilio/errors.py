"""Classifies Twilio's errors: error code and HTTP status → one class of the closed set. No I/O.

Codes: https://www.twilio.com/docs/api/errors. The answer to a send and a status callback have the same codes.
"""

import re

from shared.domain import addresses
from shared.providers.base import (
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    OptedOut,
    RecipientInvalid,
    Refusal,
    Throttled,
    WindowClosed,
)
from shared.providers.http_outcomes import LONGEST_DETAIL, PASSING, Answer, class_table

# Full queues and outages of a provider last minutes, longer than the first steps of our own backoff.
LONGER_WAIT = 60.0
# Meta's limit on marketing messages per person: "wait at least 24 hours". Meta sends none at all to US numbers.
MARKETING_WAIT = 25 * 3600.0
MARKETING_LIMIT = "63049"


_THROTTLED_LONGER = "63018 14107 21611 30001 30022 30017 63009 63010 63012 63017"
_CLASS_OF: dict[str, type[Refusal]] = class_table(
    (
        (Throttled, "429 20429"),
        (Throttled, _THROTTLED_LONGER),
        (Throttled, MARKETING_LIMIT),
        (WindowClosed, "63016"),
        (OptedOut, "21610 63014 63033"),
        (RecipientInvalid, "21211 21614 21612 30005 30006 63003 63024 63032"),
        (ChannelBroken, "20003 21606 21408 21656 30002 63005 63007 63013 63021 63027 63028 63040 63041 63062"),
        (ContentRejected, "30004 30007"),
    )
)
# Configuration that concerns only messages like this one: a region without permission, a template and its variables.
# The channel's other messages go on.
_OF_MESSAGE = frozenset(["21408", "21656", "63005", "63013", "63021", "63027", "63028", "63040", "63041", "63062"])
_WAIT = {**dict.fromkeys(_THROTTLED_LONGER.split(), LONGER_WAIT), MARKETING_LIMIT: MARKETING_WAIT}
# Beside throttles: what an operator repairs at the account (63062: terms of Meta's API for marketing messages), a
# template that is paused (63041), a phone that was off (30003), an unknown error (30008), the limit of a day (63038).
_RETRYABLE = frozenset(
    {code for code, kind in _CLASS_OF.items() if kind is Throttled}
    | {"20003", "21408", "21606", "30002", "63007", "63062", "63041", "30003", "30008", "63038"}
)


def error_class(code: str) -> type[Refusal] | None:
    """The class of an error code of an answer or a receipt; None for an unknown code."""
    return _CLASS_OF.get(code)


def retryable(code: str) -> bool:
    """Whether a new attempt makes sense for a message that failed with this code, as `Provider.retryable` says."""
    return code in _RETRYABLE or code in PASSING


def refusal(answer: Answer, recipient: str) -> Refusal:
    """The class of an unsuccessful answer to a send.

    A 5xx is Ambiguous whatever its code, because Twilio may have accepted the message. Otherwise the code decides, then
    the status. A 404 is about the account, not the message: the credentials are wrong. A redirect does not come from
    Twilio.
    """
    code, detail = answer.code or str(answer.status), scrub(answer.message)
    if answer.status >= 500:
        return Ambiguous(code, detail)
    if code == MARKETING_LIMIT and _is_american(recipient):
        return ContentRejected(code, detail)
    kind = error_class(code)
    if answer.status == 429 or kind is Throttled:
        waits = [wait for wait in (answer.retry_after, _WAIT.get(code)) if wait is not None]
        return Throttled(code, max(waits, default=None), detail, "message" if code == MARKETING_LIMIT else "channel")
    if kind is ChannelBroken:
        return ChannelBroken(code, detail, "message" if code in _OF_MESSAGE else "channel")
    if kind is not None:
        return kind(code, detail=detail)
    if answer.status in (401, 403, 404) or 300 <= answer.status < 400:
        return ChannelBroken(code, detail)
    if 400 <= answer.status < 500:
        return ContentRejected(code, detail)
    return Ambiguous(code, detail)


def refusal_by_receipt(code: str) -> Refusal | None:
    """The class of a failure after Twilio had accepted the message; None for an unknown code."""
    return refusal(Answer(400, code), recipient="") if code in _CLASS_OF else None


def scrub(text: str) -> str:
    """A sentence of Twilio's, which may quote the recipient, with each number masked for the log and the database."""
    return re.sub(r"\+[0-9]{7,15}", lambda number: addresses.mask(number[0]), text)[:LONGEST_DETAIL]


def _is_american(recipient: str) -> bool:
    address = addresses.phone(recipient)
    return address is not None and addresses.region(address.canonical) == "US"
