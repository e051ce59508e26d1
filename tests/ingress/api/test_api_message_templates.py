"""messageTemplates.*: texts with variables."""

import pytest

from tests.support.api import ApiStage
from tests.support.api_inputs import row

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def test_a_template_is_created_changed_previewed_and_deleted_each_with_its_event(api: ApiStage) -> None:
    ana = await api.tenant()
    given = {"name": "greeting", "content": "Hello {{1}}, {{2}}!", "language": "en_US"}
    made = (await api.post("/v1/message-templates", ana, given)).body["messageTemplate"]
    assert (made["variables"], made["status"], made["channelId"]) == (["1", "2"], "approved", None)
    at = f"/v1/message-templates/{made['id']}"
    assert (await api.get(at, ana)).body == {"messageTemplate": made}

    preview = await api.get(f"{at}/preview", ana, params={"variables": '{"1": "Ana", "3": "x"}'})
    assert preview.body == {"text": "Hello Ana, {{2}}!", "missing": ["2"], "unused": ["3"]}

    changed = (await api.patch(at, ana, {"content": "Bye {{name}}", "language": None})).body["messageTemplate"]
    assert (changed["variables"], changed["language"], changed["name"]) == (["name"], None, "greeting")
    assert (await api.patch(at, ana, {"variables": ["a"], "isActive": False})).body["messageTemplate"]["variables"] == [
        "a"
    ]
    assert (await api.get("/v1/message-templates?isActive=true", ana)).body["messageTemplates"] == []
    assert (await api.delete(at, ana)).body["messageTemplate"]["deletedAt"] is not None
    assert (await api.get(f"{at}/preview", ana)).problem == "not-found"
    events = await api.events(ana, "template")
    assert [one["name"] for one in events] == [
        "template.created", "template.updated", "template.updated", "template.deleted",
    ]  # fmt: skip


async def test_templates_of_a_channel_are_listed_by_channel_and_status(api: ApiStage) -> None:
    ana = await api.tenant()
    channel = await row(api, ana, "channels")
    for name, more in (
        ("own", {}),
        ("theirs", {"channelId": channel}),
        ("late", {"channelId": channel, "status": "paused"}),
    ):
        await api.post("/v1/message-templates", ana, {"name": name, "content": "Hi", **more})

    async def names(**params: str) -> list[str]:
        listed = (await api.get("/v1/message-templates", ana, params=params)).body["messageTemplates"]
        return [one["name"] for one in listed]

    assert await names() == ["late", "theirs", "own"]
    assert await names(channelId=channel) == ["late", "theirs"]
    assert await names(channelId=channel, status="approved") == ["theirs"]


async def test_a_template_whose_variables_came_by_sql_has_those_of_its_text(api: ApiStage) -> None:
    ana = await api.tenant()
    for variables in ('{"1": "name"}', "[]", "[1]", "null"):
        await api.pool.execute(
            "INSERT INTO message_templates (tenant_id, name, content, variables) "
            "VALUES ($1, 'x', 'Hi {{1}}', $2::text::jsonb)",
            ana.id, variables,
        )  # fmt: skip
    listed = (await api.get("/v1/message-templates", ana)).body["messageTemplates"]
    assert [one["variables"] for one in listed] == [["1"]] * 4
