"""Parses the webhooks of inbound-parse services: mails, bounces, complaints, and requests to unsubscribe.

They have the form that SendGrid's Inbound Parse posts, parsed or raw, and that other services post too:
https://www.twilio.com/docs/sendgrid/for-developers/parsing-email/inbound-email. They are not signed: the URL ends with
a secret.
"""

import hmac
from collections.abc import Sequence
from functools import partial

from shared.domain.media import Failure
from shared.domain.model import Media
from shared.providers.base import Notice, Parsed, RawWebhook
from shared.providers.email.addresses import people
from shared.providers.email.bounces import report_of
from shared.providers.email.forms import (
    MOST_FIELDS,
    attached_files,
    form_fields,
    received_mail,
    recipients_of,
)
from shared.providers.email.messages import made_id, message_of
from shared.providers.email.mime import Part
from shared.providers.email.text import decoded, words
from shared.providers.email.unsubscribe import unsubscribed, unsubscribed_at, unsubscribed_by
from shared.providers.media_source import InWebhook, Source
from shared.settings import Settings


def verify(raw: RawWebhook, tokens: Sequence[str]) -> bool:
    """Whether the URL ends with one of `tokens`, its secrets. Blank ones are ignored."""
    given = raw.url.partition("?")[0].rpartition("/")[2].encode("utf-8", "replace")
    known = [token.encode("utf-8", "replace") for token in tokens if token]
    return any(hmac.compare_digest(given, one) for one in known)


def parse(raw: RawWebhook) -> Parsed:
    """Parse the mail in a webhook: a customer's message, or the receipt that a bounce or a complaint is. Never raises.

    What can't be read is a sentence in `errors`.
    """
    if (message_id := unsubscribed_at(raw.url)) is not None:
        return Parsed(receipts=(unsubscribed(message_id, decoded(raw.body[:100])),))
    fields, problem = form_fields(raw)
    errors = [problem] if problem else []
    if not fields:
        return Parsed(errors=tuple(errors))
    if not fields.keys() & {"email", "from", "headers", "envelope", "text", "html", "subject"}:
        return Parsed(notices=(Notice("other", {"fields": sorted(fields)[:MOST_FIELDS]}),), errors=tuple(errors))
    mail = received_mail(fields)
    recipients = recipients_of(mail)
    domain = recipients[0].rpartition("@")[2] if recipients else "invalid"
    receipt = report_of(mail.headers, mail.files, mail.text, domain)
    if receipt is None and (message_id := unsubscribed_by(words(mail.subject))) is not None:
        receipt = unsubscribed(message_id, mail.headers.get("message-id", "") or made_id(mail))
    if receipt is not None:
        return Parsed(receipts=(receipt,), errors=tuple(errors))
    if not (people(mail.sender) or people(mail.envelope_from or "")):
        return Parsed(errors=(*errors, "from: there is no address in it"))
    return Parsed(messages=(message_of(mail, recipients),), errors=tuple(errors))


def attached(raw: RawWebhook, media_id: str) -> Part | None:
    """The attached file whose Media has this id; `content()` is its bytes. None where there is none."""
    fields, _ = form_fields(raw)
    return next((part for part in attached_files(fields) if part.name == media_id), None)


def media_source(media: Media, credentials: str, settings: Settings) -> Source:
    """A file lies in its mail's webhook: there is nothing to call, and no credentials are needed."""
    return InWebhook(partial(_content, media.id)) if media.id else Failure("no_source")


def _content(media_id: str, content_type: str, body: bytes) -> bytes | None:
    part = attached(RawWebhook("POST", "", content_type, {}, body), media_id)
    return None if part is None else part.content()
