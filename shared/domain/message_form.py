"""Reads and writes a message's form beside text, media and template: buttons, a reaction, a quoted message. No I/O.

It is stored in the message's `metadata` under `form`, so that it survives a wait for the window and a resend.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from shared.domain.model import Interactive, Reaction

FORM: Final = "form"


@dataclass(frozen=True, slots=True)
class Form:
    """Everything a provider may be asked for; one that can't do it refuses the message."""

    interactive: Interactive | None = None
    reaction: Reaction | None = None
    reply_to: str | None = None  # external id of the message it is shown to answer
    subject: str | None = None  # of a mail; None: its thread's


PLAIN: Final = Form()
_FORM: Final = TypeAdapter(Form)


def stored(form: Form) -> dict[str, object]:
    """The form as a part of `metadata`; empty for a plain message."""
    return {} if form == PLAIN else {FORM: {name: part for name, part in asdict(form).items() if part is not None}}


def form_of(metadata: object) -> Form:
    """The form of a message; PLAIN where `form` in its metadata is missing or not ours."""
    raw = metadata.get(FORM) if isinstance(metadata, Mapping) else None
    if raw is None:
        return PLAIN
    try:
        return _FORM.validate_python(raw)
    except ValidationError:
        return PLAIN
