"""conversations.send with files, buttons and lists: queued as the workers send them, or refused by the part."""

from typing import Any
from uuid import UUID

import pytest

from shared.domain.message_form import form_of
from shared.domain.model import Button, Interactive, Row, Section
from tests.support.api import Answer, ApiStage, Tenant
from tests.support.api_conversations import add_conversation

pytestmark = pytest.mark.asyncio(loop_scope="module")

PDF = {"url": "https://shop.example/invoice.pdf", "filename": "Invoice 7.pdf"}
PNG = {"url": "https://shop.example/a%20b.png?x=1", "mimeType": "image/png"}
BUTTONS = {"buttons": [{"id": "yes", "title": "Yes"}, {"id": "no", "title": "No"}], "footer": "Shop"}
LIST = {
    "opener": "Choose",
    "sections": [{"title": "Today", "rows": [{"id": "10", "title": "10:00", "description": "in the morning"}]}],
}


async def send(api: ApiStage, whose: Tenant, conversation_id: UUID, given: dict[str, Any], **headers: str) -> Answer:
    return await api.post(f"/v1/conversations/{conversation_id}/send", whose, given, **headers)


@pytest.mark.parametrize(
    ("provider", "kind"), [("twilio", "whatsapp"), ("twilio", "sms"), ("meta", "whatsapp"), ("kommo", "whatsapp"),
                           ("email", "email")],
)  # fmt: skip
async def test_a_file_is_queued_by_its_link(one_api: ApiStage, provider: str, kind: str) -> None:
    ana = await one_api.tenant()
    to = await add_conversation(one_api, ana, provider=provider, kind=kind)
    for given, media, message_type in (
        ({"media": [PDF]}, {"url": PDF["url"], "filename": PDF["filename"]}, "file"),
        ({"media": [PNG], "content": "Look"}, {"url": PNG["url"], "mime_type": "image/png"}, "image"),
    ):
        answer = await send(one_api, ana, to, given)
        assert answer.status == 200, answer.body
        message = answer.body["message"]
        assert (message["media"], message["messageType"]) == ([media], message_type)
        assert message["content"] == given.get("content", "")


async def test_buttons_and_lists_are_queued_at_meta(one_api: ApiStage) -> None:
    ana = await one_api.tenant()
    to = await add_conversation(one_api, ana, provider="meta")
    for interactive, expected in (
        (BUTTONS, Interactive((Button("yes", "Yes"), Button("no", "No")), footer="Shop")),
        (LIST, Interactive((), (Section((Row("10", "10:00", "in the morning"),), "Today"),), "Choose")),
    ):
        answer = await send(one_api, ana, to, {"content": "When?", "interactive": interactive})
        assert answer.status == 200, answer.body
        assert form_of(answer.body["message"]["metadata"]).interactive == expected


NO_BUTTONS = {"content": "When?", "interactive": BUTTONS}


@pytest.mark.parametrize(
    ("provider", "kind", "given", "pointer", "says"),
    [
        ("twilio", "whatsapp", NO_BUTTONS, "#/interactive", "content templates"),
        ("kommo", "whatsapp", NO_BUTTONS, "#/interactive", "no buttons or lists"),
        ("email", "email", NO_BUTTONS, "#/interactive", "no buttons"),
        ("meta", "whatsapp", {"content": "x", "interactive": {}}, "#/interactive", "either buttons or sections"),
        ("meta", "whatsapp", {"content": "x", "interactive": {"buttons": [{"id": "1", "title": "x" * 21}]}},
         "#/interactive", "at most 20"),
        ("meta", "whatsapp", NO_BUTTONS | {"media": [PNG]}, "#/interactive", "go without"),
        ("meta", "whatsapp", {"media": [PNG, PNG]}, "#/media", "one a message"),
        ("meta", "whatsapp", {"media": [PNG], "content": "x" * 1025}, "#/media", "at most 1024"),
        ("twilio", "whatsapp", {"media": [PNG, PNG]}, "#/media", "1 a message"),
        ("twilio", "whatsapp", {"media": [PNG], "content": "x" * 1601}, "#/content", "at most 1600"),
        ("kommo", "whatsapp", {"media": [PNG, PNG]}, "#/media", "one a message"),
    ],
)  # fmt: skip
async def test_what_the_provider_can_not_send_is_refused_by_its_part(
    one_api: ApiStage, provider: str, kind: str, given: dict[str, Any], pointer: str, says: str
) -> None:
    ana = await one_api.tenant()
    to = await add_conversation(one_api, ana, provider=provider, kind=kind)
    refused = await send(one_api, ana, to, given)
    assert (refused.status, refused.problem, refused.pointers) == (400, "invalid-input", [pointer])
    assert says in refused.body["errors"][0]["detail"]
    assert await one_api.rows("SELECT FROM messages WHERE tenant_id = $1", ana.id) == []


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({}, "#/content"),
        ({"content": "", "media": []}, "#/content"),
        ({"media": [{"url": "http://shop.example/a.png"}]}, "#/media/0/url"),
        ({"media": [PNG, {"url": "https://127.0.0.1/a.png"}]}, "#/media/1/url"),
        ({"media": [{"url": "https://169.254.169.254/latest"}]}, "#/media/0/url"),
        ({"media": [{"url": "no link"}]}, "#/media/0/url"),
        ({"media": [PNG | {"mimeType": "png"}]}, "#/media/0/mimeType"),
        ({"media": [PNG] * 11}, "#/media"),
        ({"media": [PNG | {"id": "1"}]}, "#/media/0/id"),
        ({"content": "x", "interactive": {"buttons": [{"id": "", "title": "x"}]}}, "#/interactive/buttons/0/id"),
    ],
)
async def test_a_wrong_part_is_named(one_api: ApiStage, given: dict[str, Any], pointer: str) -> None:
    ana = await one_api.tenant()
    refused = await send(one_api, ana, await add_conversation(one_api, ana, provider="meta"), given)
    assert (refused.problem, refused.pointers) == ("invalid-input", [pointer]), refused.body


async def test_a_request_that_comes_again_with_other_files_is_another_one(one_api: ApiStage) -> None:
    ana = await one_api.tenant()
    to = await add_conversation(one_api, ana, provider="meta")
    first = {"content": "Look", "media": [PNG]}
    made = await send(one_api, ana, to, first, Idempotency_Key="k")
    for given in (first, {"content": "Look", "media": [PDF]}, {"content": "Look", "interactive": BUTTONS}):
        await one_api.pool.execute("DELETE FROM idempotency_keys")  # the message itself still knows what it was for
        again = await send(one_api, ana, to, given, Idempotency_Key="k")
        if given is first:
            assert again.body == made.body
        else:
            assert again.problem == "idempotency-mismatch"
