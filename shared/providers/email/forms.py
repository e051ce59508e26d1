"""Reads a mail out of the form that an inbound-parse service posts: parsed into fields, or whole in one field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from shared.domain import addresses
from shared.providers.base import RawWebhook
from shared.providers.email.addresses import people
from shared.providers.email.bodies import text_and_html
from shared.providers.email.mime import Part, form_parts, headers_of, mail_parts
from shared.providers.email.text import clean, decoded, words

FORM = "multipart/form-data"
MOST_FILES = 100
_TEXT = 400_000  # bytes of a text; the rest is not read
_HTML = 192 * 1024  # bytes of HTML; the rest is not read
_LONGEST_FIELD = 2000  # characters of any other field
MOST_FIELDS = 40  # of those that we have no name for
_JSON = 64 * 1024  # bytes of a JSON field; a longer one is not read
# Fields that are read here, or that the raw webhook holds well enough.
_READ = frozenset(
    ("headers", "from", "to", "cc", "subject", "text", "html", "envelope", "charsets", "attachments",
     "attachment-info", "content-ids", "email", "spam_report")
)  # fmt: skip
# Media types of a mail's own text, in one form or another.
_SHOWN = frozenset(
    ("", "text/plain", "text/html", "text/enriched", "text/richtext", "text/x-amp-html", "text/watch-html")
)


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail, whichever of the two forms it came in."""

    headers: Mapping[str, str]
    sender: str
    to: str
    cc: str
    subject: str
    text: str
    html: str
    files: Sequence[Part]
    envelope_from: str | None  # None: not given; empty: a bounce or another mail that must not be answered
    envelope_to: Sequence[str]
    extra: dict[str, object] = field(default_factory=dict)


def form_fields(raw: RawWebhook) -> tuple[dict[str, Part], str]:
    """The form's fields, of those of one name the first; and what is wrong with the form, or an empty text."""
    if raw.content_type.partition(";")[0].strip().lower() != FORM:
        return {}, "content type: multipart/form-data is needed"
    parts, problem = form_parts(raw.content_type, raw.body)
    fields: dict[str, Part] = {}
    for part in parts:
        fields.setdefault(part.name, part)
    return fields, problem


def received_mail(fields: Mapping[str, Part]) -> Mail:
    """The mail in these fields, whichever of the two forms they have."""
    return _whole_mail(fields) if "email" in fields else _parsed_mail(fields)


def attached_files(fields: Mapping[str, Part]) -> list[Part]:
    """The files of the mail in these fields."""
    return _files_of_mail(_parts_of_mail(fields)) if "email" in fields else _files_of_form(fields)


def _parsed_mail(fields: Mapping[str, Part]) -> Mail:
    charsets = _object(fields, "charsets")

    def text(name: str, most: int = _LONGEST_FIELD * 4) -> str:
        part = fields.get(name)
        charset = charsets.get(name)
        return decoded(part.content(most), charset if isinstance(charset, str) else "utf-8") if part else ""

    headers = headers_of(text("headers", 64 * 1024))
    envelope_from, envelope_to = _envelope(fields)
    return Mail(
        headers=headers,
        # The header as it was written: the service's field is decoded, so a name in it may hold commas or an address.
        sender=headers.get("from", "") or text("from"),
        to=text("to") or headers.get("to", ""),
        cc=text("cc") or headers.get("cc", ""),
        subject=text("subject") or headers.get("subject", ""),
        text=text("text", _TEXT),
        html=text("html", _HTML),
        files=_files_of_form(fields),
        envelope_from=envelope_from,
        envelope_to=envelope_to,
        extra=_other(fields),
    )


def _whole_mail(fields: Mapping[str, Part]) -> Mail:
    parts = _parts_of_mail(fields)
    headers = parts[0].headers
    text, html = text_and_html(parts, _TEXT, _HTML)
    envelope_from, envelope_to = _envelope(fields)
    return Mail(
        headers=headers,
        sender=headers.get("from", ""),
        to=headers.get("to", ""),
        cc=headers.get("cc", ""),
        subject=headers.get("subject", ""),
        text=text,
        html=html,
        files=_files_of_mail(parts),
        envelope_from=envelope_from,
        envelope_to=envelope_to,
        extra=_other(fields),
    )


def _parts_of_mail(fields: Mapping[str, Part]) -> list[Part]:
    whole = fields["email"]
    return mail_parts(whole.body, whole.start, whole.end)


def _files_of_form(fields: Mapping[str, Part]) -> list[Part]:
    """`attachment1`, `attachment2` and so on, completed by what the field `attachment-info` says of each."""
    info = _object(fields, "attachment-info")
    found = []
    for name, part in fields.items():
        if name.startswith("attachment") and name[10:].isascii() and name[10:].isdigit():
            about = info.get(name)
            facts: Mapping[str, object] = about if isinstance(about, dict) else {}
            kind, filename = facts.get("type"), facts.get("filename") or facts.get("name")
            headers = dict(part.headers)
            if isinstance(kind, str) and "content-type" not in headers:
                headers["content-type"] = kind[:200]
            # `attachment-info` has the right name: the part's header may have lost its charset.
            named = (words(filename)[:255] if isinstance(filename, str) else "") or part.filename
            found.append(Part(name, headers, part.body, part.start, part.end, named))
    return found[:MOST_FILES]


def _files_of_mail(parts: Sequence[Part]) -> list[Part]:
    """Parts that are neither the mail's own text nor containers of other parts. An invitation is a file."""
    return [
        part
        for part in parts
        if not part.media_type.startswith("multipart/") and (part.is_attached or part.media_type not in _SHOWN)
    ][:MOST_FILES]


def _object(fields: Mapping[str, Part], name: str) -> Mapping[str, object]:
    """A field that holds a JSON object; an empty one where it holds anything else."""
    part = fields.get(name)
    if part is None or part.end - part.start > _JSON:
        return {}
    try:
        loaded = orjson.loads(part.content())
    except orjson.JSONDecodeError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _envelope(fields: Mapping[str, Part]) -> tuple[str | None, list[str]]:
    """(from, to) of the SMTP session."""
    envelope = _object(fields, "envelope")
    sender, to = envelope.get("from"), envelope.get("to")
    every = to if isinstance(to, list) else [to]
    return clean(sender[:400]) if isinstance(sender, str) else None, [
        one[:400] for one in every[:100] if isinstance(one, str)
    ]


def _other(fields: Mapping[str, Part]) -> dict[str, object]:
    """The service's other fields about the mail (SPF, dkim, sender_ip, spam_score, …)."""
    names = [name for name in fields if name not in _READ and not name.startswith("attachment")][:MOST_FIELDS]
    return {name: fields[name].text(_LONGEST_FIELD)[:_LONGEST_FIELD] for name in names}


def recipients_of(mail: Mail) -> list[str]:
    """The mail's recipients, canonical, each once: first those of the envelope, then those of the headers."""
    found = [address for one in mail.envelope_to if (address := addresses.email(one)) is not None]
    for header in (mail.headers.get("delivered-to", ""), mail.to, mail.cc):
        found += [address for _, address in people(header)]
    return list(dict.fromkeys(address.canonical for address in found))
