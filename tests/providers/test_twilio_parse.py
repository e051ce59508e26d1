"""What we make of Twilio's webhooks. Fields as Twilio documents them; values are ours."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.model import InboundMessage, Media, Receipt
from shared.providers.base import SOLE_CHANNEL, Parsed, RawWebhook
from shared.providers.twilio.webhooks import parse

URL = "https://palomar.example.com/webhooks/twilio/01890000-0000-7000-8000-000000000001"
SID = "SM00000000000000000000000000000001"
WHATSAPP = {
    "MessageSid": SID,
    "SmsSid": SID,
    "SmsMessageSid": SID,
    "AccountSid": "AC00000000000000000000000000000001",
    "From": "whatsapp:+5215512345678",
    "To": "whatsapp:+14155238886",
    "Body": "hola",
    "NumMedia": "0",
    "NumSegments": "1",
    "SmsStatus": "received",
    "ProfileName": "Ana",
    "WaId": "5215512345678",
    "MessageType": "text",
    "ApiVersion": "2010-04-01",
}
STATUS = {
    "MessageSid": SID,
    "SmsSid": SID,
    "MessageStatus": "delivered",
    "SmsStatus": "delivered",
    "To": "whatsapp:+5215512345678",
    "From": "whatsapp:+14155238886",
    "ChannelPrefix": "whatsapp",
    "ChannelToAddress": "+521551234XXXX",
    "EventType": "DELIVERED",
}


def form(fields: dict[str, str], url: str = URL) -> RawWebhook:
    return RawWebhook("POST", url, "application/x-www-form-urlencoded", {}, urlencode(fields).encode())


def message(fields: dict[str, str] | None = None, without: tuple[str, ...] = (), **changed: str) -> InboundMessage:
    given_fields = {**WHATSAPP, **(fields or {}), **changed}
    parsed = parse(form({name: value for name, value in given_fields.items() if name not in without}))
    assert (parsed.errors, parsed.receipts) == ((), ())
    return parsed.messages[0]


def receipt(url: str = URL, without: tuple[str, ...] = (), **changed: str) -> Receipt:
    fields = {name: value for name, value in {**STATUS, **changed}.items() if name not in without}
    parsed = parse(form(fields, url))
    assert (parsed.errors, parsed.messages) == ((), ())
    return parsed.receipts[0]


# -- a customer's message ----------------------------------------------------------------------------------------------


def test_a_whatsapp_message() -> None:
    read = message()
    assert (read.external_id, read.channel_kind, read.message_type) == (SID, "whatsapp", "text")
    assert (read.text, read.contact_name, read.timestamp) == ("hola", "Ana", None)
    assert (read.given_from, read.given_to) == ("whatsapp:+5215512345678", "whatsapp:+14155238886")
    assert [(who.kind, who.given, who.canonical) for who in read.sender] == [
        ("phone", "+5215512345678", "+525512345678")
    ]
    assert read.channel_address == "+14155238886"


def test_an_sms() -> None:
    read = message(From="+14155551212", To="+14155238886", without=("ProfileName", "WaId", "MessageType"))
    assert (read.channel_kind, read.message_type, read.sender[0].canonical) == ("sms", "text", "+14155551212")


@pytest.mark.parametrize("sender", ["12345", "Foo"])
def test_an_sms_from_a_short_code_or_a_name(sender: str) -> None:
    assert message(From=sender, To="+14155238886").sender[0].canonical == sender


def test_a_customer_without_a_number_is_known_by_the_user_id() -> None:
    read = message(From="whatsapp:US.13491208655302741918", without=("WaId",))
    assert [(who.kind, who.canonical) for who in read.sender] == [("user_id", "US.13491208655302741918")]


def test_the_user_id_at_the_whole_portfolio_is_the_customers_too() -> None:
    ids = {"ExternalUserId": "MX.4566546130240823", "ParentExternalUserId": "MX.ENT.1"}
    assert [who.canonical for who in message(ids).sender] == ["+525512345678", "MX.4566546130240823", "MX.ENT.1"]


def test_a_user_name_stands_in_for_a_missing_name() -> None:
    assert message(ProfileName="", ProfileUsername="ana.g").contact_name == "ana.g"
    assert message(ProfileUsername="ana.g").contact_name == "Ana"


@pytest.mark.parametrize("field", ["ButtonText", "ListTitle"])
def test_what_was_tapped_is_what_a_customer_says_in_whatsapp(field: str) -> None:
    assert message({field: "Sí"}).text == "Sí"
    assert message({field: "Sí"}, Body="").text == "Sí"
    assert message({field: ""}).text == "hola"
    sms = message({field: "Sí"}, From="+14155551212", To="+14155238886")
    assert sms.text == "hola"


def test_a_message_with_which_nothing_came_is_one_all_the_same() -> None:
    nothing = ("Body", "NumMedia", "MessageType", "SmsStatus")
    read = message(without=nothing)
    assert (read.external_id, read.message_type, read.text) == (SID, "unsupported", "")
    assert message(Body="", without=("MessageType", "SmsStatus")).message_type == "text"


@pytest.mark.parametrize(
    "fields",
    [
        {"ExternalUserId": "whatsapp:MX.4566546130240823"},
        {"From": "whatsapp:MX.4566546130240823"},
    ],
)
def test_number_and_user_id_are_one_customer_named_by_the_number(fields: dict[str, str]) -> None:
    kinds = [(who.kind, who.canonical) for who in message(fields).sender]
    assert kinds == [("phone", "+525512345678"), ("user_id", "MX.4566546130240823")]


@pytest.mark.parametrize(
    ("fields", "message_type"),
    [
        ({"MessageType": "image", "MediaContentType0": "image/jpeg"}, "image"),
        ({"MessageType": "audio", "MediaContentType0": "audio/ogg"}, "audio"),
        ({"MessageType": "video", "MediaContentType0": "video/mp4"}, "video"),
        ({"MessageType": "document", "MediaContentType0": "application/pdf"}, "file"),
        ({"MessageType": "sticker", "MediaContentType0": "image/webp"}, "sticker"),
        ({"MessageType": "contacts", "MediaContentType0": "text/vcard"}, "contacts"),
        ({"MessageType": "", "MediaContentType0": "image/png"}, "image"),
        ({"MessageType": "", "MediaContentType0": "image/webp"}, "sticker"),
        ({"MessageType": "", "MediaContentType0": "text/x-vcard; charset=utf-8"}, "contacts"),
        ({"MessageType": "", "MediaContentType0": "application/ogg"}, "audio"),
        ({"MessageType": "", "MediaContentType0": ""}, "file"),
        ({"MessageType": "text", "MediaContentType0": "VIDEO/3gpp"}, "video"),
        ({"MessageType": "", "MediaContentType0": "image/webp", "From": "+14155551212"}, "image"),
    ],
)
def test_the_kind_of_media(fields: dict[str, str], message_type: str) -> None:
    assert message({"NumMedia": "1", "MediaUrl0": "https://m/0", **fields}).message_type == message_type


@pytest.mark.parametrize(
    ("fields", "message_type", "text"),
    [
        ({"ButtonText": "Sí", "ButtonPayload": "yes", "Body": "", "MessageType": "button"}, "button", "Sí"),
        ({"ButtonText": "Sí", "Body": "Sí", "MessageType": "interactive"}, "button", "Sí"),
        ({"ListId": "1", "ListTitle": "Norte", "Body": "", "MessageType": "interactive"}, "button", "Norte"),
        ({"Latitude": "19.4", "Longitude": "-99.1", "Body": "", "MessageType": "location"}, "location", "19.4, -99.1"),
        (
            {"Latitude": "19.4", "Longitude": "-99.1", "Label": "Casa", "Address": "Calle 1", "Body": ""},
            "location",
            "Casa\nCalle 1\n19.4, -99.1",
        ),
        ({"Latitude": "19.4", "Longitude": "-99.1", "Body": "aquí", "MessageType": ""}, "location", "aquí"),
        ({"ButtonPayload": "yes", "Body": "", "MessageType": "button"}, "button", "yes"),
        ({"ListId": "north", "Body": "", "MessageType": "interactive"}, "button", "north"),
        (
            {"InteractiveData": '{"name": "Ana", "flow_token": "x"}', "Body": "", "MessageType": "interactive"},
            "button",
            "name: Ana",
        ),
        ({"Body": "", "MessageType": "unknown_to_us"}, "unsupported", ""),
        ({"Body": "hola", "MessageType": "unknown_to_us"}, "text", "hola"),
        ({"Body": "", "MessageType": ""}, "text", ""),
    ],
)
def test_the_kind_of_a_message_without_media(fields: dict[str, str], message_type: str, text: str) -> None:
    read = message(fields)
    assert (read.message_type, read.text) == (message_type, text)


def test_rcs_is_a_text_of_the_endpoints_sms_channel() -> None:
    read = message(From="rcs:+525512345678", To="rcs:tienda_x1y2_agent", Body="hola", without=("WaId",))
    assert (read.channel_kind, read.channel_address, read.text) == ("sms", SOLE_CHANNEL, "hola")
    assert [(who.kind, who.given) for who in read.sender] == [("phone", "+525512345678")]


def test_a_receipt_of_what_left_by_rcs_is_the_sms_channels() -> None:
    read = receipt(To="rcs:+525512345678", From="rcs:tienda_x1y2_agent", ChannelPrefix="rcs")
    assert (read.channel_kind, read.recipient) == ("sms", "+525512345678")


def test_media_are_read_whatever_their_count_says() -> None:
    fields = {"MediaUrl2": "https://m/2", "MediaUrl0": "https://m/0", "MediaContentType0": "image/jpeg"}
    expected = (Media(url="https://m/0", mime_type="image/jpeg"), Media(url="https://m/2"))
    for count in ("0", "3", "-1", "9" * 50, "many", ""):
        assert message(fields, NumMedia=count).media == expected
    assert message(fields, without=("NumMedia", "Body")).media == expected
    only = {"MessageSid": SID, "From": "+14155551212", "To": "+14155238886", "MediaUrl1": "https://m/1"}
    assert parse(form(only)).messages[0].media == (Media(url="https://m/1"),)


def test_the_message_it_answers() -> None:
    assert message(OriginalRepliedMessageSid="MM2").reply_to == "MM2"


def test_fields_we_have_no_name_for_are_kept() -> None:
    fields = {"ButtonPayload": "yes", "ReferralSourceId": "1", "Latitude": "1", "ChannelMetadata": "{}", "Novel": "x"}
    extra = message(fields).extra
    assert {name: extra[name] for name in fields} == fields
    assert {"Body", "From", "To", "MessageSid", "ProfileName"}.isdisjoint(extra)


def test_a_repeated_field_is_kept_whole() -> None:
    body = urlencode([*WHATSAPP.items(), ("Novel", "1"), ("Novel", "2")]).encode()
    read = parse(RawWebhook("POST", URL, "application/x-www-form-urlencoded", {}, body))
    assert read.messages[0].extra["Novel"] == ["1", "2"]


@pytest.mark.parametrize(
    ("word", "change", "consent"), [("STOP", "opt_out", "opted_out"), ("START", "opt_in", "opted_in")]
)
def test_an_opt_out_is_a_notice_beside_its_message(word: str, change: str, consent: str) -> None:
    parsed = parse(form({**WHATSAPP, "Body": word, "OptOutType": word}))
    assert (parsed.messages[0].consent, parsed.messages[0].answered) == (consent, True)
    assert parsed.messages[0].extra["OptOutType"] == word
    assert [(notice.name, notice.data) for notice in parsed.notices] == [
        ("consent", {"change": change, "address": "+525512345678"})
    ]


def test_a_request_for_help_changes_no_consent() -> None:
    parsed = parse(form({**WHATSAPP, "OptOutType": "HELP"}))
    assert parsed.notices == ()
    assert (parsed.messages[0].consent, parsed.messages[0].answered) == (None, True)
    assert parse(form(WHATSAPP)).messages[0].answered is False


@pytest.mark.parametrize("name", ["MessageSid", "SmsSid", "SmsMessageSid"])
def test_any_of_the_names_of_the_sid_will_do(name: str) -> None:
    others = tuple({"MessageSid", "SmsSid", "SmsMessageSid"} - {name})
    assert message(without=others).external_id == SID


@pytest.mark.parametrize("missing", [("SmsStatus",), ("SmsStatus", "NumMedia", "MessageType")])
def test_a_message_needs_no_status(missing: tuple[str, ...]) -> None:
    assert message(without=missing).text == "hola"


def test_a_message_to_nobody_in_particular_stands() -> None:
    assert message(without=("To",)).channel_address == ""
    assert message(MessagingServiceSid="MG1", without=("To",)).channel_address == "MG1"


def test_a_message_by_get_or_json_reads_like_one_by_form() -> None:
    by_get = RawWebhook("GET", f"{URL}?{urlencode(WHATSAPP)}", "", {}, b"Body=ignored")
    by_json = RawWebhook("POST", URL, "application/json; charset=utf-8", {}, orjson.dumps(WHATSAPP))
    assert parse(by_get) == parse(by_json) == parse(form(WHATSAPP))


def test_json_values_read_as_the_form_would_hold_them() -> None:
    body = orjson.dumps({**WHATSAPP, "NumMedia": 1, "MediaUrl0": "https://m/0", "Novel": {"a": [1]}, "Label": None})
    read = parse(RawWebhook("POST", URL, "application/json", {}, body)).messages[0]
    assert (read.media, read.extra["Novel"], read.extra["Label"]) == ((Media(url="https://m/0"),), '{"a":[1]}', "")


# -- a receipt ---------------------------------------------------------------------------------------------------------


def test_a_receipt() -> None:
    read = receipt()
    assert (read.external_id, read.status, read.channel_kind) == (SID, "delivered", "whatsapp")
    assert (read.recipient, read.error_code, read.error_message) == ("+525512345678", None, None)
    assert read.extra["ChannelToAddress"] == "+521551234XXXX"


@pytest.mark.parametrize(
    "status",
    ["accepted", "scheduled", "queued", "sending", "sent", "delivered", "undelivered", "failed", "read", "canceled",
     "partially_delivered", "receiving", "received", "SENT"],
)  # fmt: skip
def test_every_status_is_the_providers_word(status: str) -> None:
    assert receipt(MessageStatus=status).status == status.lower()


def test_a_receipt_of_whatsapp_may_say_it_as_an_event() -> None:
    assert receipt(EventType="READ", without=("MessageStatus", "SmsStatus")).status == "read"


def test_a_failure_says_why() -> None:
    read = receipt(MessageStatus="undelivered", ErrorCode="63016", ErrorMessage="outside the window")
    assert (read.error_code, read.error_message) == ("63016", "outside the window")
    assert receipt(ErrorCode="0").error_code is None


@pytest.mark.parametrize(
    ("query", "ours"),
    [
        ("?m=01890000-0000-7000-8000-000000000002", UUID("01890000-0000-7000-8000-000000000002")),
        ("?x=1&m=01890000-0000-7000-8000-000000000002#rc=5", UUID("01890000-0000-7000-8000-000000000002")),
        ("?m=not-ours", None),
        ("?m=", None),
        ("", None),
    ],
)
def test_our_own_id_comes_back_in_the_query(query: str, ours: UUID | None) -> None:
    assert receipt(URL + query).message_id == ours


def test_received_without_content_is_a_status_and_with_content_a_message() -> None:
    bare = {"MessageSid": SID, "MessageStatus": "received", "From": "+14155551212", "To": "+14155238886"}
    assert [r.status for r in parse(form(bare)).receipts] == ["received"]
    assert [m.text for m in parse(form({**bare, "Body": "hola"})).messages] == ["hola"]


def test_a_status_with_a_body_is_still_a_status() -> None:
    assert receipt(Body="what we sent", MessageStatus="sent").status == "sent"


# -- neither -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"From": "+14155551212", "Body": "hola"}, "MessageSid"),
        ({"MessageSid": SID, "To": "+14155551212"}, "From"),
        ({**WHATSAPP, "From": ""}, "From"),
        ({**WHATSAPP, "From": "\x00"}, "From"),
        ({**WHATSAPP, "From": "messenger:123456789", "To": "messenger:987654321"}, "messenger"),
        ({str(number): "" for number in range(1000)}, "fields"),
    ],
)
def test_what_cannot_be_read_is_named(fields: dict[str, str], named: str) -> None:
    parsed = parse(form(fields))
    assert (parsed.messages, parsed.receipts) == ((), ())
    assert named in parsed.errors[0]


@pytest.mark.parametrize("body", [b"", b"[1]", b"MessageSid=SM1", b'{"MessageSid": "\\ud800"}', b"\xff", b"[" * 5000])
def test_json_that_is_none_is_named(body: bytes) -> None:
    assert parse(RawWebhook("POST", URL, "application/json", {}, body)).errors[0].startswith("body: ")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"ConversationSid": "CH1", "EventType": "onMessageAdded", "MessageSid": "IM1", "Body": "x"}, "conversation"),
        ({"CallSid": "CA1", "CallStatus": "ringing"}, "call"),
        ({"CallSid": "CA1", "CallStatus": "ringing", "From": "+14155551212", "To": "+14155238886"}, "call"),
        ({}, "empty"),
        ({" ": ""}, "empty"),
    ],
)
def test_another_products_webhook_is_noted_and_left_alone(fields: dict[str, str], name: str) -> None:
    parsed = parse(form(fields))
    assert [(notice.name, notice.data) for notice in parsed.notices] == [(name, fields)]
    assert (parsed.messages, parsed.receipts, parsed.errors) == ((), (), ())


# -- anything at all ---------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([*WHATSAPP, *STATUS, "MediaUrl0", "MediaUrl99", "MediaContentType1", "OptOutType", "Latitude"])
VALUES = st.text(max_size=30) | st.sampled_from([*WHATSAPP.values(), *STATUS.values(), "\x00", "whatsapp:", "STOP"])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | VALUES, lambda inner: st.lists(inner)
)


def is_whole(parsed: Parsed) -> bool:
    """Something is always said, and every message and receipt can be stored."""
    for read in parsed.messages:
        assert read.external_id
        assert read.sender
        orjson.dumps(read.extra)
    for receipt in parsed.receipts:
        assert receipt.external_id
        assert receipt.status
        orjson.dumps(receipt.extra)
    return bool(parsed.messages or parsed.receipts or parsed.notices or parsed.errors)


@given(
    st.sampled_from(["POST", "GET", "PUT", ""]),
    st.text(max_size=40) | st.just(URL + "?m=%ff"),
    st.sampled_from(["application/x-www-form-urlencoded", "application/json", "", "text/plain"]),
    st.binary(max_size=300),
)
def test_any_bytes_give_an_answer(method: str, url: str, content_type: str, body: bytes) -> None:
    assert is_whole(parse(RawWebhook(method, url, content_type, {}, body)))


@given(st.dictionaries(NAMES, VALUES.filter(lambda text: text.isprintable() or text == "\x00")))
def test_any_mixture_of_fields_gives_an_answer(fields: dict[str, str]) -> None:
    assert is_whole(parse(form(fields)))


@given(st.dictionaries(NAMES, JSON.filter(lambda value: "\\ud" not in ascii(value))))
def test_any_json_gives_an_answer(fields: dict[str, Any]) -> None:
    try:
        body = orjson.dumps(fields)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits
        return
    assert is_whole(parse(RawWebhook("POST", URL, "application/json", {}, body)))


@given(st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 3))
def test_a_damaged_webhook_gives_an_answer(at: int, put: bytes, drop: int) -> None:
    body = form({**WHATSAPP, "MediaUrl0": "https://m/0", "OptOutType": "STOP"}).body
    place = at % len(body)
    damaged = body[:place] + put + body[place + drop :]
    assert is_whole(parse(RawWebhook("POST", URL, "application/x-www-form-urlencoded", {}, damaged)))


def test_deeply_nested_json_gives_an_answer() -> None:
    body = b'{"MessageSid": "SM1", "From": "+14155551212", "Body": "x", "Novel": ' + b"[" * 900 + b"]" * 900 + b"}"
    assert is_whole(parse(RawWebhook("POST", URL, "application/json", {}, body)))
