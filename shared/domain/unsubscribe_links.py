"""Names the parts of an unsubscribe link: its path below an endpoint's URL, and what its end is sealed for. No I/O.

Such a link is in each bulk message of a provider that declares `unsubscribe_links`.
"""

from typing import Final
from uuid import UUID

PATH: Final = "unsubscribe"  # below an endpoint's URL: `…/unsubscribe/<message id>/<proof that the URL is ours>`


def owner(message_id: UUID) -> str:
    """The owner for which shared.crypto seals the end of a message's link."""
    return f"{PATH}:{message_id}"
