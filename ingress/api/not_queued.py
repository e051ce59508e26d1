"""Turns the reason why a message was not queued into the problem that answers it."""

from typing import Final, NoReturn

from ingress.api.problems import CONFLICT, IDEMPOTENCY_MISMATCH, FieldError, Problem, invalid, not_found, pointer
from shared.actions.messages import NotQueued

_CONTENT_REMEDIES: Final = {
    "content": "Shorten it, or send it as several messages.",
    "media": "Send one file a message, or the text by itself, as the detail says.",
    "interactive": "Change the part that the detail names, or send a text.",
}
_REMEDIES: Final = {
    "channel": "Write to the customer in a conversation on another channel.",
    "contact": "Restore the contact first: contacts.restore.",
    "opted_out": "Send nothing until the customer opts in again.",
}


def refuse(refused: NotQueued, field: str = "id") -> NoReturn:
    """Raise the problem of what was not queued to the conversation that `field` names."""
    match refused.obstacle:
        case "conversation":
            raise not_found("conversation", field)
        case "content" | "media" | "interactive":
            raise invalid(refused.obstacle, refused.reason, _CONTENT_REMEDIES[refused.obstacle])
        case "cause":
            raise Problem(IDEMPOTENCY_MISMATCH, "This Idempotency-Key came with another message. Take a new one.")
        case "channel" | "contact" | "opted_out":
            error = FieldError(pointer(field), refused.reason, _REMEDIES[refused.obstacle])
            raise Problem(CONFLICT, refused.reason, errors=[error])
