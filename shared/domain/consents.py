"""Decides on consents: which words opt in or out, and which messages an opt-out stops. No I/O.

Whether it stops a certain message is decided in SQL: `STOPPED_BY` of shared/store/consents.py.

The ledger of consents (shared/store/consents.py) is by tenant, contact and channel kind. For each scope the newest
entry counts, by the time at which it took effect; of two with the same time, the opt-out.

| scope | comes from | stops | until |
|---|---|---|---|
| `all` | STOP and its like; 21610; an operator; the API | everything | START and its like; an operator; the API |
| `blocked` | 63014: they block the sender; a mail reported as spam | everything | the same, or they write again |
| `marketing` | Stop promotions; WhatsApp's switch; 131050, 63033; a mail's button | bulk; marketing templates | the
same |

An answer to a customer's message is not marketing, so neither the switch nor the button stops it.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.domain.field_errors import field_errors
from shared.domain.model import ChannelKind, ConsentScope, ConsentState, InboundMessage
from shared.domain.text_folding import bare, fold

OPTED_OUT: Final = "opted_out"  # the error code of a message that an opt-out stops
REASONS: Final[Mapping[ConsentScope, str]] = MappingProxyType(
    {
        "all": "the contact has opted out; START from them lifts it, or `palomar contacts consent` if they ask for it",
        "blocked": "the contact blocks this sender; it is tried again once they have written",
        "marketing": "the contact takes no marketing messages: by WhatsApp's switch, which only they turn, or by a "
        "mail's button (`palomar contacts consent` if they ask for it)",
    }
)

# 131050: https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes, 63033 is
# Twilio's code for it; 63014: "blocked by user action … until they re-engage". https://www.twilio.com/docs/api/errors
# A contact who reports a mail as spam is blocked until they write again; the button of a bulk mail stops only bulk.
_SCOPES: Final[Mapping[str, ConsentScope]] = {
    "131050": "marketing", "63033": "marketing", "63014": "blocked", "unsubscribed": "marketing",
    "complaint": "blocked",
}  # fmt: skip
# Codes by which a recipient opts out at any time after the send; the others are a provider's answer to the call.
BY_RECIPIENT: Final = frozenset(("unsubscribed", "complaint"))


def scope_of_refusal(code: str) -> ConsentScope:
    """The scope that the contact has opted out of, by the code of a refusal of the class OptedOut."""
    return _SCOPES.get(code, "all")


# -- words -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """An opt-in or opt-out by a customer's message. `proven`: no one else can have written it in their name; a change
    that is not proven has no effect."""

    state: ConsentState
    scope: ConsentScope = "all"
    proven: bool = True


LONGEST_PHRASE: Final = 60  # characters
MOST_WORDS: Final = 6
_READ: Final = LONGEST_PHRASE + 24  # of a message: the phrase, and a few blanks or exclamation marks
_AROUND: Final = string.punctuation + "".join(map(chr, range(33))) + "\x7f"


def phrase_of(text: str) -> str:
    """A message of a few words without case, accents, and punctuation around it; empty for a longer one.

    It costs next to nothing for a message of many words, which most are.
    """
    if len(text) > _READ or len(text.split(maxsplit=MOST_WORDS + 2)) > MOST_WORDS + 2:  # the two: mere punctuation
        return ""
    phrase = " ".join(text.strip(_AROUND).lower().split()) if text.isascii() else bare(fold(text, 2 * _READ))
    return phrase if len(phrase) <= LONGEST_PHRASE and phrase.count(" ") < MOST_WORDS else ""


def _phrase(written: str) -> str:
    found = phrase_of(written)
    if not found or not any(map(str.isalnum, found)):
        raise ValueError(
            f"is no phrase of at most {MOST_WORDS} words and {LONGEST_PHRASE} characters; "
            "longer messages change no consent"
        )
    return found


Phrase = Annotated[str, StringConstraints(min_length=1, max_length=_READ), AfterValidator(_phrase)]
Phrases = Annotated[tuple[Phrase, ...], Field(max_length=100)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$")]


class WordsOfLanguage(BaseModel):
    """A language's words and phrases. A list that is left out is our default for the language; an empty one removes
    it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stop: Phrases | None = None
    start: Phrases | None = None
    stop_marketing: Phrases | None = None
    start_marketing: Phrases | None = None


class ConsentSettings(BaseModel):
    """`consents` of a tenant's settings: `{"words": {"es": {"stop": ["baja"], "start": ["alta"]}}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: Annotated[dict[Language, WordsOfLanguage], Field(max_length=50)] = {}


def _usual(stop: str = "", start: str = "", stop_marketing: str = "", start_marketing: str = "") -> WordsOfLanguage:
    lists = (stop, start, stop_marketing, start_marketing)
    return WordsOfLanguage(
        **{name: tuple(text.split(", ")) for name, text in zip(_MEANINGS, lists, strict=True) if text}
    )


_MEANINGS: Final[Mapping[str, Change]] = MappingProxyType(
    {
        "stop": Change("opted_out"),
        "start": Change("opted_in"),
        "stop_marketing": Change("opted_out", "marketing"),
        "start_marketing": Change("opted_in", "marketing"),
    }
)
# Only words that mean nothing else: in a chat with a bot, `cancelar` is about an appointment and `salir` leaves a menu.
# For marketing: the labels of the buttons that Meta's template editor and bulk senders put below an offer.
DEFAULTS: Final[Mapping[str, WordsOfLanguage]] = MappingProxyType(
    {
        "en": _usual(
            "stop, stopall, stop all, unsubscribe, revoke, optout, opt-out, opt out",
            "start, unstop",
            "stop promotions, stop promotion, stop promos, stop promo, stop marketing, stop marketing messages, "
            "stop offers, stop ads, no promotions, no more promotions, unsubscribe from promos, "
            "unsubscribe from promotions, unsubscribe from marketing, opt out of promotions, opt out of marketing",
            "start promotions, resume promotions, subscribe to promos, subscribe to promotions, start marketing, "
            "resume marketing",
        ),
        "es": _usual(
            "baja, parar, desuscribir, desuscribirme, dar de baja, darme de baja, darse de baja",
            "alta, suscribir, suscribirme, darme de alta",
            "detener promociones, detener las promociones, parar promociones, cancelar promociones, "
            "no más promociones, no quiero promociones, dejar de recibir promociones, detener ofertas, "
            "detener publicidad, no quiero publicidad, baja de promociones",
            "reanudar promociones, recibir promociones, activar promociones, reanudar ofertas",
        ),
        "pt": _usual(
            "parar, pare, descadastrar, cancelar inscrição",
            "cadastrar, assinar",
            "parar promoções, parar as promoções, interromper promoções, cancelar promoções, não quero promoções, "
            "parar de receber promoções, chega de promoções, sair das promoções, parar ofertas, parar marketing",
            "retomar promoções, receber promoções, ativar promoções",
        ),
        "fr": _usual(
            stop_marketing="arrêter les promotions, arrêter promotions, stopper les promotions, "
            "plus de promotions, se désabonner des promotions, arrêter les promos, arrêter les offres",
            start_marketing="reprendre les promotions, recevoir les promotions",
        ),
        "de": _usual(
            stop_marketing="werbung stoppen, werbung abbestellen, keine werbung, keine werbung mehr, "
            "promotions stoppen, aktionen stoppen, angebote stoppen, angebote abbestellen, werbeaktionen stoppen",
            start_marketing="werbung fortsetzen, angebote fortsetzen, angebote abonnieren",
        ),
        "it": _usual(
            stop_marketing="interrompi promozioni, interrompi le promozioni, ferma promozioni, ferma le promozioni, "
            "stop promozioni, annulla promozioni, basta promozioni, niente promozioni",
            start_marketing="riprendi promozioni, riprendi le promozioni, ricevi promozioni",
        ),
        "nl": _usual(stop_marketing="stop promoties, promoties stoppen", start_marketing="hervat promoties"),
        "id": _usual(stop_marketing="hentikan promosi, berhenti promosi", start_marketing="lanjutkan promosi"),
    }
)
# Twilio acts on these too in SMS, whatever we do. Elsewhere they answer a question.
_ONLY_SMS: Final[Mapping[str, Change]] = {
    "yes": Change("opted_in"), **dict.fromkeys(("cancel", "end", "quit"), Change("opted_out"))
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """The words and phrases that a tenant's customers may use, in all languages."""

    meaning: Mapping[str, Change] = field(default_factory=dict)

    def change_in(self, text: str, kind: ChannelKind) -> Change | None:
        """The change that a message makes; None for nearly all."""
        phrase = phrase_of(text)
        return self.meaning.get(phrase) or (_ONLY_SMS.get(phrase) if kind == "sms" else None)


def words_of(settings: Mapping[str, Any] | None) -> Words:
    """The words of a tenant with these `consents` settings. Raises ValueError that names each wrong field."""
    if not settings:
        return DEFAULT_WORDS
    try:
        read = ConsentSettings.model_validate(settings)
    except ValidationError as error:
        raise ValueError(f"consents: {field_errors(error)}") from error
    return _words(read)


def _words(read: ConsentSettings) -> Words:
    meaning: dict[str, Change] = {}
    both: set[str] = set()
    for language in sorted({*DEFAULTS, *read.words}):
        given = read.words.get(language, WordsOfLanguage())
        usual = DEFAULTS.get(language, WordsOfLanguage())
        for name, change in _MEANINGS.items():
            own: tuple[str, ...] | None = getattr(given, name)
            for phrase in (getattr(usual, name) or ()) if own is None else own:
                if meaning.setdefault(phrase, change) != change:
                    both.add(phrase)
    if both:
        raise ValueError(
            f"consents: words: {', '.join(sorted(both))} would mean two things, such as to stop and to start; "
            "leave it in one list"
        )
    return Words(meaning)


DEFAULT_WORDS: Final = _words(ConsentSettings())

# Message types without words of the customer's own: what they do to a message, what the network reports of them, and
# names of persons, places or products that they share.
_WORDLESS: Final = frozenset(("system", "reaction", "edit", "revoke", "contacts", "location", "order"))


def consent_change(message: InboundMessage, words: Words) -> Change | None:
    """The change that a customer's message makes: by the provider's own reading, else by the meaning of its few words.

    Doubt counts for the opt-out. An opt-out of unproven authorship holds, unless it is known to be another person's; an
    opt-in does not. Words that may be a machine's can opt out, but not in. Text that we made from other data changes
    nothing.
    """
    if message.consent is not None:
        return Change(message.consent)
    if message.wording == "data" or message.message_type in _WORDLESS:
        return None
    change = words.change_in(message.text, message.channel_kind)
    if change is not None and change.state == "opted_in" and message.wording != "own":
        return None
    if change is None or message.authorship == "proven":
        return change
    return replace(change, proven=change.state == "opted_out" and message.authorship == "unknown")


def is_answered(message: InboundMessage, change: Change | None) -> bool:
    """Whether our engine answers the message, as far as consent goes.

    An opt-out is never answered, whatever its scope and even if it may be forged: Twilio confirms it by itself, and the
    customer has asked for no more messages. An opt-in is answered as any other message, unless the provider has
    answered.
    """
    return (change is None or change.state != "opted_out") and not message.answered
