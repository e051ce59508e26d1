"""E-mail: inbound-parse webhooks in (`verify`, `parse`, `attached`), mails out through SMTP (`make_sender`).

What comes in has the form that SendGrid's Inbound Parse posts, parsed or raw, and that other services speak too:
https://www.twilio.com/docs/sendgrid/for-developers/parsing-email/inbound-email. It is not signed: a secret is the end
of the webhook's URL.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

import orjson

from shared.domain import addresses
from shared.domain.media import Failure
from shared.domain.model import Address, InboundMessage, Media
from shared.providers.base import Notice, Parsed, RawWebhook, Traits
from shared.providers.email.addresses import message_ids, people, thread_of
from shared.providers.email.authorship import authorship
from shared.providers.email.bodies import text_and_html
from shared.providers.email.bounces import automatic, report_of
from shared.providers.email.mime import Part, form_parts, headers_of, mail_parts
from shared.providers.email.quotes import new_part, unified
from shared.providers.email.text import clean, decoded, safe_html, text_of_html, words
from shared.providers.email.unsubscribe import unsubscribed, unsubscribed_at, unsubscribed_by
from shared.providers.media_source import InWebhook, Source

FORM = "multipart/form-data"
# Many servers take no mail beyond 10 MB, and its files grow by a third on their way.
TRAITS = Traits(reads_nul=True, max_attachment_bytes=5 * 1024 * 1024)
MOST_FILES = 100
_TEXT = 400_000  # bytes of a text that are read
_LONGEST_TEXT = 100_000  # characters of it that are kept
_HTML = 192 * 1024  # bytes of HTML that are read
_LONGEST_HTML = 100_000  # characters of it, made safe, that are kept; longer HTML is not
_LONGEST_FIELD = 2000  # characters of any other field
_MOST_FIELDS = 40  # that we have no name for
_JSON = 64 * 1024  # bytes of a field that holds JSON
# Fields that are read, or stand in the raw webhook for who wants them.
_READ = frozenset(
    ("headers", "from", "to", "cc", "subject", "text", "html", "envelope", "charsets", "attachments",
     "attachment-info", "content-ids", "email", "spam_report")
)  # fmt: skip
# What a mail says, in one form or another.
_SHOWN = frozenset(
    ("", "text/plain", "text/html", "text/enriched", "text/richtext", "text/x-amp-html", "text/watch-html")
)
_YEARS = range(1990, 2100)


def verify(raw: RawWebhook, tokens: Sequence[str]) -> bool:
    """Whether the URL ends with one of `tokens`, its secrets; blank ones count for nothing."""
    told = raw.url.partition("?")[0].rpartition("/")[2].encode("utf-8", "replace")
    known = [token.encode("utf-8", "replace") for token in tokens if token]
    return any(hmac.compare_digest(told, one) for one in known)


# -- what came in ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mail:
    """One mail, whichever of the two forms it came in."""

    headers: Mapping[str, str]
    sender: str
    to: str
    cc: str
    subject: str
    text: str
    html: str
    files: Sequence[Part]
    envelope_from: str | None  # None: not told; empty: a bounce or another mail that takes no answer
    envelope_to: Sequence[str]
    extra: dict[str, object] = field(default_factory=dict)


def parse(raw: RawWebhook) -> Parsed:
    """The mail that a webhook brings: a message, the receipt that a bounce or a complaint is, or what is wrong. Never
    raises."""
    if (message_id := unsubscribed_at(raw.url)) is not None:
        return Parsed(receipts=(unsubscribed(message_id, decoded(raw.body[:100])),))
    fields, problem = _form(raw)
    errors = [problem] if problem else []
    if not fields:
        return Parsed(errors=tuple(errors))
    if not fields.keys() & {"email", "from", "headers", "envelope", "text", "html", "subject"}:
        return Parsed(notices=(Notice("other", {"fields": sorted(fields)[:_MOST_FIELDS]}),), errors=tuple(errors))
    mail = _whole_mail(fields) if "email" in fields else _parsed_mail(fields)
    recipients = _recipients(mail)
    domain = recipients[0].rpartition("@")[2] if recipients else "invalid"
    receipt = report_of(mail.headers, mail.files, mail.text, domain)
    if receipt is None and (message_id := unsubscribed_by(words(mail.subject))) is not None:
        receipt = unsubscribed(message_id, mail.headers.get("message-id", "") or _made_id(mail))
    if receipt is not None:
        return Parsed(receipts=(receipt,), errors=tuple(errors))
    if not (people(mail.sender) or people(mail.envelope_from or "")):
        return Parsed(errors=(*errors, "from: no address in it; nothing says who wrote"))
    return Parsed(messages=(_message(mail, recipients),), errors=tuple(errors))


def attached(raw: RawWebhook, media_id: str) -> Part | None:
    """The file that a message's Media of this id stands for: `content()` is its bytes. None where there is none."""
    fields, _ = _form(raw)
    found = _files_of_mail(_mail_in(fields)) if "email" in fields else _files_of_form(fields)
    return next((part for part in found if part.name == media_id), None)


def media_source(media: Media, credentials: str, *, api_url: str) -> Source:
    """A file came with its mail: nothing is called, and no credentials are needed."""
    return InWebhook(partial(_content, media.id)) if media.id else Failure("no_source")


def _content(media_id: str, content_type: str, body: bytes) -> bytes | None:
    part = attached(RawWebhook("POST", "", content_type, {}, body), media_id)
    return None if part is None else part.content()


def _form(raw: RawWebhook) -> tuple[dict[str, Part], str]:
    """The form's fields, of those of one name the first."""
    if raw.content_type.partition(";")[0].strip().lower() != FORM:
        return {}, "content type: multipart/form-data is needed"
    parts, problem = form_parts(raw.content_type, raw.body)
    fields: dict[str, Part] = {}
    for part in parts:
        fields.setdefault(part.name, part)
    return fields, problem


def _parsed_mail(fields: Mapping[str, Part]) -> _Mail:
    charsets = _object(fields, "charsets")

    def text(name: str, most: int = _LONGEST_FIELD * 4) -> str:
        part = fields.get(name)
        charset = charsets.get(name)
        return decoded(part.content(most), charset if isinstance(charset, str) else "utf-8") if part else ""

    headers = headers_of(text("headers", 64 * 1024))
    envelope_from, envelope_to = _envelope(fields)
    return _Mail(
        headers=headers,
        # As it was written first: a name that is decoded already may hold commas, or another address.
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


def _whole_mail(fields: Mapping[str, Part]) -> _Mail:
    parts = _mail_in(fields)
    headers = parts[0].headers
    text, html = text_and_html(parts, _TEXT, _HTML)
    envelope_from, envelope_to = _envelope(fields)
    return _Mail(
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


def _mail_in(fields: Mapping[str, Part]) -> list[Part]:
    whole = fields["email"]
    return mail_parts(whole.body, whole.start, whole.end)


def _files_of_form(fields: Mapping[str, Part]) -> list[Part]:
    """`attachment1` and its kin, with what the form says of them beside the part's own headers."""
    told = _object(fields, "attachment-info")
    found = []
    for name, part in fields.items():
        if name.startswith("attachment") and name[10:].isascii() and name[10:].isdigit():
            about = told.get(name)
            facts: Mapping[str, object] = about if isinstance(about, dict) else {}
            kind, filename = facts.get("type"), facts.get("filename") or facts.get("name")
            headers = dict(part.headers)
            if isinstance(kind, str) and "content-type" not in headers:
                headers["content-type"] = kind[:200]
            # SendGrid's own word for it is this one: what the part's header holds may have lost its charset.
            named = (words(filename)[:255] if isinstance(filename, str) else "") or part.filename
            found.append(Part(name, headers, part.body, part.start, part.end, named))
    return found[:MOST_FILES]


def _files_of_mail(parts: Sequence[Part]) -> list[Part]:
    """Parts that are no text of the mail's own, and not the containers of others; an invitation is one."""
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
    """(from, to) of the SMTP dialogue."""
    told = _object(fields, "envelope")
    sender, to = told.get("from"), told.get("to")
    every = to if isinstance(to, list) else [to]
    return clean(sender[:400]) if isinstance(sender, str) else None, [
        one[:400] for one in every[:100] if isinstance(one, str)
    ]


def _other(fields: Mapping[str, Part]) -> dict[str, object]:
    """What else the service says of the mail (SPF, dkim, sender_ip, spam_score, …)."""
    names = [name for name in fields if name not in _READ and not name.startswith("attachment")][:_MOST_FIELDS]
    return {name: fields[name].text(_LONGEST_FIELD)[:_LONGEST_FIELD] for name in names}


def _recipients(mail: _Mail) -> list[str]:
    """Whom the mail came to, canonical, each once: as the envelope says, then as its headers do."""
    found = [address for one in mail.envelope_to if (address := addresses.email(one)) is not None]
    for header in (mail.headers.get("delivered-to", ""), mail.to, mail.cc):
        found += [address for _, address in people(header)]
    return list(dict.fromkeys(address.canonical for address in found))


# -- the message -------------------------------------------------------------------------------------------------------


def _message(mail: _Mail, recipients: Sequence[str]) -> InboundMessage:
    written_by = people(mail.sender)
    name, sender = (written_by or people(mail.envelope_from or ""))[0]
    subject = words(mail.subject)[:500]
    sent_at = _instant(mail.headers.get("date", ""))
    html = safe_html(mail.html) if mail.html.strip() else ""
    whole = unified(mail.text.strip() or _html_text(mail, html))[:_LONGEST_TEXT]
    text = new_part(whole)
    files = [_media(part) for part in mail.files]
    ids = message_ids(mail.headers.get("message-id", ""))
    answered = message_ids(mail.headers.get("in-reply-to", ""))[:1]
    references = message_ids(mail.headers.get("references", "")) or answered
    robot = automatic(mail.headers, sender.canonical, mail.envelope_from, recipients[0] if recipients else "")
    known = authorship(
        [address.canonical for _, address in written_by],
        str(mail.extra.get("SPF", "")),
        str(mail.extra.get("dkim", "")),
        mail.envelope_from or "",
    )
    # RFC 5322 §3.6.2: who writes for somebody else, such as a form on a web page, says so there. The answer goes to
    # them, and so the conversation is theirs; but anybody can name anybody, so the author's wish is the author's.
    author: Address | None = None
    asked = people(mail.headers.get("reply-to", ""))
    if len(asked) == 1 and not robot and asked[0][1].canonical != sender.canonical:
        author = sender
        name, sender = asked[0]
        robot = automatic({}, sender.canonical, None, recipients[0] if recipients else "")
    extra: dict[str, object] = {
        **mail.extra,
        "subject": subject,
        "date": sent_at.isoformat() if sent_at is not None else "",
        "thread": {"message_id": ids[0] if ids else "", "references": thread_of(references, ids[:1])},
        "recipients": list(recipients)[:20],
        "cc": words(mail.cc),
        "reply_to": words(mail.headers.get("reply-to", "")),
        "envelope_from": mail.envelope_from,
        "automatic": robot,
        "proven": known == "proven" and author is None,
        "full_text": whole if whole != text else "",
        "html": html if len(html) <= _LONGEST_HTML else "",
    }
    return InboundMessage(
        external_id=ids[0] if ids else _made_id(mail),
        channel_kind="email",
        sender=(sender,),
        channel_address=recipients[0] if recipients else "",
        # What nobody wrote is kept and never answered: two that answer each other would never end.
        message_type="system" if robot else "text" if text or not files else _kind(files[0]),
        text=text or ("" if files else subject),
        media=tuple(files),
        timestamp=sent_at,
        contact_name=name or None,
        reply_to=answered[0] if answered else None,
        authorship=known,
        author=author,
        wording="own",
        given_from=words(mail.sender)[:400],
        given_to=words(mail.to)[:400],
        extra={name: value for name, value in extra.items() if value not in ("", None, [])},
    )


def _html_text(mail: _Mail, safe: str) -> str:
    return text_of_html(mail.html, safe) if mail.html.strip() else ""


def _media(part: Part) -> Media:
    return Media(id=part.name, mime_type=part.media_type or None, filename=part.filename or None)


def _kind(media: Media) -> str:
    kind = (media.mime_type or "").partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "file"


def _made_id(mail: _Mail) -> str:
    """The id of a mail that has none: the same for the same mail, however the service wraps it."""
    parts = (mail.sender, mail.to, mail.headers.get("date", ""), mail.subject, mail.text, mail.html)
    return f"sha256:{hashlib.sha256(orjson.dumps(parts)).hexdigest()}"


def _instant(written: str) -> datetime | None:
    """A Date header in UTC; None for what is none, or can't be meant."""
    try:
        at = parsedate_to_datetime(written[:100])
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return at if at.year in _YEARS else None
