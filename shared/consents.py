"""Who may be written to: the words that say so, and what an opt-out stops. Pure.

A ledger holds it per tenant, contact and channel kind (shared/store/consents.py). Of each scope the newest entry holds,
by the time at which it took effect; of two of the same time, the opt-out.

| scope | says so | stops | until |
|---|---|---|---|
| `all` | STOP and its like; 21610; an operator; the API | everything | START and its like; an operator; the API |
| `blocked` | 63014: they block the sender; a mail reported as spam | everything | the same, or they write again |
| `marketing` | WhatsApp's switch; 131050, 63033; a mail's button | the bulk lane; marketing templates | the same |

An answer to what a customer asks is no marketing, so it leaves in spite of switch and button.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.folding import bare, fold
from shared.providers.base import ChannelKind, ConsentScope, ConsentState, InboundMessage

OPTED_OUT: Final = "opted_out"  # the code of a message that does not leave because of it
REASONS: Final[Mapping[ConsentScope, str]] = MappingProxyType(
    {
        "all": "the contact has opted out; START from them lifts it, or `palomar contacts consent` if they ask for it",
        "blocked": "the contact blocks this sender; it is tried again once they have written",
        "marketing": "the contact takes no marketing messages: by WhatsApp's switch, which only they turn, or by a "
        "mail's button (`palomar contacts consent` if they ask for it)",
    }
)

# 131050: https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes, and 63033 is
# what Twilio makes of it; 63014: "blocked by user action … until they re-engage". https://www.twilio.com/docs/api/errors
# Who calls one of our mails spam is left alone until they write again; who clicks a bulk mail's button wants no bulk.
_SCOPES: Final[Mapping[str, ConsentScope]] = {
    "131050": "marketing", "63033": "marketing", "63014": "blocked", "unsubscribed": "marketing",
    "complaint": "blocked",
}  # fmt: skip
# Said by the recipient of a message, when they like; the others are a provider's answer to the call itself.
BY_RECIPIENT: Final = frozenset(("unsubscribed", "complaint"))


def scope_of_refusal(code: str) -> ConsentScope:
    """What a provider's refusal of the class OptedOut says the contact has opted out of."""
    return _SCOPES.get(code, "all")


# -- words -------------------------------------------------------------------------------------------------------------

LONGEST_WORD: Final = 40  # characters
_READ: Final = LONGEST_WORD + 24  # of a message: the word, and a few blanks or exclamation marks
_AROUND: Final = string.punctuation + "".join(map(chr, range(33))) + "\x7f"


def word_of(text: str) -> str:
    """The single word that a message is, without case, accents, and punctuation around it; empty where it is none.

    Costs a message of many words, which most are, next to nothing.
    """
    if len(text) > _READ:
        return ""
    parts = text.split()
    if len(parts) > 1 and any(map(str.isalnum, parts[0])) and any(map(str.isalnum, parts[-1])):
        return ""  # before anything is folded: neither end is mere punctuation
    word = text.strip(_AROUND).lower() if text.isascii() else bare(fold(text, 2 * _READ))
    return word if len(word) <= LONGEST_WORD and not any(map(str.isspace, word)) else ""


def _single(word: str) -> str:
    found = word_of(word)
    if not found or not any(map(str.isalnum, found)):
        raise ValueError(f"is no single word of at most {LONGEST_WORD} characters; longer messages change no consent")
    return found


Word = Annotated[str, StringConstraints(min_length=1, max_length=_READ), AfterValidator(_single)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$")]


class WordsOfLanguage(BaseModel):
    """A language's words. What is left out is our default for the language, which an empty list takes away."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stop: Annotated[tuple[Word, ...], Field(max_length=100)] | None = None
    start: Annotated[tuple[Word, ...], Field(max_length=100)] | None = None


class ConsentSettings(BaseModel):
    """`consents` of a tenant's settings: `{"words": {"es": {"stop": ["baja"], "start": ["alta"]}}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: Annotated[dict[Language, WordsOfLanguage], Field(max_length=50)] = {}


# Words that mean nothing else: in a bot's talk, `cancelar` is an appointment and `salir` is the way out of its menu.
DEFAULTS: Final[Mapping[str, tuple[str, str]]] = {  # language → stop, start
    "en": ("stop stopall unsubscribe revoke optout opt-out", "start unstop"),
    "es": ("baja parar desuscribir desuscribirme", "alta suscribir suscribirme"),
    "pt": ("parar pare descadastrar", "cadastrar assinar"),
}
# Twilio acts on these too, in SMS, whatever we make of them. Elsewhere they answer a question.
_ONLY_SMS: Final[Mapping[str, ConsentState]] = {
    "yes": "opted_in", "cancel": "opted_out", "end": "opted_out", "quit": "opted_out"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """What a tenant's customers may say, in any language."""

    meaning: Mapping[str, ConsentState] = field(default_factory=dict)

    def said(self, text: str, kind: ChannelKind) -> ConsentState | None:
        """What a message changes; None for nearly all."""
        word = word_of(text)
        return self.meaning.get(word) or (_ONLY_SMS.get(word) if kind == "sms" else None)


def words_of(settings: Mapping[str, Any] | None) -> Words:
    """The words of a tenant with these `consents` settings. Raises ValueError that names each wrong field."""
    if not settings:
        return DEFAULT_WORDS
    try:
        read = ConsentSettings.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors()[:5])
        raise ValueError(f"consents: {problems}") from error
    stop: set[str] = set()
    start: set[str] = set()
    for language in {*DEFAULTS, *read.words}:
        given = read.words.get(language, WordsOfLanguage())
        usual = [set(words.split()) for words in DEFAULTS.get(language, ("", ""))]
        stop |= usual[0] if given.stop is None else set(given.stop)
        start |= usual[1] if given.start is None else set(given.start)
    if both := sorted(stop & start):
        raise ValueError(f"consents: words: {', '.join(both)} would both stop and start; leave it in one list")
    return _words(stop, start)


def _words(stop: set[str], start: set[str]) -> Words:
    meaning: dict[str, ConsentState] = {**dict.fromkeys(stop, "opted_out"), **dict.fromkeys(start, "opted_in")}
    return Words(meaning)


DEFAULT_WORDS: Final = _words(
    {word for stop, _ in DEFAULTS.values() for word in stop.split()},
    {word for _, start in DEFAULTS.values() for word in start.split()},
)

# What a customer does to a message is no word of theirs, nor is what the network says of them.
_WORDLESS: Final = frozenset(("system", "reaction", "edit", "revoke"))


def told_by(message: InboundMessage, words: Words) -> ConsentState | None:
    """What a customer's message changes: what the provider took it for, else what its one word says."""
    if message.consent is not None:
        return message.consent
    return None if message.message_type in _WORDLESS else words.said(message.text, message.channel_kind)


def is_answered(message: InboundMessage, consent: ConsentState | None) -> bool:
    """Whether our engine answers it, as far as consent goes.

    Nothing answers an opt-out: Twilio confirms one by itself, and anything more is a message to who asked for none. An
    opt-in is answered as any other message is, unless the provider says that it has answered.
    """
    return consent != "opted_out" and not message.answered
