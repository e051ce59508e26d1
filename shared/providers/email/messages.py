"""Makes a customer's message out of a mail."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson

from shared.domain.model import Address, InboundMessage, Media
from shared.providers.email.addresses import message_ids, people, thread_of
from shared.providers.email.authorship import authorship
from shared.providers.email.bounces import automatic
from shared.providers.email.forms import Mail
from shared.providers.email.mime import Part
from shared.providers.email.quotes import new_part, unified
from shared.providers.email.text import safe_html, text_of_html, words

_LONGEST_TEXT = 100_000  # characters; a longer text is cut
_LONGEST_HTML = 100_000  # characters, made safe; longer HTML is dropped
_YEARS = range(1990, 2100)  # of a Date header that can be right


def message_of(mail: Mail, recipients: Sequence[str]) -> InboundMessage:
    """The message that a mail is; `recipients` as `recipients_of` lists them."""
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
    # RFC 5322 §3.6.2: an author who writes on behalf of another person, as a form on a web page does, names that person
    # in Reply-To. That person gets the answer and has the conversation. Any address can be named there, though, so a
    # consent in the mail is the author's alone.
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
        external_id=ids[0] if ids else made_id(mail),
        channel_kind="email",
        sender=(sender,),
        channel_address=recipients[0] if recipients else "",
        # An automatic mail is stored and never answered: two systems that answer each other would never end.
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


def _html_text(mail: Mail, safe: str) -> str:
    return text_of_html(mail.html, safe) if mail.html.strip() else ""


def _media(part: Part) -> Media:
    return Media(id=part.name, mime_type=part.media_type or None, filename=part.filename or None)


def _kind(media: Media) -> str:
    kind = (media.mime_type or "").partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "file"


def made_id(mail: Mail) -> str:
    """An id for a mail without one: the same for the same mail, however the service wraps it."""
    parts = (mail.sender, mail.to, mail.headers.get("date", ""), mail.subject, mail.text, mail.html)
    return f"sha256:{hashlib.sha256(orjson.dumps(parts)).hexdigest()}"


def _instant(written: str) -> datetime | None:
    """A Date header in UTC; None where it is unreadable or of an impossible year."""
    try:
        at = parsedate_to_datetime(written[:100])
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return at if at.year in _YEARS else None
