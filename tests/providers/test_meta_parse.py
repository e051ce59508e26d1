"""What we make of Meta's webhooks. Fields as Meta documents them; values are ours."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from shared.domain.model import AgentMessage, InboundMessage, Media, Pricing, Receipt
from shared.providers.base import Notice, TemplateChange
from shared.providers.meta.webhooks import parse
from tests.support.meta_payloads import (
    ACCOUNT,
    CUSTOMER,
    PHONE_NUMBER_ID,
    WAMID,
    Json,
    entry,
    of_type,
    raw,
    read,
    receipt_json,
    said,
    value,
)

USER_ID = "MX.4566546130240823"
OURS = UUID("01890000-0000-7000-8000-000000000002")


def message(item: Json, **more: Any) -> InboundMessage:
    parsed = read(entry(value(item, **more)))
    assert (parsed.errors, parsed.receipts) == ((), ())
    return parsed.messages[0]


def receipt(**changed: Any) -> Receipt:
    parsed = read(entry(value(statuses=(receipt_json(**changed),))))
    assert (parsed.errors, parsed.messages) == ((), ())
    return parsed.receipts[0]


# -- a customer's message ----------------------------------------------------------------------------------------------


def test_a_text_message() -> None:
    one = message(said())
    assert (one.external_id, one.channel_kind, one.message_type, one.text) == (WAMID, "whatsapp", "text", "hola")
    assert (one.contact_name, one.channel_address) == ("Ana", PHONE_NUMBER_ID)
    assert one.timestamp == datetime(2026, 1, 1, tzinfo=UTC)
    assert [(who.kind, who.given, who.canonical) for who in one.sender] == [("phone", f"+{CUSTOMER}", "+525512345678")]
    assert (one.given_from, one.given_to) == (CUSTOMER, "15550783881")


@pytest.mark.parametrize(
    ("kind", "part", "message_type", "text", "media"),
    [
        ("image", {"id": "1", "mime_type": "image/jpeg", "sha256": "x", "caption": "mira"}, "image", "mira",
         Media(id="1", mime_type="image/jpeg", sha256="x")),
        ("audio", {"id": "2", "mime_type": "audio/ogg; codecs=opus", "voice": True}, "audio", "",
         Media(id="2", mime_type="audio/ogg; codecs=opus")),
        ("video", {"id": "3", "mime_type": "video/mp4", "url": "https://m/3"}, "video", "",
         Media(url="https://m/3", id="3", mime_type="video/mp4")),
        ("document", {"id": "4", "mime_type": "application/pdf", "filename": "a.pdf"}, "file", "",
         Media(id="4", mime_type="application/pdf", filename="a.pdf")),
        ("sticker", {"id": 5, "mime_type": "image/webp", "animated": True}, "sticker", "",
         Media(id="5", mime_type="image/webp")),
    ],
)  # fmt: skip
def test_media(kind: str, part: Json, message_type: str, text: str, media: Media) -> None:
    one = message(of_type(kind, part))
    assert (one.message_type, one.text, one.media) == (message_type, text, (media,))
    assert one.extra[kind] == part


@pytest.mark.parametrize(
    ("kind", "part", "message_type", "text", "reply_to"),
    [
        ("location", {"latitude": 19.4, "longitude": -99.1, "name": "Casa"}, "location", "Casa\n19.4, -99.1", None),
        ("location", {"latitude": -10.93941311633, "longitude": "-10.6", "address": "Calle 1", "url": "https://f/1"},
         "location", "Calle 1\n-10.93941312, -10.6\nhttps://f/1", None),
        ("location", {"latitude": [], "longitude": True}, "location", "", None),
        ("contacts", [{"name": {"formatted_name": "Luis"}}], "contacts", "Luis", None),
        ("contacts", [{"name": {"first_name": "Luis"}, "phones": [{"phone": "+52 55 1"}, {"wa_id": "2"}]},
                      {"phones": [{"phone": "+34 6"}]}, {"name": "odd", "phones": [3]}, 4], "contacts",
         "Luis: +52 55 1, 2\n+34 6", None),
        ("contacts", [{"name": {}}], "contacts", "", None),
        ("interactive", {"type": "button_reply", "button_reply": {"id": "b", "title": "Sí"}}, "button", "Sí", None),
        ("interactive", {"type": "list_reply", "list_reply": {"id": "l", "title": "Norte"}}, "button", "Norte", None),
        ("interactive", {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "{}"}}, "button", "Sent",
         None),
        ("interactive", {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json":
            '{"flow_token": "x", "screen_0_First_name_0": "Ana", "size": ["M", 40.5], "gift": true, "no": null,'
            ' "where": {"city": "Puebla"}}'}}, "button",
         "First name: Ana\nsize: M, 40.5\ngift: true\ncity: Puebla", None),
        ("interactive", {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "[1"}}, "button", "Sent",
         None),
        ("interactive", {"type": "call_permission_reply", "call_permission_reply": {"response": "accept"}}, "button",
         "call permission: accept", None),
        ("interactive", {"type": "button_reply", "button_reply": {"id": "yes"}}, "button", "yes", None),
        ("interactive", {"button_reply": {"title": "Sí"}}, "button", "Sí", None),
        ("interactive", {"type": "novel", "novel": {"day": "lunes"}}, "button", "day: lunes", None),
        ("interactive", {"type": "novel", "novel": {}}, "unsupported", "", None),
        ("interactive", {"type": "button_reply", "button_reply": {"title": " "}}, "unsupported", "", None),
        ("button", {"payload": "yes"}, "button", "yes", None),
        ("button", {"text": "Sí", "payload": "yes"}, "button", "Sí", None),
        ("reaction", {"message_id": "wamid.1", "emoji": "🕊"}, "reaction", "🕊", "wamid.1"),
        ("reaction", {"message_id": "wamid.1", "emoji": ""}, "reaction", "", "wamid.1"),
        ("reaction", {"message_id": "wamid.1"}, "reaction", "", "wamid.1"),
        ("order", {"catalog_id": "c", "product_items": [], "text": "dos"}, "order", "dos", None),
        ("order", {"text": "para hoy", "product_items": [
            {"product_retailer_id": "SKU-1", "quantity": 2, "item_price": 19.9, "currency": "MXN"},
            {"product_retailer_id": "SKU-2", "quantity": "1"}, {"quantity": 3}, 4]}, "order",
         "para hoy\n2 × SKU-1 (19.9 MXN)\n1 × SKU-2", None),
        ("system", {"body": "Ana changed from 1 to 2", "type": "user_changed_number"}, "system",
         "Ana changed from 1 to 2", None),
        ("edit", {"original_message_id": "wamid.1", "message": {"type": "text", "text": {"body": "hola!"}}}, "edit",
         "hola!", "wamid.1"),
        ("edit", {"original_message_id": "wamid.1", "message": {"type": "image", "image": {"caption": "otra"}}}, "edit",
         "otra", "wamid.1"),
        ("edit", {"original_message_id": "wamid.1", "message": {"type": "edit", "edit": {}}}, "edit", "", "wamid.1"),
        ("revoke", {"original_message_id": "wamid.1"}, "revoke", "", "wamid.1"),
        ("request_welcome", None, "request_welcome", "", None),
        ("ephemeral", None, "ephemeral", "", None),
        ("ephemeral", {"text": "hola"}, "ephemeral", "hola", None),
        ("ephemeral", "hola", "ephemeral", "hola", None),
        ("unsupported", None, "unsupported", "", None),
        ("unknown", None, "unsupported", "", None),
        ("poll", {"body": "¿cuál?"}, "poll", "¿cuál?", None),
        ("not a word!", None, "unsupported", "", None),
    ],
)  # fmt: skip
def test_every_other_type(kind: str, part: Any, message_type: str, text: str, reply_to: str | None) -> None:
    one = message(of_type(kind, part))
    assert (one.message_type, one.text, one.reply_to) == (message_type, text, reply_to)
    if part is not None:
        assert one.extra[kind] == part


def test_a_type_without_a_name_of_ours_brings_its_text_as_any_text() -> None:
    one = message(said(type="ephemeral"))
    assert (one.message_type, one.text) == ("ephemeral", "hola")


def test_a_form_of_a_thousand_answers_is_bounded() -> None:
    filled = orjson.dumps({f"q{n}": "x" * 10_000 for n in range(4)} | {f"r{n}": "y" for n in range(1000)}).decode()
    one = message(of_type("interactive", {"type": "nfm_reply", "nfm_reply": {"response_json": filled}}))
    assert (one.text.count("\n"), len(one.text) < 50 * 501) == (49, True)


def test_a_missing_type_is_inferred_from_the_part_that_is_present() -> None:
    assert message(said(type=None)).message_type == "text"
    assert message(of_type("image", {"id": "1"}, type=None)).message_type == "image"
    assert message(said(type=None, text=None)).message_type == "unsupported"
    assert message(of_type("text", {"body": " "})).message_type == "unsupported"


def test_what_stands_beside_a_message_is_kept() -> None:
    beside: Json = {
        "context": {"from": "15550783881", "id": "wamid.2", "forwarded": True, "referred_product": {"catalog_id": "c"}},
        "referral": {"source_url": "https://fb.me/x", "source_id": "1", "ctwa_clid": "click"},
        "errors": [{"code": 131051, "title": "Message type unknown"}],
        "novel": [1, {"a": None}],
    }
    one = message(said(**beside), novel_too="x")
    assert one.reply_to == "wamid.2"
    assert {name: one.extra[name] for name in beside} == beside
    assert one.extra["value"] == {"novel_too": "x"}
    assert one.extra["waba_id"] == ACCOUNT
    assert {"id", "from", "timestamp", "text"}.isdisjoint(one.extra)


def test_a_forwarded_message_answers_nothing() -> None:
    assert message(said(context={"forwarded": True})).reply_to is None


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [
        ("1767225600", datetime(2026, 1, 1, tzinfo=UTC)),
        (1767225600, datetime(2026, 1, 1, tzinfo=UTC)),
        ("1767225600000", datetime(2026, 1, 1, tzinfo=UTC)),
        ("0", None), ("-1", None), ("soon", None), ("9" * 30, None), (True, None), ([1], None), (None, None),
        ("nan", None), ("inf", None),
    ],
)  # fmt: skip
def test_the_time_is_metas_where_it_can_be_read(given_time: Any, expected: datetime | None) -> None:
    assert message(said(timestamp=given_time)).timestamp == expected


# -- who wrote ---------------------------------------------------------------------------------------------------------


def kinds(one: InboundMessage) -> list[tuple[str, str]]:
    return [(who.kind, who.canonical) for who in one.sender]


def test_a_customer_without_a_number_is_known_by_the_user_id() -> None:
    contact = {"profile": {"name": "Ana", "username": "ana.g"}, "user_id": USER_ID, "parent_user_id": "MX.ENT.1"}
    named = said(**{"from": None, "from_user_id": USER_ID})
    one = message(named, contacts=[contact])
    assert kinds(one) == [("user_id", USER_ID), ("user_id", "MX.ENT.1")]
    assert one.contact_name == "Ana"
    assert one.extra["contact"] == contact
    assert kinds(message(said(**{"from": None}), contacts=[contact]))[0] == ("user_id", USER_ID)


def test_number_and_user_id_are_one_customer_named_by_the_number() -> None:
    one = message(said(from_user_id=USER_ID), contacts=[{"wa_id": CUSTOMER, "user_id": USER_ID}])
    assert kinds(one) == [("phone", "+525512345678"), ("user_id", USER_ID)]


def test_a_user_name_stands_in_for_a_missing_name() -> None:
    assert message(said(), contacts=[{"profile": {"username": "ana.g"}, "wa_id": CUSTOMER}]).contact_name == "ana.g"


def test_of_several_contacts_each_message_has_its_own() -> None:
    contacts = [
        {"profile": {"name": "Luis"}, "wa_id": "34600000001"},
        {"profile": {"name": "Ana"}, "wa_id": "525512345678"},  # the other way to write it
        {"profile": {"name": "Eva"}, "user_id": USER_ID},
    ]
    items = [
        said(id="1"),
        said(id="2", **{"from": "34600000001"}),
        said(id="3", **{"from": None}, from_user_id=USER_ID),
    ]
    parsed = read(entry(value(*items, contacts=contacts)))
    assert [one.contact_name for one in parsed.messages] == ["Ana", "Luis", "Eva"]
    assert [len(one.sender) for one in parsed.messages] == [1, 1, 1]


def test_a_lone_contact_of_another_number_is_no_second_writer() -> None:
    items = [said(id="1"), said(id="2", **{"from": "34600000001"})]
    parsed = read(entry(value(*items)))
    assert [one.contact_name for one in parsed.messages] == ["Ana", None]
    assert [kinds(one) for one in parsed.messages] == [[("phone", "+525512345678")], [("phone", "+34600000001")]]


def test_who_wrote_needs_no_contacts() -> None:
    assert kinds(message(said(), contacts=None)) == [("phone", "+525512345678")]


@pytest.mark.parametrize("given", ["LEGACY_ID-1", "12AB", "MX.lower"])
def test_an_id_of_a_form_we_do_not_know_is_taken_as_it_is(given: str) -> None:
    assert kinds(message(said(**{"from": given}), contacts=[])) == [("user_id", given)]


# -- a group, and the business's own app -------------------------------------------------------------------------------


def test_a_group_message_is_a_notice_and_not_answered_in_private() -> None:
    in_group = said(id="1", group_id="Y2FwaV9ncm91cDo=")
    parsed = read(entry(value(in_group, said(id="2"))))
    assert [one.external_id for one in parsed.messages] == ["2"]
    assert parsed.notices == (Notice("group_message", {**in_group, "waba_id": ACCOUNT}, PHONE_NUMBER_ID),)
    assert parsed.errors == ()


def echoed(item: Json, **more: Any) -> AgentMessage:
    parsed = read(entry(value(message_echoes=[item], **more), field="smb_message_echoes"))
    assert (parsed.errors, parsed.messages, parsed.notices) == ((), (), ())
    (one,) = parsed.agent_messages
    return one


def test_what_a_person_writes_in_the_business_app_is_a_managers_message() -> None:
    one = echoed(said(**{"from": "15550783881"}, to=CUSTOMER, to_user_id=USER_ID, context={"id": "wamid.2"}))
    assert (one.external_id, one.message_type, one.text, one.reply_to) == (WAMID, "text", "hola", "wamid.2")
    assert (one.channel_kind, one.channel_address) == ("whatsapp", PHONE_NUMBER_ID)
    assert [(who.kind, who.given, who.canonical) for who in one.customer] == [
        ("phone", f"+{CUSTOMER}", "+525512345678"), ("user_id", USER_ID, USER_ID)
    ]  # fmt: skip
    assert one.timestamp == datetime(2026, 1, 1, tzinfo=UTC)
    assert not one.automatic


def test_a_picture_of_the_business_app_and_its_customers_name() -> None:
    contact = {"profile": {"name": "Ana"}, "wa_id": CUSTOMER}
    one = echoed(of_type("image", {"id": "1", "caption": "mira"}, to=CUSTOMER), contacts=[contact])
    assert (one.message_type, one.text, one.media, one.contact_name) == ("image", "mira", (Media(id="1"),), "Ana")


def test_an_echo_to_nobody_is_named_and_costs_no_neighbour() -> None:
    held = value(message_echoes=[said(), said(id="good", to=CUSTOMER), said(id="g", to=CUSTOMER, group_id="g")])
    parsed = read(entry(held, field="smb_message_echoes"))
    assert [one.external_id for one in parsed.agent_messages] == ["good"]
    assert [error.split(":")[0] for error in parsed.errors] == ["entry.0.changes.0.value.message_echoes.0.to"]
    assert [notice.name for notice in parsed.notices] == ["group_message"]


# -- a receipt ---------------------------------------------------------------------------------------------------------


def test_a_receipt() -> None:
    conversation = {"id": "c", "origin": {"type": "service"}}
    one = receipt(conversation=conversation, pricing={"billable": True})
    assert (one.external_id, one.status, one.channel_kind) == (WAMID, "delivered", "whatsapp")
    assert (one.recipient, one.channel_address, one.message_id) == ("+525512345678", PHONE_NUMBER_ID, None)
    assert one.timestamp == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert one.extra == {"conversation": conversation, "pricing": {"billable": True}, "waba_id": ACCOUNT}


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        (
            {"billable": True, "pricing_model": "PMP", "category": "marketing_lite", "type": "regular"},
            Pricing("marketing_lite", "regular", billable=True),
        ),
        ({"category": "SERVICE", "type": "free_customer_service", "billable": False},
         Pricing("service", "free_customer_service", billable=False)),
        ({"category": "utility"}, Pricing("utility")),
        ({"category": "utility", "billable": "yes", "type": 7}, Pricing("utility", "7")),
        ({"billable": True}, None),
        ({"category": "a sentence of theirs"}, None),
        ({"category": ["marketing"]}, None),
        ("odd", None),
        (None, None),
    ],
)  # fmt: skip
def test_how_a_message_is_charged(given: Any, read_as: Pricing | None) -> None:
    assert receipt(pricing=given).pricing == read_as


@pytest.mark.parametrize("status", ["sent", "delivered", "read", "played", "failed", "deleted", "warning", "READ"])
def test_every_status_is_metas_word(status: str) -> None:
    assert receipt(status=status).status == status.lower()


@pytest.mark.parametrize(
    ("errors", "code", "sentence"),
    [
        ([{"code": 131047, "title": "t", "message": "m", "error_data": {"details": "d"}}], "131047", "d"),
        ([{"code": 131047, "title": "t", "message": "m"}], "131047", "m"),
        ([{"code": "131047", "title": "t"}, {"code": 1}], "131047", "t"),
        ([{"title": "t"}], None, "t"),
        ([], None, None),
        ("odd", None, None),
    ],
)
def test_a_failure_says_why(errors: Any, code: str | None, sentence: str | None) -> None:
    one = receipt(status="failed", errors=errors)
    assert (one.error_code, one.error_message) == (code, sentence)


def test_our_own_id_comes_back() -> None:
    assert receipt(biz_opaque_callback_data=str(OURS)).message_id == OURS
    theirs = receipt(biz_opaque_callback_data="another system's")
    assert (theirs.message_id, theirs.extra["biz_opaque_callback_data"]) == (None, "another system's")


def test_a_recipient_without_a_number() -> None:
    assert receipt(recipient_id=None, recipient_user_id=USER_ID).recipient == USER_ID


# -- what is neither ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "change"), [("stop", "opt_out"), ("resume", "opt_in"), ("signup", "opt_in")])
def test_a_marketing_preference_is_a_notice(word: str, change: str) -> None:
    preference = {"wa_id": CUSTOMER, "category": "marketing_messages", "value": word, "timestamp": 1767225600}
    parsed = read(entry(value(user_preferences=[preference]), field="user_preferences"))
    (notice,) = parsed.notices
    assert (notice.name, notice.channel_address) == ("consent", PHONE_NUMBER_ID)
    assert (notice.data["change"], notice.data["address"]) == (change, "+525512345678")
    consent = notice.consent
    assert consent is not None
    assert (consent.state, consent.scope) == ("opted_out" if word == "stop" else "opted_in", "marketing")
    assert (consent.address.canonical, consent.timestamp) == ("+525512345678", datetime(2026, 1, 1, tzinfo=UTC))
    assert parsed.errors == ()


def test_a_marketing_preference_of_a_customer_without_a_number() -> None:
    preference = {"user_id": USER_ID, "category": "marketing_messages", "value": "stop"}
    assert read(entry(value(user_preferences=[preference]))).notices[0].data["address"] == USER_ID


def test_a_preference_in_a_system_message_is_also_a_notice() -> None:
    item = of_type("system", {"body": "stopped", "type": "user_preference_changed", "marketing": "stop"})
    parsed = read(entry(value(item)))
    assert [one.message_type for one in parsed.messages] == ["system"]
    assert [notice.data["change"] for notice in parsed.notices] == ["opt_out"]


@pytest.mark.parametrize(
    ("system", "written_from", "people"),
    [
        (
            {"type": "user_changed_number", "wa_id": "34600000099", "user_id": "ES.2", "previous_user_id": "ES.1"},
            CUSTOMER,
            ["+525512345678", "+34600000099", "ES.1", "ES.2"],
        ),
        ({"type": "customer_changed_number", "new_wa_id": "34600000099"}, CUSTOMER, ["+525512345678", "+34600000099"]),
        ({"type": "user_changed_user_id", "previous_user_id": "ES.1", "user_id": "ES.2"}, None, ["ES.1", "ES.2"]),
        ({"type": "customer_identity_changed", "wa_id": "34600000099"}, CUSTOMER, ["+525512345678"]),
    ],
    ids=["number", "older name", "id alone", "another phone of the same number"],
)
def test_a_customer_with_another_number_or_id_is_one_person_under_all_of_them(
    system: dict[str, str], written_from: str | None, people: list[str]
) -> None:
    item = of_type("system", {"body": "Ana has changed", **system}, **{"from": written_from})
    (message,) = read(entry(value(item, contacts=None))).messages
    assert message.message_type == "system"
    assert [address.canonical for address in message.sender] == people


def test_word_of_a_customer_whom_nothing_names_is_no_message_and_no_error() -> None:
    item = of_type("system", {"type": "user_changed_user_id"}, **{"from": None})
    parsed = read(entry(value(item, contacts=None)))
    assert (parsed.messages, parsed.errors) == ((), ())
    assert parsed.notices == (Notice("system", {**item, "waba_id": ACCOUNT}, PHONE_NUMBER_ID),)


def test_a_preference_we_do_not_know_is_kept() -> None:
    preference = {"wa_id": CUSTOMER, "value": "sometimes"}
    (notice,) = read(entry(value(user_preferences=[preference]))).notices
    assert (notice.name, notice.data) == ("user_preferences", {**preference, "waba_id": ACCOUNT})


def test_errors_stand_beside_messages() -> None:
    error = {"code": 130429, "title": "Rate limit hit"}
    parsed = read(entry(value(said(), errors=[error])))
    assert [one.text for one in parsed.messages] == ["hola"]
    assert parsed.notices == (Notice("error", {**error, "waba_id": ACCOUNT}, PHONE_NUMBER_ID),)


@pytest.mark.parametrize(
    ("field", "held"),
    [
        ("account_update", {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "SCHEDULE_FOR_DISABLE"}}),
        ("message_template_status_update", {"event": "REJECTED", "message_template_name": "hello", "reason": "SCAM"}),
        ("phone_number_quality_update", {"event": "FLAGGED", "current_limit": "TIER_10K"}),
        ("smb_message_echoes", {"messaging_product": "whatsapp"}),
        ("message_echoes", {"message_echoes": [{"from": "15550783881", "to": CUSTOMER, "id": "wamid.3"}]}),
        ("standby", {"messages": [said()]}),
        ("messages", {"messaging_product": "whatsapp", "novel": 1}),
    ],
)
def test_an_event_is_noted_and_left_alone(field: str, held: Json) -> None:
    parsed = read(entry(held, field=field))
    assert parsed.notices == (Notice(field, {**held, "waba_id": ACCOUNT}),)
    assert (parsed.messages, parsed.receipts, parsed.errors) == ((), (), ())


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ("APPROVED", "approved"), ("REINSTATED", "approved"), ("PAUSED", "paused"), ("REJECTED", "rejected"),
        ("DISABLED", "disabled"), ("ARCHIVED", "disabled"), ("PENDING_DELETION", "disabled"), ("DELETED", "gone"),
        ("PENDING", "pending"), ("LIMIT_EXCEEDED", "paused"), ("paused", "paused"),
        ("FLAGGED", None), ("LOCKED", None), ("IN_APPEAL", None), ("A NEW WORD", None), ("", None), (["PAUSED"], None),
    ],
)  # fmt: skip
def test_what_meta_says_of_a_template(event: object, status: str | None) -> None:
    held = {"event": event, "message_template_id": 12, "message_template_name": "a", "message_template_language": "es"}
    (notice,) = read(entry(held, field="message_template_status_update")).notices
    change = None if status is None else TemplateChange(ACCOUNT, "12", "a", "es", status)  # type: ignore[arg-type]
    assert notice.template == change


@pytest.mark.parametrize(
    ("field", "held", "change"),
    [
        ("template_category_update", {"new_category": "MARKETING"},
         TemplateChange(ACCOUNT, "1", "a", "es", None, "MARKETING")),
        ("template_category_update", {"new_category": "words of theirs"}, None),
        ("template_category_update", {"correct_category": "MARKETING"}, None),  # not yet
        ("message_template_status_update", {"event": "PAUSED", "message_template_name": None}, None),
        ("message_template_status_update", {"event": "PAUSED", "message_template_name": "a" * 513}, None),
        ("message_template_status_update", {"event": "PAUSED", "message_template_id": None,
                                            "message_template_language": None}, None),
        ("message_template_quality_update", {"event": "PAUSED"}, None),
    ],
)  # fmt: skip
def test_what_else_meta_says_of_a_template(field: str, held: Json, change: TemplateChange | None) -> None:
    named = {"message_template_id": "1", "message_template_name": "a", "message_template_language": "es", **held}
    assert read(entry(named, field=field)).notices[0].template == change


def test_which_pause_it_is_stands_beside_the_event() -> None:
    held = {"event": "PAUSED", "message_template_name": "a", "other_info": {"title": "FIRST_PAUSE", "description": "…"}}
    assert read(entry(held, field="message_template_status_update")).notices[0].data["title"] == "FIRST_PAUSE"


def test_another_products_webhook_is_noted_and_left_alone() -> None:
    parsed = parse(raw(orjson.dumps({"object": "page", "entry": [{"messaging": []}]})))
    assert [notice.name for notice in parsed.notices] == ["page"]
