"""Reads the messaging limit that Meta's webhooks name: how many people a portfolio may write to in 24 hours. No I/O.

…/whatsapp/webhooks/reference/business_capability_update and …/phone_number_quality_update, below
https://developers.facebook.com/documentation/business-messaging.
"""

from typing import Final

from shared.providers.base import MessagingLimit
from shared.providers.json_fields import Fields, printable_word, text_of

_FIELDS: Final = ("business_capability_update", "phone_number_quality_update")
_LIMIT: Final = "max_daily_conversations_per_business"
# The reference names these words, and its sample a number.
_TIERS: Final[dict[str, int | None]] = {
    "tier_250": 250,
    "tier_2k": 2_000,
    "tier_10k": 10_000,
    "tier_100k": 100_000,
    "tier_unlimited": None,
}
_MOST: Final = 10_000_000  # as the channel's setting has it


def messaging_limit(field: str, value: Fields, account: str) -> MessagingLimit | None:
    """The limit of this business account's portfolio; None where the webhook names none that we know."""
    if field not in _FIELDS or not account:
        return None
    written = text_of(value, _LIMIT).strip()
    if written == "-1":
        return MessagingLimit(account, None)
    if written.isascii() and written.isdigit() and len(written) <= len(str(_MOST)) and 0 < int(written) <= _MOST:
        return MessagingLimit(account, int(written))
    tier = printable_word(written)
    return MessagingLimit(account, _TIERS[tier]) if tier in _TIERS else None
