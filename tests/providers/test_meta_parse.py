"""What we make of Meta's webhooks. Fields as Meta documents them; values are ours."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.providers.base import InboundMessage, Media, Notice, Parsed, Receipt
from shared.providers.meta import parse
from tests.providers.meta_payloads import (
    ACCOUNT,
    CUSTOMER,
    OTHER_PHONE_NUMBER_ID,
    PHONE_NUMBER_ID,
    WAMID,
    Json,
    body,
    entry,
    of_type,
    raw,
    said,
    told,
    value,
)

USER_ID = "MX.4566546130240823"
OURS = UUID("01890000-0000-7000-8000-000000000002")


def read(*entries: Json) -> Parsed:
    return parse(raw(body(*entries)))


def message(item: Json, **more: Any) -> InboundMessage:
    parsed = read(entry(value(item, **more)))
    assert (parsed.errors, parsed.receipts) == ((), ())
    return parsed.messages[0]


def receipt(**changed: Any) -> Receipt:
    parsed = read(entry(value(statuses=(told(**changed),))))
    assert (parsed.errors, parsed.messages) == ((), ())
    return parsed.receipts[0]


# -- a customer's message ----------------------------------------------------------------------------------------------


def test_a_text_message() -> None:
    one = message(said())
    assert (one.external_id, one.channel_kind, one.message_type, one.text) == (WAMID, "whatsapp", "text", "hola")
    assert (one.contact_name, one.channel_address) == ("Ana", PHONE_NUMBER_ID)
    assert one.timestamp == datetime(2026, 1, 1, tzinfo=UTC)
    assert [(who.kind, who.given, who.canonical) for who in one.sender] == [("phone", CUSTOMER, "+525512345678")]
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
        ("location", {"latitude": 19.4, "longitude": -99.1, "name": "Casa"}, "location", "", None),
        ("contacts", [{"name": {"formatted_name": "Luis"}}], "contacts", "", None),
        ("interactive", {"type": "button_reply", "button_reply": {"id": "b", "title": "Sí"}}, "button", "Sí", None),
        ("interactive", {"type": "list_reply", "list_reply": {"id": "l", "title": "Norte"}}, "button", "Norte", None),
        ("interactive", {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "{}"}}, "button", "Sent",
         None),
        ("interactive", {"type": "novel", "novel": {}}, "button", "", None),
        ("button", {"text": "Sí", "payload": "yes"}, "button", "Sí", None),
        ("reaction", {"message_id": "wamid.1", "emoji": "🕊"}, "reaction", "🕊", "wamid.1"),
        ("reaction", {"message_id": "wamid.1", "emoji": ""}, "reaction", "", "wamid.1"),
        ("reaction", {"message_id": "wamid.1"}, "reaction", "", "wamid.1"),
        ("order", {"catalog_id": "c", "product_items": [], "text": "dos"}, "order", "dos", None),
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


def test_a_type_that_is_not_told_is_known_by_its_part() -> None:
    assert message(said(type=None)).message_type == "text"
    assert message(of_type("image", {"id": "1"}, type=None)).message_type == "image"
    assert message(said(type=None, text=None)).message_type == "unsupported"


def test_what_stands_beside_a_message_is_kept() -> None:
    beside: Json = {
        "context": {"from": "15550783881", "id": "wamid.2", "forwarded": True, "referred_product": {"catalog_id": "c"}},
        "referral": {"source_url": "https://fb.me/x", "source_id": "1", "ctwa_clid": "click"},
        "group_id": "g",
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


# -- a receipt ---------------------------------------------------------------------------------------------------------


def test_a_receipt() -> None:
    conversation = {"id": "c", "origin": {"type": "service"}}
    one = receipt(conversation=conversation, pricing={"billable": True})
    assert (one.external_id, one.status, one.channel_kind) == (WAMID, "delivered", "whatsapp")
    assert (one.recipient, one.channel_address, one.message_id) == ("+525512345678", PHONE_NUMBER_ID, None)
    assert one.timestamp == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert one.extra == {"conversation": conversation, "pricing": {"billable": True}, "waba_id": ACCOUNT}


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


@pytest.mark.parametrize(("word", "change"), [("stop", "opt_out"), ("resume", "opt_in")])
def test_a_marketing_preference_is_told(word: str, change: str) -> None:
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


def test_a_preference_by_system_message_is_told_beside_it() -> None:
    item = of_type("system", {"body": "stopped", "type": "user_preference_changed", "marketing": "stop"})
    parsed = read(entry(value(item)))
    assert [one.message_type for one in parsed.messages] == ["system"]
    assert [notice.data["change"] for notice in parsed.notices] == ["opt_out"]


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
        ("smb_message_echoes", {"message_echoes": [{"from": "1", "to": "2", "id": "wamid.3"}]}),
        ("user_id_update", {"user_id_update": [{"wa_id": CUSTOMER}]}),
        ("standby", {"messages": [said()]}),
        ("messages", {"messaging_product": "whatsapp", "novel": 1}),
    ],
)
def test_an_event_is_noted_and_left_alone(field: str, held: Json) -> None:
    parsed = read(entry(held, field=field))
    assert parsed.notices == (Notice(field, {**held, "waba_id": ACCOUNT}),)
    assert (parsed.messages, parsed.receipts, parsed.errors) == ((), (), ())


def test_another_products_webhook_is_noted_and_left_alone() -> None:
    parsed = parse(raw(orjson.dumps({"object": "page", "entry": [{"messaging": []}]})))
    assert [notice.name for notice in parsed.notices] == ["page"]


# -- a batch -----------------------------------------------------------------------------------------------------------


def test_all_of_a_batch_is_read_for_all_its_numbers() -> None:
    parsed = read(
        entry(value(said(id="1"), said(id="2")), value(statuses=(told(id="a"), told(id="b", status="read")))),
        entry(value(said(id="3"), statuses=(told(id="c"),), phone_number_id=OTHER_PHONE_NUMBER_ID)),
        entry({"event": "VERIFIED_ACCOUNT"}, field="account_update"),
    )
    assert [(one.external_id, one.channel_address) for one in parsed.messages] == [
        ("1", PHONE_NUMBER_ID), ("2", PHONE_NUMBER_ID), ("3", OTHER_PHONE_NUMBER_ID)
    ]  # fmt: skip
    assert [one.external_id for one in parsed.receipts] == ["a", "b", "c"]
    assert [notice.name for notice in parsed.notices] == ["account_update"]
    assert parsed.errors == ()


def test_a_thousand_updates_are_read() -> None:
    parsed = read(*(entry(value(said(id=f"m{number}"))) for number in range(1000)))
    assert len({one.external_id for one in parsed.messages}) == 1000


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        (said(id=None), "messages.0.id"),
        (said(**{"from": None}, from_user_id="?"), "messages.0.from"),
        ("text", "messages.0"),
        (None, "messages.0"),
    ],
)
def test_an_odd_message_is_named_and_costs_no_neighbour(odd: Any, named: str) -> None:
    held = value(said(), contacts=[])
    held["messages"] = [odd, said(id="good")]
    parsed = read(entry(held))
    assert [one.external_id for one in parsed.messages] == ["good"]
    assert parsed.errors[0].startswith(f"entry.0.changes.0.value.{named}")


def test_an_odd_status_is_named_and_costs_no_neighbour() -> None:
    parsed = read(entry(value(statuses=(told(id=None), told(status=None), told(id="good")))))
    assert [one.external_id for one in parsed.receipts] == ["good"]
    assert [error.split(":")[0] for error in parsed.errors] == [
        "entry.0.changes.0.value.statuses.0.id", "entry.0.changes.0.value.statuses.1.status"
    ]  # fmt: skip


def test_half_an_emoji_costs_a_question_mark_and_nothing_else() -> None:
    cut = body(entry(value(said(id="1"), said(id="2")))).replace(b'"Ana"', b'"Ana \\ud83d"')
    parsed = parse(raw(cut))
    assert [(one.external_id, one.contact_name) for one in parsed.messages] == [("1", "Ana ?"), ("2", "Ana ?")]
    assert parsed.errors == ()


def test_what_follows_the_json_is_named_and_costs_nothing() -> None:
    parsed = parse(raw(body(entry(value(said()))) + b"\n{"))
    assert [one.text for one in parsed.messages] == ["hola"]
    assert parsed.errors[0].startswith("body: goes on")


@pytest.mark.parametrize(
    "given_body", [b"", b"{", b"[1]", b"1", b"null", b"\xff", b"[" * 100_000, b'{"entry": 1}', b"{}"]
)
def test_a_body_that_is_nothing_is_named(given_body: bytes) -> None:
    parsed = parse(raw(given_body))
    assert (parsed.messages, parsed.receipts, parsed.notices) == ((), (), ())
    assert parsed.errors


def test_a_change_by_itself_is_read() -> None:
    parsed = parse(raw(orjson.dumps({"field": "messages", "value": value(said())})))
    assert [one.text for one in parsed.messages] == ["hola"]


def test_a_value_by_itself_is_read() -> None:
    parsed = parse(raw(orjson.dumps({"contacts": [{"wa_id": CUSTOMER}], "messages": [said()], "statuses": [told()]})))
    assert [one.text for one in parsed.messages] == ["hola"]
    assert [one.status for one in parsed.receipts] == ["delivered"]
    assert (parsed.messages[0].channel_address, parsed.errors) == ("", ())


@pytest.mark.parametrize("entries", [(), (entry(),), ({"id": ACCOUNT, "changes": []},)])
def test_a_webhook_in_which_nothing_happened_is_no_error(entries: tuple[Json, ...]) -> None:
    parsed = read(*entries)
    assert ([notice.name for notice in parsed.notices], parsed.errors) == (["empty"], ())


def test_what_is_nested_too_deep_costs_nothing_else() -> None:
    deep = orjson.dumps(said(novel=0)).replace(b'"novel":0', b'"novel":' + b"[" * 300 + b"]" * 300)
    whole = body(entry(value(said(id="X"), said(id="good")))).replace(orjson.dumps(said(id="X")), deep)
    parsed = parse(raw(whole))
    assert [one.external_id for one in parsed.messages] == [WAMID, "good"]
    assert is_whole(parsed)


# -- anything at all ---------------------------------------------------------------------------------------------------

WORDS = [
    "id",
    "from",
    "type",
    "text",
    "body",
    "entry",
    "changes",
    "value",
    "messages",
    "statuses",
    "errors",
    "contacts",
]
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=10)
    | st.sampled_from([CUSTOMER, USER_ID, WAMID, "\x00", "stop", "1e999"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
MESSAGES = [
    said(context={"id": "wamid.1"}),
    of_type("image", {"id": "1", "mime_type": "image/jpeg", "caption": "x"}),
    of_type("interactive", {"type": "list_reply", "list_reply": {"id": "l", "title": "t"}}),
    of_type("edit", {"original_message_id": "w", "message": {"type": "text", "text": {"body": "b"}}}),
    of_type("reaction", {"message_id": "w", "emoji": "🕊"}),
    of_type("unsupported", None, errors=[{"code": 131051}]),
]


def is_whole(parsed: Parsed) -> bool:
    """Something is always said, and all of it can be stored."""
    for one in parsed.messages:
        assert one.external_id
        assert one.sender
        assert one.message_type
        orjson.dumps(one.extra)
    for each in parsed.receipts:
        assert each.external_id
        assert each.status
        orjson.dumps(each.extra)
    for notice in parsed.notices:
        assert notice.name
        orjson.dumps(notice.data)
    return bool(parsed.messages or parsed.receipts or parsed.notices or parsed.errors)


def places(node: Any) -> list[tuple[Any, Any]]:
    """(holder, key) of every part below a JSON value."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [place for key in keys for place in [(node, key), *places(node[key])]]


def damaged(data: st.DataObject, node: Any) -> Any:
    """A copy in which one part, anywhere, is something else or gone."""
    copy = orjson.loads(orjson.dumps(node))
    holder, key = data.draw(st.sampled_from(places(copy)))
    if data.draw(st.booleans()):
        holder[key] = data.draw(JSON)
    else:
        del holder[key]
    return copy


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_an_answer(given_body: bytes) -> None:
    assert is_whole(parse(raw(given_body)))


@settings(deadline=None)
@given(JSON)
def test_any_json_gives_an_answer(given_json: Any) -> None:
    assert is_whole(parse(raw(orjson.dumps(given_json))))
    assert is_whole(parse(raw(orjson.dumps({"entry": [{"changes": [{"field": "messages", "value": given_json}]}]}))))


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(MESSAGES))
def test_a_damaged_message_costs_no_neighbour(data: st.DataObject, item: Json) -> None:
    held = value(said(id="before"), damaged(data, item), said(id="after"), statuses=(told(id="receipt"),))
    parsed = read(entry(held), entry(value(said(id="next entry"))))
    assert is_whole(parsed)
    assert {"before", "after", "next entry"} <= {one.external_id for one in parsed.messages}
    assert "receipt" in {one.external_id for one in parsed.receipts}
    assert all(one.text == "hola" for one in parsed.messages if one.external_id in ("before", "after", "next entry"))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_status_costs_no_neighbour(data: st.DataObject) -> None:
    odd = damaged(data, told(errors=[{"code": 1, "error_data": {"details": "d"}}], biz_opaque_callback_data=str(OURS)))
    parsed = read(entry(value(said(id="beside"), statuses=(told(id="before"), odd, told(id="after")))))
    assert is_whole(parsed)
    assert {"before", "after"} <= {one.external_id for one in parsed.receipts}
    assert [one.external_id for one in parsed.messages] == ["beside"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_change_costs_no_other_entry(data: st.DataObject) -> None:
    odd = damaged(data, entry(value(said(id="odd"), statuses=(told(id="odd"),), errors=[{"code": 1}])))
    parsed = read(entry(value(said(id="before"))), odd, entry(value(said(id="after"))))
    assert is_whole(parsed)
    assert {"before", "after"} <= {one.external_id for one in parsed.messages}
