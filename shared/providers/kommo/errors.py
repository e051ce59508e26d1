"""Classifies Kommo's errors: HTTP status and code → one class of the closed set. No I/O.

The Chats API documents 200, 400 and 403 for a send; 901 to 905 are reasons why a message was not delivered.
https://developers.kommo.com/reference/send-import-messages, …/update-delivery-status
"""

from collections.abc import Mapping
from typing import Final

from shared.providers.base import (
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    RecipientInvalid,
    Refusal,
    Throttled,
)
from shared.providers.http_outcomes import PASSING, Answer, without_numbers

_CLASS_OF: Final[Mapping[str, type[Refusal]]] = {
    "901": RecipientInvalid,  # the user has deleted the conversation
    "902": ChannelBroken,  # the integration is disabled on the channel's side
    "903": Ambiguous,  # internal server error
    "904": RecipientInvalid,  # no conversation can be made: not registered in WhatsApp, for instance
    "905": ContentRejected,  # any other reason, given in a sentence
}
# Signature, payment, permission, or a missing scope: no message of this channel will be accepted.
_OF_CHANNEL: Final = frozenset((401, 402, 403, 404, 405, 410))


def error_class(code: str) -> type[Refusal] | None:
    """The class of a code; None for an unknown code."""
    return _CLASS_OF.get(code)


def retryable(code: str) -> bool:
    """Whether a new attempt makes sense for a message that failed with this code, as `Provider.retryable` says."""
    return _CLASS_OF.get(code) is ChannelBroken or code in PASSING


def refusal(answer: Answer) -> Refusal:
    """The class of an unsuccessful answer to a send.

    A known code decides. A 5xx, or an unreadable 2xx, may come from a proxy behind which the message was accepted. A
    redirect does not come from Kommo.
    """
    kind = error_class(answer.code)
    code, detail = answer.code or str(answer.status), scrub(answer.message)
    if kind is not None:
        return kind(code, detail=detail)
    if answer.status == 429:
        return Throttled(code, answer.retry_after, detail)
    if answer.status >= 500 or answer.status < 300 or answer.status == 408:
        return Ambiguous(code, detail)
    if answer.status < 400 or answer.status in _OF_CHANNEL:
        return ChannelBroken(code, detail)
    return ContentRejected(code, detail)


def scrub(text: str) -> str:
    """A sentence for the log and the database, with phone numbers masked."""
    return without_numbers(text)
