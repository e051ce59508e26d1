"""Unsubscribing from bulk mails: the headers that mail programs show as a button, and what a click sends us. No I/O.

RFC 2369 (List-Unsubscribe), RFC 8058 (one click), which large mailbox providers demand of bulk senders. Each request
names the mail by its id, which its recipient knows.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote
from uuid import UUID

from shared.domain.model import Receipt
from shared.domain.unsubscribe_links import PATH

CODE: Final = "unsubscribed"  # of the receipt

_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_AT: Final = re.compile(rf"/webhooks/email/[^/?#]+/{PATH}/({_UUID})")
_SUBJECT: Final = re.compile(rf"\s*{PATH}\s+({_UUID})\s*", re.I)


def headers(message_id: UUID, mailbox: str, url: str) -> Mapping[str, str]:
    """A bulk mail's headers. `mailbox` is the channel's address; `url` takes one click if it is https."""
    mailto = f"<mailto:{quote(mailbox, safe='@')}?subject={PATH}%20{message_id}>"
    if not url.startswith("https://"):  # RFC 8058 §3.1
        return {"List-Unsubscribe": mailto}
    return {"List-Unsubscribe": f"<{url}>, {mailto}", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def unsubscribed(message_id: UUID, occasion: str) -> Receipt:
    """The receipt of a mail whose recipient has unsubscribed.

    `occasion` distinguishes two requests for one mail, between which the recipient may have opted in again.
    """
    return Receipt(
        external_id=f"{PATH}:{message_id}:{occasion}"[:200],
        status="unsubscribed",
        message_id=message_id,
        channel_kind="email",
        error_code=CODE,
    )


def unsubscribed_at(url: str) -> UUID | None:
    """The id of the mail whose button was clicked, from the URL that ingress stores; None for any other URL."""
    found = _AT.search(url)
    return UUID(found[1]) if found else None


def unsubscribed_by(subject: str) -> UUID | None:
    """The id of the mail in the subject of a request by mail; None for any other mail."""
    found = _SUBJECT.fullmatch(subject)
    return UUID(found[1]) if found else None
