"""Classifies Meta's errors: error code and HTTP status → one class of the closed set. No I/O.

Codes: https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes. The answer
to a send and a status webhook have the same codes. The code decides, because titles and sentences change.
"""

import re

from shared.providers.base import (
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    OptedOut,
    RecipientInvalid,
    Refusal,
    Throttled,
    Unreachable,
    WindowClosed,
)
from shared.providers.http_outcomes import PASSING, Answer, class_table, without_numbers

NOT_ALLOWED = "131030"  # the recipient is not on the list of those that a test number may write to
PAIR_RATE = "131056"
PAIR_WAIT = 6.0  # seconds: one message per 6 s to one recipient
# Too many messages of the account were blocked or marked as spam: an early retry makes it worse.
_SPAM = "131048 131064"
_SPAM_WAIT = 3600.0
# Meta withholds marketing messages from this person, or has them in an experiment: for at least a day.
_MARKETING = "131049 130472"
_MARKETING_WAIT = 25 * 3600.0
# The path for marketing messages is ready for a template ten minutes after it was made, or used again after a week. Its
# other codes: 131055, its terms are not accepted or the template is no marketing; 134100, the latter.
# https://developers.facebook.com/docs/whatsapp/marketing-messages-lite-api/support
SYNCING = "134101"
_SYNCING_WAIT = 600.0
# "Object with ID … does not exist": the phone number id is wrong, or the token may not see it.
_NO_SUCH_OBJECT = ("100", "33")


def _codes(first: int, last: int) -> str:
    return " ".join(map(str, range(first, last + 1)))


_CLASS_OF: dict[str, type[Refusal]] = class_table(
    (
        (Throttled, "4 80007 130429 133016"),
        (Throttled, PAIR_RATE),
        (Throttled, _SPAM),
        (Throttled, _MARKETING),
        (Throttled, SYNCING),
        (Unreachable, "131016 131057 131053"),  # Meta says "try again" and has accepted nothing
        (Ambiguous, "131000"),  # "something went wrong", which leaves open whether it was accepted
        (WindowClosed, "131047"),
        (OptedOut, "131050"),
        (RecipientInvalid, f"131026 131021 {NOT_ALLOWED}"),
        (ChannelBroken, f"0 3 10 190 {_codes(200, 299)} 368 131031 131042 131045 133010 130497 131055"),
        (ContentRejected, f"131008 131009 131051 {_codes(132000, 132016)} 131063 134100"),
    )
)
# Codes about the recipient or the content: the channel's other messages are sent.
_OF_MESSAGE = frozenset((PAIR_RATE, *_MARKETING.split(), SYNCING, "130497", "131055"))
_WAIT = {
    PAIR_RATE: PAIR_WAIT,
    **dict.fromkeys(_SPAM.split(), _SPAM_WAIT),
    **dict.fromkeys(_MARKETING.split(), _MARKETING_WAIT),
    SYNCING: _SYNCING_WAIT,
}
# A paused template is sent again hours later. 131000 in a receipt says that the message was not delivered. A country
# that the business may not write to stays so.
_RETRYABLE = frozenset(
    {code for code, kind in _CLASS_OF.items() if issubclass(kind, Throttled | Unreachable | ChannelBroken)}
    | {"131000", "132015"}
) - {"130497"}


def error_class(code: str) -> type[Refusal] | None:
    """The class of an error code of an answer or a receipt; None for an unknown code."""
    return _CLASS_OF.get(code)


def retryable(code: str) -> bool:
    """Whether a new attempt makes sense for a message that failed with this code, as `Provider.retryable` says."""
    return code in _RETRYABLE or code in PASSING


def refusal(answer: Answer) -> Refusal:
    """The class of an unsuccessful answer to a send.

    The code decides, whatever the status: with an error code Meta itself says that it did not accept the message. A 5xx
    without a code may come from a proxy behind which the message was accepted. A 404 is about the phone number id, not
    the message; a redirect does not come from Meta.
    """
    code, detail = answer.code or str(answer.status), scrub(answer.message)
    kind = error_class(answer.code)
    if kind is Throttled or (kind is None and answer.status == 429):
        waits = [wait for wait in (answer.retry_after, _WAIT.get(code)) if wait is not None]
        return Throttled(code, max(waits, default=None), detail, "message" if code in _OF_MESSAGE else "channel")
    if kind is ChannelBroken:
        return ChannelBroken(code, detail, "message" if code in _OF_MESSAGE else "channel")
    if kind is not None:
        return kind(code, detail=detail)
    if answer.status >= 500 or answer.status < 300:
        return Ambiguous(code, detail)
    if answer.status in (401, 403, 404) or answer.status < 400 or (answer.code, answer.subcode) == _NO_SUCH_OBJECT:
        return ChannelBroken(code, detail)
    return ContentRejected(code, detail)


def refusal_by_receipt(code: str) -> Refusal | None:
    """The class of a failure after Meta had accepted the message; None for an unknown code."""
    return refusal(Answer(400, code)) if code in _CLASS_OF else None


def scrub(text: str) -> str:
    """A sentence for the log and the database, with numbers and access tokens masked."""
    hidden = re.sub(r"\bEA[A-Za-z0-9]{20,}", "EA***", text)
    return without_numbers(hidden)
