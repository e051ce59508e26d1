"""What we read in Kommo's webhooks, of both interfaces; and that nothing a stranger sends costs its neighbours."""

import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.model import Address, AgentMessage, InboundMessage, Media
from shared.providers.base import SOLE_CHANNEL, Parsed
from shared.providers.kommo.fields import MOST_NOTICES
from shared.providers.kommo.webhooks import parse
from tests.support.kommo_payloads import (
    CHAT,
    CUSTOMER,
    MANAGER,
    SCOPE,
    action,
    added,
    chats,
    chats_raw,
    crm,
    form,
    said,
    written,
)

ADDRESS = Address("kommo_chat", f"{CHAT} {CUSTOMER}", CHAT)


def read(*groups: dict[str, str]) -> Parsed:
    return parse(crm(form(*groups)))


# -- CRM webhooks ------------------------------------------------------------------------------------------------------


def test_a_customers_message() -> None:
    parsed = read(added("message", said()))
    (message,) = parsed.messages
    assert (message.external_id, message.text, message.message_type) == ("m1", "hola", "text")
    assert (message.sender, message.contact_name) == ((ADDRESS,), "Ana")
    assert (message.channel_kind, message.channel_address) == ("whatsapp", SOLE_CHANNEL)
    assert message.timestamp == datetime(2026, 1, 1, tzinfo=UTC)
    assert message.extra["talk_id"] == "10"
    assert message.extra["account"] == {"id": "12345", "subdomain": "taller"}
    assert (parsed.agent_messages, parsed.notices, parsed.errors) == ((), (), ())


@pytest.mark.parametrize("group", ["message", "outgoing_message"])
def test_what_was_written_to_a_customer_is_a_managers(group: str) -> None:
    parsed = read(added(group, written()))
    (message,) = parsed.agent_messages
    assert (message.external_id, message.text, message.customer) == ("m1", "hola", (ADDRESS,))
    assert (message.author_id, message.author_name, message.automatic) == (MANAGER, "Eva", False)
    assert message.contact_name == "Ana"
    assert parsed.messages == ()


@pytest.mark.parametrize(
    ("author_type", "direction"), [("internal", None), ("User", None), ("bot", None), ("internal", "")]
)
def test_what_our_side_wrote_is_no_customers_though_it_has_no_type(author_type: str, direction: str | None) -> None:
    parsed = read(added("message", said(type=direction, author__type=author_type)))
    assert (len(parsed.agent_messages), parsed.messages) == (1, ())


@pytest.mark.parametrize(("author_type", "direction"), [("external", None), (None, None), ("internal", "incoming")])
def test_a_customers_message_needs_no_type(author_type: str | None, direction: str | None) -> None:
    assert len(read(added("message", said(type=direction, author__type=author_type))).messages) == 1


@pytest.mark.parametrize(("author_type", "automatic"), [("bot", True), ("Bot", True), ("user", False), (None, False)])
def test_the_author_is_a_person_unless_kommo_says_otherwise(author_type: str | None, automatic: bool) -> None:
    (message,) = read(added("outgoing_message", written(author__type=author_type))).agent_messages
    assert message.automatic is automatic


def test_an_outgoing_message_needs_no_type_in_its_own_group() -> None:
    assert len(read(added("outgoing_message", written(type=None))).agent_messages) == 1


def test_all_of_a_post_is_read() -> None:
    others = {"leads[update][0][id]": "7", "leads[update][0][tags][]": "a", "talk[add][0][talk_id]": "10", "task": "x"}
    parsed = read(
        others, added("message", said(), said(id="m2"), written(id="m3")), added("outgoing_message", written(id="m4"))
    )
    assert [message.external_id for message in parsed.messages] == ["m1", "m2"]
    assert [message.external_id for message in parsed.agent_messages] == ["m3", "m4"]
    assert [notice.name for notice in parsed.notices] == ["leads_update", "talk_add", "other"]
    assert parsed.notices[0].data["leads"] == {"update": {"0": {"id": "7", "tags": {"0": "a"}}}}
    assert parsed.errors == ()


def test_messages_with_no_group_around_them_are_read_too() -> None:
    bare = {name.removeprefix("message[").replace("]", "", 1): v for name, v in added("message", said()).items()}
    assert "add[0][author][id]" in bare
    (message,) = read(bare).messages
    assert (message.external_id, message.sender) == ("m1", (ADDRESS,))
    (message,) = parse(crm(orjson.dumps({"add": [{"id": "m2", "chat_id": CHAT}]}))).messages
    assert message.external_id == "m2"


def test_a_crowd_of_events_is_cut_and_the_messages_beside_it_are_kept() -> None:
    crowd = {f"kind{number}[add][0][id]": "1" for number in range(500)}
    parsed = read(crowd, added("message", said()), {f"value{number}": "1" for number in range(500)})
    assert len(parsed.messages) == 1
    assert len(parsed.notices) == MOST_NOTICES
    assert parsed.errors == (f"body: 501 kinds of events; the first {MOST_NOTICES} are announced",)


@pytest.mark.parametrize("name", ["message[update][0][id]", "message[delete][0][id]", "contacts[add][0][id]"])
def test_an_event_that_is_no_new_message_is_a_notice(name: str) -> None:
    (notice,) = read({name: "1"}).notices
    assert notice.name == name.partition("[0]")[0].replace("][", "_").replace("[", "_").rstrip("]")


@pytest.mark.parametrize(
    ("fields", "kind", "media"),
    [
        ({"message_type": "picture"}, "image", ()),
        ({"message_type": "voice"}, "audio", ()),
        ({"message_type": "contact"}, "contacts", ()),
        ({"message_type": "poll"}, "poll", ()),
        ({"attachment__link": "https://f.example/1"}, "file", (Media("https://f.example/1"),)),
        (
            {
                "attachment__type": "picture",
                "attachment__link": "https://f.example/a",
                "attachment__file_name": "p",
            },
            "image",
            (Media("https://f.example/a", filename="p"),),
        ),
    ],
)
def test_types_and_files(fields: dict[str, str], kind: str, media: tuple[Media, ...]) -> None:
    (message,) = read(added("message", said(**fields))).messages
    assert (message.message_type, message.media) == (kind, media)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"id": None}, "message.add.1.id: missing"),
        ({"id": "x" * 5000}, "message.add.1.id: missing or too long"),
        ({"chat_id": None}, "message.add.1.chat_id: missing"),
        ({"chat_id": "two words"}, "message.add.1.chat_id: missing or unreadable"),
        ({"chat_id": "x" * 201}, "message.add.1.chat_id: missing or unreadable"),
    ],
)
def test_a_message_that_cannot_be_read_costs_its_neighbours_nothing(fields: dict[str, Any], problem: str) -> None:
    parsed = read(added("message", said(), said(**{"id": "broken", **fields}), said(id="m3")))
    assert [message.external_id for message in parsed.messages] == ["m1", "m3"]
    (error,) = parsed.errors
    assert error.startswith(problem)


def test_a_customer_whose_own_id_is_missing_is_known_by_the_chat() -> None:
    (message,) = read(added("message", said(author__id=None))).messages
    assert message.sender == (Address("kommo_chat", CHAT, CHAT),)


def test_a_key_that_is_a_value_and_a_group_is_an_error_and_the_rest_is_read() -> None:
    parsed = read(added("message", said()), {"leads": "1", "leads[add][0][id]": "2"})
    assert len(parsed.messages) == 1
    assert any("a value and a group" in error for error in parsed.errors)


def test_the_same_as_json() -> None:
    body = orjson.dumps({"message": {"add": [{"id": "m1", "chat_id": CHAT, "text": "hola", "type": "incoming"}]}})
    (message,) = parse(crm(body)).messages
    assert (message.external_id, message.text) == ("m1", "hola")


@pytest.mark.parametrize(
    "body", [b"", b"   ", b"{", b"[]", b"[1]", b"{}", b'{"action":{}}', b'{"action":{},"message":[]}', b"[" * 1_000_000]
)
def test_nothing_is_an_error_in_words(body: bytes) -> None:
    parsed = parse(crm(body))
    assert parsed.errors
    assert "body" in parsed.errors[0]


# -- Chats API webhooks ------------------------------------------------------------------------------------------------


def test_a_managers_message_of_the_chats_api() -> None:
    parsed = parse(chats_raw(chats()))
    (message,) = parsed.agent_messages
    assert (message.external_id, message.text, message.message_type) == ("m2", "buenas", "text")
    assert (message.customer, message.channel_address) == ((ADDRESS,), SCOPE)
    assert (message.author_id, message.author_name, message.contact_name) == (MANAGER, "Eva", "Ana")
    assert message.timestamp == datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    assert message.extra["conversation"] == {"id": CHAT, "client_id": "ours-1"}
    assert (parsed.messages, parsed.notices, parsed.errors) == ((), (), ())


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"type": "location", "location": {"lon": -99.1, "lat": 19.4}}, "19.4, -99.1"),
        ({"type": "contact", "contact": {"name": "Luis", "phone": "+52 55 1"}}, "Luis: +52 55 1"),
        ({"type": "location", "text": "aquí", "location": {"lon": -99.1, "lat": 19.4}}, "aquí"),
    ],
)
def test_a_place_and_a_contact_are_text_that_can_be_read(fields: dict[str, Any], text: str) -> None:
    (message,) = parse(chats_raw(chats({"id": "m1", "text": "", **fields}, receiver=None))).messages
    assert message.text == text


def test_one_without_a_receiver_is_the_customers() -> None:
    (message,) = parse(chats_raw(chats(receiver=None, sender={"id": CUSTOMER, "name": "Ana"}))).messages
    assert (message.sender, message.contact_name, message.text) == ((ADDRESS,), "Ana", "buenas")


@pytest.mark.parametrize(
    ("conversation", "chat"),
    [({"client_id": "ours-1"}, "ours-1"), ({"id": 7, "client_id": "ours-1"}, "7")],
)
def test_a_chat_is_named_by_kommos_id_or_else_by_ours(conversation: dict[str, Any], chat: str) -> None:
    (message,) = parse(chats_raw(chats(conversation=conversation))).agent_messages
    assert message.customer[0].canonical == chat


def test_a_file_of_a_managers() -> None:
    picture = {"type": "picture", "text": "", "media": "https://amojo.example/p.jpg", "file_name": "p.jpg"}
    (message,) = parse(chats_raw(chats(picture))).agent_messages
    assert (message.message_type, message.media) == ("image", (Media("https://amojo.example/p.jpg", filename="p.jpg"),))


def test_a_file_of_a_kind_that_is_new_is_kept() -> None:
    (message,) = parse(chats_raw(chats({"type": "round_video", "media": "https://amojo.example/r"}))).agent_messages
    assert (message.message_type, message.media) == ("round_video", (Media("https://amojo.example/r"),))


def test_a_webhook_that_names_no_account_is_read_all_the_same() -> None:
    root = {name: part for name, part in chats().items() if name != "account_id"}
    assert len(parse(chats_raw(root)).agent_messages) == 1


def test_what_a_message_answers() -> None:
    (message,) = parse(chats_raw(chats(reply_to={"message": {"id": "m1"}}))).agent_messages
    assert message.reply_to == "m1"


@pytest.mark.parametrize(
    "root", [action("typing", expired_at=1767225605), action("reaction", type="react", emoji="🕊", message={"id": "m1"})]
)
def test_typing_and_reactions_are_notices_of_their_channel(root: dict[str, Any]) -> None:
    (notice,) = parse(chats_raw(root)).notices
    assert (notice.name, notice.channel_address) == (next(iter(root["action"])), SCOPE)


@pytest.mark.parametrize(("path", "address"), [("/chats", SOLE_CHANNEL), ("/chats/", SOLE_CHANNEL), ("", SOLE_CHANNEL),
                                               ("/chats/a_b?x=/1", "a_b")])  # fmt: skip
def test_the_channel_is_the_scope_at_the_end_of_the_url(path: str, address: str) -> None:
    (message,) = parse(chats_raw(chats(), path=path)).agent_messages
    assert message.channel_address == address


@pytest.mark.parametrize(
    ("root", "problem"),
    [
        (chats({"id": None}), "message.message.id: missing"),
        (chats({"id": "x" * 5000}), "message.message.id: missing or too long"),
        (chats(conversation={}), "message.conversation.id: missing"),
        (chats(conversation={"id": "two words"}), "message.conversation.id: missing or unreadable"),
        ({"account_id": "a", "message": {}}, "message.message.id: missing"),
    ],
)
def test_a_message_that_cannot_be_read_is_an_error(root: dict[str, Any], problem: str) -> None:
    parsed = parse(chats_raw(root))
    (error,) = parsed.errors
    assert error.startswith(problem)
    assert (parsed.agent_messages, parsed.messages) == ((), ())


# -- whatever comes ----------------------------------------------------------------------------------------------------

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.text(max_size=30), st.floats(allow_nan=False),
    st.lists(st.text(max_size=5), max_size=3), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)  # fmt: skip
KEYS = st.text(alphabet="[]adm0é%&= \x00", max_size=30)


def mutated(root: Any, place: int, value: object) -> Any:
    """The JSON with the value at one of its places exchanged."""
    count = 0

    def walk(node: Any) -> Any:
        nonlocal count
        count += 1
        if count - 1 == place:
            return value
        if isinstance(node, dict):
            return {name: walk(part) for name, part in node.items()}
        return [walk(part) for part in node] if isinstance(node, list) else node

    return walk(root)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 25), ODD)
def test_a_chats_webhook_with_anything_anywhere_is_read_or_refused(place: int, value: object) -> None:
    parsed = parse(chats_raw(mutated(chats(reply_to={"message": {"id": "m1"}}), place, value)))
    assert parsed.agent_messages or parsed.messages or parsed.notices or parsed.errors
    orjson.dumps([message.extra for message in parsed.agent_messages])


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 11), st.text(max_size=40), st.sampled_from(("value", "gone", "group")))
def test_a_crm_message_with_anything_anywhere_costs_no_neighbour(place: int, value: str, how: str) -> None:
    pairs = list(added("message", said(), said(id="odd"), said(id="m3")).items())
    size = len(said())
    name, _ = pairs[size + place % size]
    changed = {"value": [(name, value)], "gone": [], "group": [(f"{name}[x]", value)]}[how]
    body = urlencode([pair for old in pairs for pair in (changed if old[0] == name else [old])]).encode()
    parsed = parse(crm(body))
    assert {"m1", "m3"} <= {message.external_id for message in parsed.messages}
    assert len(parsed.messages) + len(parsed.agent_messages) + len(parsed.errors) >= 3


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(KEYS, st.text(max_size=10)), max_size=10))
def test_keys_of_any_form_cost_no_neighbour(pairs: list[tuple[str, str]]) -> None:
    odd = [pair for pair in pairs if not pair[0].startswith("message") and pair[0]]
    body = urlencode([*odd, *added("message", said()).items()]).encode()
    parsed = parse(crm(body))
    assert [message.external_id for message in parsed.messages] == ["m1"]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    parsed = parse(crm(body))
    assert parsed.messages or parsed.agent_messages or parsed.notices or parsed.errors


CRM_POST = form(
    {"leads[update][0][id]": "1"}, added("message", said(), said(id="m2")), added("outgoing_message", written(id="m3"))
)
CHATS_POST = orjson.dumps(chats({"media": "https://f.example/1"}, reply_to={"message": {"id": "m1"}}))
CUTS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 40), st.text(alphabet='[]%&=+;"{}:,\\u0dad\x00é\n', max_size=8)),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(st.sampled_from((CRM_POST, CHATS_POST)), CUTS)
def test_a_body_cut_and_mended_anywhere_is_read_or_refused(body: bytes, cuts: list[tuple[int, int, str]]) -> None:
    for place, length, instead in cuts:
        place %= len(body) + 1
        body = body[:place] + instead.encode() + body[place + length :]
    for raw in (crm(body), chats_raw(body)):
        parsed = parse(raw)
        assert parsed.messages or parsed.agent_messages or parsed.notices or parsed.errors
        found: list[InboundMessage | AgentMessage] = [*parsed.messages, *parsed.agent_messages]
        for message in found:
            orjson.dumps([message.extra, message.text, message.reply_to])
            assert 0 < len(message.external_id) <= 200


@pytest.mark.parametrize(
    "body",
    [
        b"&".join(b"a%d[b]=1" % number for number in range(90_000)),
        b"&".join(b"a[]=1" for _ in range(200_000)),
        b"&".join(b"a[b]=1" for _ in range(150_000)),
        b"a" + b"[]" * 500_000 + b"=1",
        b"a" + b"][" * 500_000 + b"=1",
        b"%" * 1_000_000,
        b"&" * 1_000_000,
        b'{"message":{"add":[' + b"{}," * 300_000 + b"{}]}}",
        b'{"account_id":1,"message":{"message":{"id":' + b"9" * 900_000 + b"}}}",
    ],
)
def test_no_megabyte_keeps_the_worker_for_long(body: bytes) -> None:
    started = time.process_time()
    parsed = parse(crm(body))
    assert time.process_time() - started < 3.0  # a tenth of it where this is written; a quadratic reader takes minutes
    assert parsed.notices or parsed.errors


def test_a_number_of_any_size_costs_nothing() -> None:
    huge = {f"message[add][{'9' * 1000}]{key}": value for key, value in (("[id]", "m1"), ("[chat_id]", CHAT))}
    assert len(read(huge).messages) == 1


def test_a_form_of_a_hundred_thousand_fields_is_read_at_once() -> None:
    body = form(added("message", *(said(id=f"m{number}") for number in range(9000))))
    assert len(parse_qsl(body.decode())) > 90_000
    assert len(parse(crm(body)).messages) == 9000
    deep = urlencode({"a" + "[b]" * 5000: "1", **added("message", said())}).encode()
    assert len(parse(crm(deep)).messages) == 1
