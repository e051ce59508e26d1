"""Reads what Meta says of message templates: the states of its list, and webhooks that a template has changed. No I/O.

…/whatsapp/webhooks/reference/message_template_status_update and …/template_category_update, below
https://developers.facebook.com/documentation/business-messaging.
"""

from typing import Final

from shared.domain.template_status import GONE, Status
from shared.providers.base import TemplateChange
from shared.providers.json_fields import Fields, fields_of, printable_word, text_of

STATUS_UPDATE: Final = "message_template_status_update"
CATEGORY_UPDATE: Final = "template_category_update"
_LONGEST: Final = 512  # characters of a name
# A state that is not here, or is new at Meta, counts as pending: such a template is not sent.
LISTED: Final[dict[str, Status]] = {
    "APPROVED": "approved",
    "FLAGGED": "approved",  # it is still sent, at a low quality
    "REJECTED": "rejected",
    "PAUSED": "paused",
    "LIMIT_EXCEEDED": "paused",
    "DISABLED": "disabled",
    "ARCHIVED": "disabled",
    "PENDING_DELETION": "disabled",
}
# Any other event leaves the state as it is: FLAGGED, LOCKED, IN_APPEAL, and words that are new at Meta.
_EVENTS: Final[dict[str, Status]] = {
    **{word: status for word, status in LISTED.items() if word != "FLAGGED"},
    "REINSTATED": "approved",
    "PENDING": "pending",
    "DELETED": GONE,
}


def template_change(field: str, value: Fields, account: str) -> TemplateChange | None:
    """What a webhook changes of a template of this business account; None where it changes nothing that we store."""
    if field == STATUS_UPDATE:
        status, category = _EVENTS.get(text_of(value, "event").strip().upper()), ""
    elif field == CATEGORY_UPDATE:
        status, category = None, printable_word(text_of(value, "new_category")).upper()
    else:
        return None
    external_id, name = text_of(value, "message_template_id"), text_of(value, "message_template_name")
    language = text_of(value, "message_template_language")
    if not (status or category) or not name or not (external_id or language) or len(name) > _LONGEST:
        return None
    return TemplateChange(account, external_id, name, language, status, category or None)


def pause_title(value: Fields) -> dict[str, str]:
    """`title` where a webhook says which pause it is, such as `FIRST_PAUSE`; else nothing."""
    title = printable_word(text_of(fields_of(value, "other_info"), "title")).upper()
    return {"title": title} if title else {}
