"""Writes a message of ours as a mail: headers, text, files, and the thread it belongs to. No I/O."""

import re
from datetime import datetime
from email.errors import MessageError
from email.header import Header
from email.headerregistry import Address as Mailbox
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime
from typing import Final

from shared.domain import addresses
from shared.domain.model import Outgoing
from shared.providers.base import ContentRejected, RecipientInvalid, Refusal
from shared.providers.email import unsubscribe
from shared.providers.email.addresses import LONGEST_ID, message_ids, own_message_id, thread_of

_NEXT_HEADER: Final = re.compile(rb"[\r\n](?![ \t\n]|\Z)")
_OF_WORDS: Final = ("Subject", "From", "To", "Reply-To")


class _Folding(EmailPolicy):
    """Folds headers so that every mail program reads them.

    Python makes encoded words of a long message id or URL, which changes it: ASCII stays on one line (at most 998
    characters, RFC 5322 §2.1.1). Where Python folds other text it loses blanks, or makes encoded words longer than the
    75 characters of RFC 2047: its older class `Header` folds that.
    """

    def fold_binary(self, name: str, value: str) -> bytes:
        """Raises ValueError where the value would become more than one header."""
        folded = self._folded(name, value)
        if _NEXT_HEADER.search(folded):
            raise ValueError(f"{name}: there is another header in it")
        return folded

    def _folded(self, name: str, value: str) -> bytes:
        if self.utf8 or str(value).isascii() or name not in _OF_WORDS:
            return super().fold_binary(name, value)
        found: tuple[Mailbox, ...] = getattr(value, "addresses", ())
        mailboxes = (f"{_encoded(one.display_name, name)} <{one.addr_spec}>" for one in found)
        return f"{name}: {', '.join(mailboxes) or _encoded(str(value), name)}\r\n".encode("ascii")


def _encoded(text: str, name: str) -> str:
    return Header(text, "utf-8", maxlinelen=75, header_name=name).encode(linesep="\r\n")


_POLICY: Final = _Folding(linesep="\r\n", max_line_length=998)
_LONGEST_SUBJECT = 150  # characters
_LONGEST_REFERENCES = 900
_FIRST_WORDS = 70  # characters of the text, which are the subject where there is no other
# Types that are attached as bytes. A mail within the mail, or a multipart, would need another form.
_TYPE: Final = re.compile(r"(?:application|audio|font|image|model|text|video)/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,100}")
_ANSWERED: Final = re.compile(r"\s*(re|aw|sv|rv)\s?:", re.I)


def mail_of(message: Outgoing, sender: str, sender_name: str, now: datetime) -> EmailMessage | Refusal:
    """The mail, or why it can't be written. `sender` is the From; the channel's address is Reply-To if it differs."""
    problem = content_problem(message)
    if problem is not None:
        return ContentRejected("content", problem)
    recipient = mailbox(message.recipient)
    if recipient is None:
        return RecipientInvalid("address", "the recipient is no e-mail address")
    own = mailbox(sender)
    if own is None:
        return ContentRejected("content", "from_address: no e-mail address")
    mail = EmailMessage(_POLICY)
    mail["From"] = Mailbox(one_line(sender_name)[:100], own.username, own.domain)
    mail["To"] = recipient
    if (answers := mailbox(message.sender)) is not None and answers.addr_spec.lower() != own.addr_spec.lower():
        mail["Reply-To"] = answers
    mail["Subject"] = _subject(message)
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = own_message_id(message.message_id, own.domain)
    answered = _answered(message)
    if answered:
        mail["In-Reply-To"] = answered
        mail["References"] = _references(message, answered)
    if message.automatic:
        mail["Auto-Submitted"] = message.automatic
        mail["X-Auto-Response-Suppress"] = "OOF, AutoReply"  # Exchange reads it; bounces still come
    if message.unsubscribe is not None:
        for name, value in unsubscribe.headers(message.message_id, message.sender, message.unsubscribe).items():
            mail[name] = value
    mail.set_content(_text(message), charset="utf-8", cte="quoted-printable")
    for file in message.files:
        kind = file.mime_type.lower() if _TYPE.fullmatch(file.mime_type) else "application/octet-stream"
        maintype, _, subtype = kind.partition("/")
        mail.add_attachment(file.content, maintype, subtype, filename=one_line(file.name)[:200] or "file")
    return mail


def as_bytes(mail: EmailMessage) -> bytes | ContentRejected:
    """The mail's bytes. An address beyond ASCII stays as it is (RFC 6532), because it can't be encoded."""
    plain = all(address.addr_spec.isascii() for name in _ADDRESSES for address in _addresses_of(mail, name))
    try:
        return mail.as_bytes(policy=_POLICY if plain else _POLICY.clone(utf8=True))
    except (MessageError, ValueError, LookupError) as error:  # the error's text may quote the content
        return ContentRejected("content", f"it can't be written as a mail ({type(error).__name__})")


_ADDRESSES: Final = ("From", "To", "Reply-To")


def _addresses_of(mail: EmailMessage, name: str) -> tuple[Mailbox, ...]:
    header = mail[name]
    return header.addresses if header is not None else ()


def mailbox(given: str) -> Mailbox | None:
    """An address for headers and the SMTP session, its domain in ASCII; None where it is invalid there."""
    found = addresses.email(given)
    if found is None:
        return None
    user, _, domain = found.given.rpartition("@")
    try:
        return Mailbox(username=user, domain=domain.encode("idna").decode("ascii"))
    except (UnicodeError, ValueError, IndexError):  # dots in a row, a label that is too long
        return None


def one_line(text: str) -> str:
    """The text without line breaks and unprintable characters, since text after a line break would be another header.

    The beginning of an encoded word is broken up too: Python would decode it, and it may hold a line break.
    """
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split()).replace("=?", "= ?")


def content_problem(message: Outgoing) -> str | None:
    """As Provider.content_problem."""
    if message.template is not None:
        return "e-mail knows no templates; send text"
    if message.interactive is not None or message.reaction is not None:
        return "e-mail knows no buttons, lists or reactions; send text"
    if any(not (part.url or "").startswith(("http://", "https://")) for part in message.media):
        return "media: a file leaves by e-mail as a link, so it needs a url"
    return None if message.text.strip() or message.media or message.files else "there is no text"


def _text(message: Outgoing) -> str:
    links = [f"{one_line(part.filename)}: {part.url}" if part.filename else str(part.url) for part in message.media]
    text = "\n\n".join(part for part in (message.text, "\n".join(links)) if part)
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _subject(message: Outgoing) -> str:
    known = one_line(message.subject or "")[:_LONGEST_SUBJECT]
    if known:
        return known
    thread = one_line(message.thread.subject)[:_LONGEST_SUBJECT] if message.thread else ""
    if thread:
        return thread if _ANSWERED.match(thread) else f"Re: {thread}"
    first = one_line(message.text)
    return first if len(first) <= _FIRST_WORDS else f"{first[:_FIRST_WORDS].rsplit(' ', 1)[0]} …"


def _answered(message: Outgoing) -> str:
    """The Message-ID that this mail answers: of the message that it names, else of the customer's newest."""
    newest = message.thread.message_id if message.thread else ""
    return next((one for one in (message.reply_to or "", newest) if _is_id(one)), "")


def _is_id(one: str) -> bool:
    """Whether a Message-ID may stand in a header unchanged. For `=?` see `one_line`."""
    return len(one) <= LONGEST_ID and "=?" not in one and message_ids(one) == [one]


def _references(message: Outgoing, answered: str) -> str:
    """The thread's ids on one line that needs no folding: the first, and as many of the newest as fit."""
    known = [one for one in (message.thread.references if message.thread else ()) if _is_id(one)]
    every = thread_of([one for one in known if one != answered], [answered])
    while len(every) > 2 and len(" ".join(every)) > _LONGEST_REFERENCES:
        del every[1]
    return " ".join(every)
