"""Chooses the text of a mail among its parts: one of several alternative forms, and all other parts in order. No I/O.

RFC 2046 §5.1.3 (mixed: all of it is the mail), §5.1.4 (alternative: the same in several forms).
"""

from collections.abc import Sequence

from shared.providers.email.mime import Part
from shared.providers.email.text import safe_html, text_of_html

_MOST_TEXTS = 20  # parts of one mail whose text is read
_LOOKED_AT = 4096  # bytes of a part, to see whether it is empty
_PLAIN = ("text/plain", "")
_HTML = "text/html"


def text_and_html(parts: Sequence[Part], most_text: int, most_html: int) -> tuple[str, str]:
    """(text, HTML) of a mail with these parts, as `mail_parts` returns them. At most so many bytes of each are read.

    The text is empty where all of it is HTML.
    """
    every = [part for part in parts if part.media_type == _HTML and not part.is_attached]
    html = "\n".join(part.text(most_html) for part in every[:_MOST_TEXTS])[:most_html]
    shown = _shown(parts, parts[0])[:_MOST_TEXTS]
    if all(part.media_type == _HTML for part in shown):
        return "", html
    written: list[str] = []
    left = most_html
    for part in shown:
        if part.media_type == _HTML:
            code = part.text(left)
            left -= len(code)
            written.append(text_of_html(code, safe_html(code)))
        else:
            written.append(part.text(most_text))
    return "\n".join(written)[:most_text], html


def _shown(parts: Sequence[Part], whole: Part) -> list[Part]:
    """The parts within this one, itself included, that make up the text."""
    if not whole.media_type.startswith("multipart/"):
        return [whole] if whole.media_type in (*_PLAIN, _HTML) and not whole.is_attached else []
    forms = [_shown(parts, part) for part in parts if _holder(part) == whole.name]
    if whole.media_type != "multipart/alternative":
        return [part for form in forms for part in form]
    filled = [form for form in forms if any(map(_has_content, form))]
    plain = (form for form in filled if all(part.media_type in _PLAIN for part in form))
    return next(plain, filled[0] if filled else [])


def _holder(part: Part) -> str:
    """The name of the part that contains this one; `0` is the mail itself."""
    return part.name.rpartition(".")[0] or ("" if part.name == "0" else "0")


def _has_content(part: Part) -> bool:
    return bool(part.content(_LOOKED_AT).strip()) if part.media_type != _HTML else part.end > part.start
