"""How who gets our bulk mails takes no more of them: the headers that mailers turn into a button, and what it does.

RFC 2369 (List-Unsubscribe), RFC 8058 (one click), which large mailbox providers ask of who sends in bulk. Either way
names the mail, and who holds the mail knows its id. Pure.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote
from uuid import UUID

from shared.domain.model import Receipt

PATH: Final = "unsubscribe"  # below an endpoint's URL: `…/unsubscribe/<message id>`, and what proves it ours
CODE: Final = "unsubscribed"  # of the receipt

_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_AT: Final = re.compile(rf"/webhooks/email/[^/?#]+/{PATH}/({_UUID})")
_SUBJECT: Final = re.compile(rf"\s*{PATH}\s+({_UUID})\s*", re.I)


def owner(message_id: UUID) -> str:
    """What the end of a mail's URL is sealed for (shared.crypto)."""
    return f"{PATH}:{message_id}"


def headers(message_id: UUID, mailbox: str, url: str) -> Mapping[str, str]:
    """What a bulk mail says of it. `mailbox` is the channel's address; `url` takes one click, where it is https."""
    mailto = f"<mailto:{quote(mailbox, safe='@')}?subject={PATH}%20{message_id}>"
    if not url.startswith("https://"):  # RFC 8058 §3.1
        return {"List-Unsubscribe": mailto}
    return {"List-Unsubscribe": f"<{url}>, {mailto}", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def unsubscribed(message_id: UUID, occasion: str) -> Receipt:
    """What it says of a mail of ours: its recipient takes no bulk mails any more. `occasion` tells one time from
    another, for they may have opted in again in between."""
    return Receipt(
        external_id=f"{PATH}:{message_id}:{occasion}"[:200],
        status="unsubscribed",
        message_id=message_id,
        channel_kind="email",
        error_code=CODE,
    )


def unsubscribed_at(url: str) -> UUID | None:
    """The mail whose button was clicked, of a webhook's URL as ingress keeps it; None for that of a mail."""
    found = _AT.search(url)
    return UUID(found[1]) if found else None


def unsubscribed_by(subject: str) -> UUID | None:
    """The same of a mail that a mailer writes instead, by its subject; None for any other mail."""
    found = _SUBJECT.fullmatch(subject)
    return UUID(found[1]) if found else None
