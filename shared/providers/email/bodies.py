"""The text of a whole mail: of each part that is said in several forms one, and all the others in their order. Pure.

RFC 2046 §5.1.3 (mixed: all of it is the mail), §5.1.4 (alternative: the same in several forms).
"""

from collections.abc import Sequence

from shared.providers.email.mime import Part
from shared.providers.email.text import safe_html, text_of_html

_MOST_TEXTS = 20  # parts of one mail that its text is in
_LOOKED_AT = 4096  # bytes of a part, to see whether it says anything
_PLAIN = ("text/plain", "")
_HTML = "text/html"


def text_and_html(parts: Sequence[Part], most_text: int, most_html: int) -> tuple[str, str]:
    """(text, HTML) of a mail, whose parts these are as `mail_parts` gives them; so many bytes of each are read.

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
    """The parts within this one, itself among them, that say what the mail says."""
    if not whole.media_type.startswith("multipart/"):
        return [whole] if whole.media_type in (*_PLAIN, _HTML) and not whole.is_attached else []
    forms = [_shown(parts, part) for part in parts if _holder(part) == whole.name]
    if whole.media_type != "multipart/alternative":
        return [part for form in forms for part in form]
    said = [form for form in forms if any(map(_says_anything, form))]
    plain = (form for form in said if all(part.media_type in _PLAIN for part in form))
    return next(plain, said[0] if said else [])


def _holder(part: Part) -> str:
    """The name of the part that this one stands in; `0` is the mail itself."""
    return part.name.rpartition(".")[0] or ("" if part.name == "0" else "0")


def _says_anything(part: Part) -> bool:
    return bool(part.content(_LOOKED_AT).strip()) if part.media_type != _HTML else part.end > part.start
