"""The words and phrases by which customers opt out and in, of everything or of marketing, ours and a tenant's own."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions import consents
from shared.domain.channels import Channel, ChannelSettings
from shared.domain.consents import (
    DEFAULT_WORDS,
    Change,
    consent_change,
    is_answered,
    phrase_of,
    scope_of_refusal,
    words_of,
)
from shared.domain.model import Authorship, ChannelKind, InboundMessage, Wording

OUT: Final = Change("opted_out")
IN: Final = Change("opted_in")
NO_PROMOTIONS: Final = Change("opted_out", "marketing")
PROMOTIONS: Final = Change("opted_in", "marketing")


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("STOP", OUT),
        ("stop", OUT),
        ("  Stop!\n", OUT),
        ("“stop”…", OUT),
        ("\uff33\uff34\uff2f\uff30", OUT),
        ("st\u200bop", OUT),
        ("¡BAJA!", OUT),
        ("bájà", OUT),
        ("Parar.", OUT),
        ("Cancelar", None),
        ("salir", None),
        ("opt-out", OUT),
        ("Unsubscribe", OUT),
        ("START", IN),
        ("Alta", IN),
        ("assinar 🙂", IN),
        ("please stop", None),
        ("stop stop", None),
        ("stop\nplease", None),
        ("don't stop", None),
        ("stopp", None),
        ("s.t.o.p", None),
        ("yes", None),
        ("hola", None),
        ("", None),
        ("🙂", None),
        ("!!!", None),
        ("stop" + " " * 100, None),
    ],
)
def test_one_word_alone_changes_a_consent_however_it_is_written(text: str, change: Change | None) -> None:
    assert DEFAULT_WORDS.change_in(text, "whatsapp") == change


@pytest.mark.parametrize(("kind", "change"), [("sms", IN), ("whatsapp", None), ("email", None)])
def test_yes_is_start_where_twilio_takes_it_for_that(kind: ChannelKind, change: Change | None) -> None:
    assert DEFAULT_WORDS.change_in("Yes", kind) == change


@pytest.mark.parametrize("word", ["CANCEL", "End", "quit"])
def test_what_twilio_stops_at_in_sms_answers_a_question_elsewhere(word: str) -> None:
    assert DEFAULT_WORDS.change_in(word, "sms") == OUT
    assert DEFAULT_WORDS.change_in(word, "whatsapp") is None


def test_a_tenants_words_stand_in_place_of_a_languages_own() -> None:
    words = words_of({"words": {"es": {"stop": ["¡Basta!"]}, "fr": {"stop": ["Arrêt"], "start": ["reprendre"]}}})
    assert words.change_in("basta", "sms") == OUT
    assert words.change_in("ARRET", "sms") == OUT
    assert words.change_in("Reprendre", "sms") == IN
    assert words.change_in("baja", "sms") is None, "the tenant's list is the language's whole"
    assert words.change_in("alta", "sms") == IN, "what it leaves out stays as it was"
    assert words.change_in("stop", "sms") == OUT, "and so do the other languages"
    assert words_of({"words": {"en": {"stop": []}}}).change_in("stop", "whatsapp") is None
    assert words_of(None) == words_of({}) == DEFAULT_WORDS


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            {"words": {"es": {"stop": ["a b c d e f g"]}}},
            "words.es.stop.0: Value error, is no phrase of at most 6 words",
        ),
        ({"words": {"es": {"stop": ["..."]}}}, "is no phrase"),
        ({"words": {"es": {"stop": ["x" * 70]}}}, "is no phrase"),
        ({"words": {"es": {"stop": "baja"}}}, "words.es.stop"),
        ({"words": {"español": {"stop": ["baja"]}}}, "words.español"),
        ({"words": {"es": {"halt": ["baja"]}}}, "words.es.halt"),
        ({"words": {"es": {"start": ["baja"]}, "pt": {"stop": ["baja"]}}}, "baja would mean two things"),
        ({"words": {"es": {"stop": ["detener promociones"]}}}, "detener promociones would mean two things"),
        ({"words": ["stop"]}, "words"),
        ({"word": {}}, "word"),
    ],
)
def test_words_that_can_not_be_meant_are_refused_by_their_field(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match="consents: ") as refused:
        words_of(settings)
    assert complaint in str(refused.value)


def said(text: str, **more: object) -> InboundMessage:
    fields: dict[str, object] = {"message_type": "text", "text": text, "wording": "own", **more}
    return InboundMessage("1", "sms", (), "+1", **fields)  # type: ignore[arg-type]


def test_what_the_provider_took_it_for_goes_before_the_word() -> None:
    assert consent_change(said("adiós", consent="opted_out"), DEFAULT_WORDS) == OUT
    assert consent_change(said("stop", message_type="button"), DEFAULT_WORDS) == OUT
    for kind in ("system", "reaction", "edit", "revoke"):
        assert consent_change(said("stop", message_type=kind), DEFAULT_WORDS) is None


@pytest.mark.parametrize("kind", ["contacts", "location", "order"])
@pytest.mark.parametrize("name", ["Alta", "start", "stop"])
def test_the_name_of_what_somebody_shares_changes_no_consent(kind: str, name: str) -> None:
    assert consent_change(said(name, message_type=kind), DEFAULT_WORDS) is None


def test_an_opt_out_is_not_answered_and_an_opt_in_is_unless_the_provider_has() -> None:
    assert not is_answered(said("stop"), OUT)
    assert is_answered(said("start"), IN)
    assert is_answered(said("hola"), None)
    assert not is_answered(said("start", answered=True), IN)
    assert not is_answered(said("help", answered=True), None)


@pytest.mark.parametrize(
    ("kind", "sent_at", "took_effect"),
    [
        ("whatsapp", None, 0),
        ("whatsapp", -60, -60),
        ("whatsapp", 60, 0),  # never later than it came
        ("email", -60, 0),  # a mail's date is by its sender's clock
    ],
)
def test_a_word_takes_effect_when_the_network_had_it(kind: ChannelKind, sent_at: int | None, took_effect: int) -> None:
    came = datetime(2026, 1, 1, tzinfo=UTC)
    at = None if sent_at is None else came + timedelta(seconds=sent_at)
    message = InboundMessage("1", kind, (), "+1", "text", text="stop", timestamp=at)
    ids = [UUID(int=number) for number in range(4)]
    channel = Channel(ids[0], ids[1], None, "meta", kind, "+1", "active", ChannelSettings(), came)
    entry = consents.message_consent(channel, message, OUT, ids[2], ids[3], came)
    assert entry.at == came + timedelta(seconds=took_effect)
    assert (entry.message_id, entry.channel_kind, entry.tenant_id) == (ids[3], kind, ids[1])


@pytest.mark.parametrize(
    ("code", "scope"),
    [("21610", "all"), ("63014", "blocked"), ("63033", "marketing"), ("131050", "marketing"), ("?", "all")],
)
def test_a_refusal_says_what_the_contact_has_opted_out_of(code: str, scope: str) -> None:
    assert scope_of_refusal(code) == scope


@given(st.text(max_size=200))
def test_any_text_is_a_few_words_or_none(text: str) -> None:
    phrase = phrase_of(text)
    assert len(phrase) <= 60
    assert len(phrase.split()) <= 6
    assert phrase == " ".join(phrase.split())


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("Stop promotions", NO_PROMOTIONS),
        ("STOP PROMOTIONS!", NO_PROMOTIONS),
        ("stop\n promotions", NO_PROMOTIONS),
        ("Detener promociones", NO_PROMOTIONS),
        ("Parar promoções", NO_PROMOTIONS),
        ("parar promocoes", NO_PROMOTIONS),
        ("Interromper promoções", NO_PROMOTIONS),
        ("Unsubscribe from Promos", NO_PROMOTIONS),
        ("Arrêter les promotions", NO_PROMOTIONS),
        ("Werbung stoppen", NO_PROMOTIONS),
        ("Interrompi promozioni", NO_PROMOTIONS),
        ("No más promociones.", NO_PROMOTIONS),
        ("Resume promotions", PROMOTIONS),
        ("Reanudar promociones", PROMOTIONS),
        ("opt out", OUT),
        ("Dar de baja", OUT),
        ("please stop promotions", None),
        ("when do you stop promotions", None),
        ("promotions", None),
    ],
)
def test_a_marketing_button_changes_marketing_alone(text: str, change: Change | None) -> None:
    assert DEFAULT_WORDS.change_in(text, "whatsapp") == change
    if change is not None:
        assert is_answered(said(text), change) is (change.state == "opted_in"), "no menu for who wants less"


def test_a_tenants_phrases_stand_beside_words() -> None:
    own = {"words": {"es": {"stop": ["Ya no me escriban"], "stop_marketing": ["¡Sin ofertas!"], "start_marketing": []}}}
    words = words_of(own)
    assert words.change_in("ya no me escriban", "whatsapp") == OUT
    assert words.change_in("sin ofertas", "whatsapp") == NO_PROMOTIONS
    assert words.change_in("detener promociones", "whatsapp") is None
    assert words.change_in("reanudar promociones", "whatsapp") is None
    assert words.change_in("stop promotions", "whatsapp") == NO_PROMOTIONS


@pytest.mark.parametrize(
    ("authorship", "stops", "starts"), [("proven", True, True), ("unknown", True, False), ("refuted", False, False)]
)
def test_an_unproven_sender_can_opt_out_and_never_in(authorship: Authorship, stops: bool, starts: bool) -> None:
    for text, holds in (("stop", stops), ("start", starts), ("stop promotions", stops)):
        change = consent_change(said(text, authorship=authorship), DEFAULT_WORDS)
        assert change is not None
        assert change.proven is holds, text
        assert is_answered(said(text), change) is (text == "start"), "and a forged opt-out is not answered either"


@pytest.mark.parametrize(
    ("wording", "stops", "starts"), [("own", True, True), ("unclear", True, False), ("data", False, False)]
)
def test_what_may_be_a_machines_word_opts_out_at_most_and_data_says_nothing(
    wording: Wording, stops: bool, starts: bool
) -> None:
    for text, counts in (("stop", stops), ("start", starts), ("stop promotions", stops), ("resume promotions", starts)):
        assert (consent_change(said(text, wording=wording), DEFAULT_WORDS) is not None) is counts, text


def test_a_provider_that_does_not_say_whose_words_they_are_opts_nobody_in() -> None:
    for text, change in (("stop", OUT), ("start", None)):
        assert consent_change(InboundMessage("1", "sms", (), "+1", "text", text=text), DEFAULT_WORDS) == change
