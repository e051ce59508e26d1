"""Mails that no person wrote: bounces of ours, which are receipts, and what must never be answered. Pure; never raises.

RFC 3464 (delivery status notifications), RFC 3834 (automatic responses), and what mailers write besides.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from shared.providers.base import Receipt
from shared.providers.email_parts import Part
from shared.providers.email_people import message_ids, own_id, own_message_id
from shared.providers.email_text import words

_READ = 64 * 1024  # bytes of a report, and of the mail that it returns
# What becomes of our status; a delay changes nothing, and is kept in the history.
_ACTIONS: Final = ("failed", "delivered", "relayed", "expanded", "delayed")
_STATUSES: Final = {"failed": "failed", "delivered": "delivered", "relayed": "sent", "expanded": "sent"}
_ROBOTS: Final = re.compile(
    r"(mailer-daemon|postmaster|bounces?([+=-].*)?|.*-(bounces?|request)|owner-.*|(do[-_.]?)?not?[-_.]?reply([-_+.].*)?)@"
)
_SUPPRESSED: Final = re.compile(r"\b(all|oof|autoreply)\b", re.I)


def automatic(headers: Mapping[str, str], sender: str, envelope_from: str | None, ours: str) -> str:
    """Why nobody answers this mail, as a header's name or a few words; empty where a person may have written it.

    `sender` and `ours`, the address it came to, are canonical; `envelope_from` is None where it is not known.
    """
    submitted = headers.get("auto-submitted", "").partition(";")[0].strip().lower()
    if submitted and submitted != "no":
        return "auto-submitted"
    if headers.get("content-type", "").strip().lower().startswith("multipart/report"):
        return "multipart/report"
    if headers.get("precedence", "").strip().lower() in ("bulk", "list", "junk", "auto_reply"):
        return "precedence"
    if _SUPPRESSED.search(headers.get("x-auto-response-suppress", "")):
        return "x-auto-response-suppress"
    for name in ("x-autoreply", "x-autorespond", "x-auto-reply", "list-id", "list-post", "list-unsubscribe"):
        if name in headers and headers[name].strip().lower() != "no":
            return name
    if envelope_from is not None and envelope_from.strip() in ("", "<>"):
        return "no envelope sender"
    if _ROBOTS.match(sender):
        return "sender"
    return "our own" if sender == ours else ""


def bounce_of(headers: Mapping[str, str], parts: Sequence[Part], text: str, domain: str) -> Receipt | None:
    """The receipt that a delivery report is for a message of ours; None where it is none, or not of ours.

    `parts` are those beside the text; a service that takes mails apart may have put what a report says into the text.
    """
    kind = headers.get("content-type", "").lower()
    if not kind.startswith("multipart/report") or "disposition-notification" in kind:
        return None
    read = [part.text(_READ) for part in parts if part.media_type in _OF_A_REPORT]
    told = "\n".join((*read, text[:_READ]))
    known = ("original-message-id", "x-original-message-id", "in-reply-to", "references")
    named = "\n".join((told, *(headers.get(name, "") for name in known)))
    message_id = own_id(named)
    if message_id is None:
        return None
    action, code, reason = _verdict(told)
    ids = [one for one in message_ids(named) if own_id(one) == message_id]
    return Receipt(
        external_id=ids[0] if ids else own_message_id(message_id, domain),
        status=_STATUSES.get(action, action),
        message_id=message_id,
        channel_kind="email",
        error_code=code if action == "failed" else None,
        error_message=reason if action == "failed" else None,
        extra={"bounce": {"action": action, "status": code, "diagnostic": reason}},
    )


_OF_A_REPORT: Final = (
    "message/delivery-status", "message/global-delivery-status", "message/rfc822", "message/global",
    "text/rfc822-headers", "message/global-headers", "message/rfc822-headers",
)  # fmt: skip
_ACTION: Final = re.compile(r"^action:\s{0,10}(\w{1,20})", re.I | re.M)
_STATUS: Final = re.compile(r"^status:\s{0,10}([245]\.\d{1,3}\.\d{1,3})", re.I | re.M)
_DIAGNOSTIC: Final = re.compile(r"^diagnostic-code:(.{0,500}(?:\r?\n[ \t].{0,500}){0,10})", re.I | re.M)


def _verdict(report: str) -> tuple[str, str, str]:
    """(action, status code, what the other server said) of a report; of several recipients' the worst."""
    actions = [found.lower() for found in _ACTION.findall(report)]
    action = next((one for one in _ACTIONS if one in actions), "failed")
    status, diagnostic = _STATUS.search(report), _DIAGNOSTIC.search(report)
    return action, status[1] if status else "bounced", words(diagnostic[1])[:500] if diagnostic else ""
