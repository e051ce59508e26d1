"""What we make of whole batches of Meta's, of odd ones and of hostile ones: no part of them costs another."""

from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.providers.base import Parsed
from shared.providers.meta.webhooks import MOST_UPDATES, parse
from tests.support.meta_payloads import (
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
    read,
    receipt_json,
    said,
    value,
)

USER_ID = "MX.4566546130240823"
OURS = UUID("01890000-0000-7000-8000-000000000002")


# -- a batch -----------------------------------------------------------------------------------------------------------


def test_all_of_a_batch_is_read_for_all_its_numbers() -> None:
    parsed = read(
        entry(
            value(said(id="1"), said(id="2")),
            value(statuses=(receipt_json(id="a"), receipt_json(id="b", status="read"))),
        ),
        entry(value(said(id="3"), statuses=(receipt_json(id="c"),), phone_number_id=OTHER_PHONE_NUMBER_ID)),
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
        (said(**{"from": None}, from_user_id="?"), "messages.0.from"),
        (said(**{"from": "nobody"}), "messages.0.from"),
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


def test_messages_without_ids_are_distinguished_by_their_content() -> None:
    parsed = read(entry(value(said(id=None), said(id=None, text={"body": "otra"}), said(id=None))))
    first, other, again = (one.external_id for one in parsed.messages)
    assert first == again != other
    assert first.startswith("sha256:")


def test_an_odd_status_is_named_and_costs_no_neighbour() -> None:
    parsed = read(entry(value(statuses=(receipt_json(id=None), receipt_json(status=None), receipt_json(id="good")))))
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
    alone = {"contacts": [{"wa_id": CUSTOMER}], "messages": [said()], "statuses": [receipt_json()]}
    parsed = parse(raw(orjson.dumps(alone)))
    assert [one.text for one in parsed.messages] == ["hola"]
    assert [one.status for one in parsed.receipts] == ["delivered"]
    assert (parsed.messages[0].channel_address, parsed.errors) == ("", ())


def test_a_list_that_is_written_as_an_empty_object_is_empty() -> None:
    parsed = parse(raw(b'{"object": "whatsapp_business_account", "entry": {}}'))
    assert ([notice.name for notice in parsed.notices], parsed.errors) == (["empty"], ())


@pytest.mark.parametrize("entries", [(), (entry(),), ({"id": ACCOUNT, "changes": []},)])
def test_a_webhook_in_which_nothing_happened_is_no_error(entries: tuple[Json, ...]) -> None:
    parsed = read(*entries)
    assert ([notice.name for notice in parsed.notices], parsed.errors) == (["empty"], ())


def test_a_contact_of_a_megabyte_is_not_copied_to_each_message() -> None:
    large = {"wa_id": CUSTOMER, "profile": {"name": "A" * 500_000}, "novel": "x" * 500_000}
    parsed = read(entry(value(*(said(id=str(number)) for number in range(1000)), contacts=[large])))
    assert len(parsed.messages) == 1000
    assert sum(len(orjson.dumps(one.extra)) + len(one.contact_name or "") for one in parsed.messages) < 2_000_000
    assert [who.canonical for who in parsed.messages[0].sender] == ["+525512345678"]


@pytest.mark.parametrize(
    "held",
    [
        value(*(said(id=str(number)) for number in range(5000))),
        value(statuses=tuple(receipt_json(id=str(number)) for number in range(5000))),
        value(errors=[{"code": 1}] * 5000),
        value(user_preferences=[{"value": "stop"}] * 5000),
    ],
)
def test_of_more_than_meta_ever_sends_only_so_many_are_read(held: Json) -> None:
    parsed = read(entry(held))
    assert len(parsed.messages) + len(parsed.receipts) + len(parsed.notices) == MOST_UPDATES - 2
    assert parsed.errors[0].startswith("body: more than 4000 updates")


def test_a_million_things_that_are_no_objects_are_a_hundred_sentences() -> None:
    parsed = parse(raw(b'{"entry": [' + b"1," * 1_000_000 + b"1]}"))
    assert len(parsed.errors) == 100


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
    for written in parsed.agent_messages:
        assert written.external_id
        assert written.customer
        assert written.message_type
        orjson.dumps(written.extra)
    for each in parsed.receipts:
        assert each.external_id
        assert each.status
        orjson.dumps(each.extra)
    for notice in parsed.notices:
        assert notice.name
        orjson.dumps(notice.data)
    return bool(parsed.messages or parsed.agent_messages or parsed.receipts or parsed.notices or parsed.errors)


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
    held = value(said(id="before"), damaged(data, item), said(id="after"), statuses=(receipt_json(id="receipt"),))
    parsed = read(entry(held), entry(value(said(id="next entry"))))
    assert is_whole(parsed)
    assert {"before", "after", "next entry"} <= {one.external_id for one in parsed.messages}
    assert "receipt" in {one.external_id for one in parsed.receipts}
    assert all(one.text == "hola" for one in parsed.messages if one.external_id in ("before", "after", "next entry"))


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(MESSAGES))
def test_a_damaged_echo_costs_no_neighbour(data: st.DataObject, item: Json) -> None:
    odd = damaged(data, {**item, "to": CUSTOMER})
    held = value(message_echoes=[said(id="before", to=CUSTOMER), odd, said(id="after", to=CUSTOMER)])
    parsed = read(entry(held, field="smb_message_echoes"))
    assert is_whole(parsed)
    assert {"before", "after"} <= {one.external_id for one in parsed.agent_messages}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_status_costs_no_neighbour(data: st.DataObject) -> None:
    odd = damaged(
        data, receipt_json(errors=[{"code": 1, "error_data": {"details": "d"}}], biz_opaque_callback_data=str(OURS))
    )
    parsed = read(entry(value(said(id="beside"), statuses=(receipt_json(id="before"), odd, receipt_json(id="after")))))
    assert is_whole(parsed)
    assert {"before", "after"} <= {one.external_id for one in parsed.receipts}
    assert [one.external_id for one in parsed.messages] == ["beside"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_change_costs_no_other_entry(data: st.DataObject) -> None:
    odd = damaged(data, entry(value(said(id="odd"), statuses=(receipt_json(id="odd"),), errors=[{"code": 1}])))
    parsed = read(entry(value(said(id="before"))), odd, entry(value(said(id="after"))))
    assert is_whole(parsed)
    assert {"before", "after"} <= {one.external_id for one in parsed.messages}
