"""What each provider's messages say of being written to: by what customers wrote or tapped, and by nothing else."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
import pytest

from shared.domain.consents import DEFAULT_WORDS, Change, consent_change
from shared.domain.model import InboundMessage
from shared.providers.base import Parsed
from shared.providers.email.webhooks import parse
from shared.providers.kommo import webhooks as kommo
from shared.providers.twilio import webhooks
from tests.providers.test_twilio_parse import WHATSAPP
from tests.providers.test_twilio_parse import form as twilios
from tests.support.email_payloads import said as mail
from tests.support.kommo_payloads import added, chats, chats_raw, crm, form, said
from tests.support.meta_payloads import entry, of_type, read, value
from tests.support.meta_payloads import said as metas

WORDS: Final = ("START", "STOP", "hola")
BOTH: Final = (Change("opted_in"), Change("opted_out"), None)  # what WORDS change where the customer said them
OUT_ONLY: Final = (None, Change("opted_out"), None)
NOTHING: Final = (None, None, None)
SIGNED: Final = (  # by mail programs on phones
    "Sent from my iPhone",
    "Sent from my Galaxy",
    "Sent from my iPhone\n\n> On 3 Feb 2026, at 10:00, Shop <shop@example.com> wrote:\n> Offers",
    "Sent from Yahoo Mail for iPhone",
    "Sent from Outlook for Android",
    "Get Outlook for iOS<https://aka.ms/o0ukef>",
    "Enviado desde mi iPhone",
    "Enviado do meu iPhone",
    "Envoyé de mon iPhone",
    "Inviato da iPhone",
    "Von meinem iPhone gesendet",
    "Gesendet von Outlook für Android",
)


def changes(parsed: Parsed) -> Change | None:
    assert (parsed.errors, len(parsed.messages)) == ((), 1)
    message: InboundMessage = parsed.messages[0]
    return consent_change(message, DEFAULT_WORDS)


def filled(part: Any, word: str) -> Any:
    """The part with the word in the place of `?`."""
    return orjson.loads(orjson.dumps(part).replace(b"?", word.encode()))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"Body": "?"}, BOTH),
        ({"Body": "?", "From": "+5215512345678", "To": "+14155238886"}, BOTH),
        ({"Body": "?", "MediaUrl0": "https://m/0", "MediaContentType0": "image/jpeg"}, BOTH),
        ({"ButtonText": "?", "ButtonPayload": "x", "Body": ""}, BOTH),
        ({"ButtonText": "?", "ButtonPayload": "?", "Body": "?"}, BOTH),
        ({"ListTitle": "?", "ListId": "x", "Body": "x"}, BOTH),
        ({"ButtonText": "Sí", "ButtonPayload": "?", "Body": "Sí"}, NOTHING),
        ({"ListTitle": "Norte", "ListId": "?", "Body": "?"}, NOTHING),
        ({"ButtonPayload": "?", "Body": ""}, OUT_ONLY),
        ({"ButtonPayload": "?", "Body": "?"}, OUT_ONLY),
        ({"ListId": "?", "Body": ""}, OUT_ONLY),
        ({"ListId": "?", "Body": "?"}, OUT_ONLY),
        ({"InteractiveData": '{"name": "x"}', "Body": "?"}, OUT_ONLY),
        ({"InteractiveData": '{"?": "?"}', "Body": ""}, NOTHING),
        ({"FlowData": '{"": "?"}', "Body": ""}, NOTHING),
        ({"Latitude": "1", "Longitude": "2", "Label": "?", "Body": ""}, NOTHING),
        ({"Latitude": "1", "Longitude": "2", "Body": "?"}, NOTHING),
        ({"Body": "?", "MediaUrl0": "https://m/0", "MediaContentType0": "text/vcard"}, NOTHING),
    ],
)
def test_twilio(sent: Mapping[str, str], expected: tuple[Change | None, ...]) -> None:
    for word, change in zip(WORDS, expected, strict=True):
        assert changes(webhooks.parse(twilios({**WHATSAPP, **filled(sent, word)}))) == change, word


@pytest.mark.parametrize(
    ("kind", "part", "expected"),
    [
        ("text", {"body": "?"}, BOTH),
        ("image", {"id": "1", "caption": "?"}, BOTH),
        ("button", {"text": "?", "payload": "x"}, BOTH),
        ("button", {"text": "Sí", "payload": "?"}, NOTHING),
        ("button", {"payload": "?"}, OUT_ONLY),
        ("interactive", {"type": "button_reply", "button_reply": {"id": "x", "title": "?"}}, BOTH),
        ("interactive", {"type": "button_reply", "button_reply": {"id": "?", "title": "Sí"}}, NOTHING),
        ("interactive", {"type": "button_reply", "button_reply": {"id": "?"}}, OUT_ONLY),
        ("interactive", {"type": "list_reply", "list_reply": {"title": "?", "id": "x"}}, BOTH),
        ("interactive", {"type": "list_reply", "list_reply": {"id": "?"}}, OUT_ONLY),
        ("interactive", {"type": "nfm_reply", "nfm_reply": {"response_json": '{"?": "?"}', "body": "?"}}, NOTHING),
        ("interactive", {"type": "nfm_reply", "nfm_reply": {"response_json": '{"": "?"}'}}, NOTHING),
        ("interactive", {"type": "nfm_reply", "nfm_reply": {"response_json": "{}", "body": "?"}}, OUT_ONLY),
        ("interactive", {"type": "novel", "novel": {"": "?"}}, NOTHING),
        ("contacts", [{"name": {"formatted_name": "?"}}], NOTHING),
        ("location", {"name": "?"}, NOTHING),
        ("order", {"text": "?"}, NOTHING),
        ("reaction", {"message_id": "wamid.1", "emoji": "?"}, NOTHING),
        ("edit", {"original_message_id": "wamid.1", "message": {"type": "text", "text": {"body": "?"}}}, NOTHING),
        ("system", {"body": "?"}, NOTHING),
        ("novel", {"text": "?"}, OUT_ONLY),
        ("novel", "?", OUT_ONLY),
    ],
)
def test_meta(kind: str, part: Any, expected: tuple[Change | None, ...]) -> None:
    for word, change in zip(WORDS, expected, strict=True):
        assert changes(read(entry(value(of_type(kind, filled(part, word)))))) == change, word


def test_meta_where_a_type_without_a_name_of_ours_brings_a_text_as_any_text() -> None:
    for word, change in zip(WORDS, BOTH, strict=True):
        assert changes(read(entry(value(metas(type="ephemeral", text={"body": word}))))) == change, word


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"text": "?"}, BOTH),
        ({"text": "", "contact__name": "?"}, NOTHING),
        ({"text": "", "location__title": "?"}, NOTHING),
        ({"text": "", "message_type": "contact", "contact__name": "?"}, NOTHING),
        ({"text": "?", "message_type": "location"}, NOTHING),
    ],
)
def test_kommos_crm(sent: Mapping[str, str], expected: tuple[Change | None, ...]) -> None:
    for word, change in zip(WORDS, expected, strict=True):
        assert changes(kommo.parse(crm(form(added("message", said(**filled(sent, word))))))) == change, word


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"text": "?"}, BOTH),
        ({"text": "", "contact": {"name": "?"}}, NOTHING),
        ({"text": "", "location": {"title": "?"}}, NOTHING),
        ({"text": "", "type": "contact", "contact": {"name": "?"}}, NOTHING),
    ],
)
def test_kommos_chats(sent: Mapping[str, Any], expected: tuple[Change | None, ...]) -> None:
    for word, change in zip(WORDS, expected, strict=True):
        webhook = chats(filled(sent, word), receiver=None, sender={"id": "c", "name": "Ana"})
        assert changes(kommo.parse(chats_raw(webhook))) == change, word


@pytest.mark.parametrize(
    ("subject", "text", "expected"),
    [
        ("Precio", "?", BOTH),
        ("?", "", BOTH),
        ("?", "gracias", NOTHING),
        *(("Precio", f"?\n\n{signed}", BOTH) for signed in SIGNED),
        ("Precio", "?\n\nEnviado desde Lima, el lunes", NOTHING),
    ],
)
def test_email(subject: str, text: str, expected: tuple[Change | None, ...]) -> None:
    for word, change in zip(WORDS, expected, strict=True):
        webhook = mail(subject=subject.replace("?", word), text=text.replace("?", word))
        assert changes(parse(webhook)) == change, word
