"""events.live, and mutations that are safe to repeat, over tRPC's own clients and their sockets."""

import asyncio
from typing import Any

import pytest

from tests.support import node
from tests.support.api import ApiStage
from tests.support.live import happen, numbers, streams_open
from tests.support.node import VERSIONS, Version

LINKS = [("v10", "wsLink"), ("v11", "wsLink"), ("v11", "httpSubscriptionLink")]


def reach(version: Version, link: str, port: int, key: str) -> dict[str, Any]:
    """How a client of this version reaches the API with a key."""
    url = f"{'ws' if link == 'wsLink' else 'http'}://127.0.0.1:{port}/trpc"
    if version == "v10":
        return {"link": link, "url": f"{url}?token={key}"}
    return {"link": link, "url": url, "options": {"connectionParams": {"token": key}}}


@pytest.mark.parametrize(("version", "link"), LINKS)
async def test_events_are_followed_behind_a_cursor_and_as_they_happen(
    api: ApiStage, version: Version, link: str
) -> None:
    ana, bea = await api.tenant(), await api.tenant()
    cursor = (await api.get("/v1/events", ana, params={"after": "now"})).body["cursor"]
    for number in range(3):
        await happen(api.pool, ana, "message.sent", number=number)
        await happen(api.pool, bea, "message.sent", number=100)
    call = ["subscription", "events.live", {"after": cursor, "names": ["message_status_changed"]}]
    client = asyncio.create_task(node.run(version, **reach(version, link, api.port, ana.key), calls=[call], take=6))
    await streams_open(1)
    await asyncio.sleep(0.2)  # what was missed is on its way
    await happen(api.pool, ana, "message.held", "message.sent", number=3)
    await happen(api.pool, ana, "message.sent", number=4)
    items = (await client).results[0]["data"]
    assert items[0]["data"] | {"event": None} == {
        "type": "started", "recovered": True, "reason": None, "event": None,
    }  # fmt: skip
    events = [one["data"]["event"] for one in items[1:]]
    assert numbers(events) == list(range(5))
    assert [one["id"] for one in items[1:]] == [event["id"] for event in events]
    assert {event["tenantId"] for event in events} == {str(ana.id)}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_mutation_with_a_key_in_its_input_has_one_effect_over_sockets(api: ApiStage, version: Version) -> None:
    ana = await api.tenant()
    given = {"phoneNumber": "+14155238886", "idempotencyKey": "order-1"}
    calls = [
        ["mutation", "contacts.create", given],
        ["mutation", "contacts.create", given | {"name": "Ana"}],
        ["mutation", "contacts.create", given | {"idempotencyKey": 1}],
        ["mutation", "contacts.create", given | {"idempotencyKey": "ñ"}],
        ["query", "contacts.list", {"idempotencyKey": "order-1"}],
    ]
    asked = reach(version, "wsLink", api.port, ana.key)
    first = await node.run(version, **asked, calls=calls[:1])
    made, other, *wrong, query = (await node.run(version, **asked, calls=calls)).results
    assert made["data"] == first.results[0]["data"], "the first answer again, and no conflict"
    assert other["error"]["data"]["problem"]["status"] == 422
    for one in wrong:
        assert one["error"]["data"]["problem"]["errors"][0]["pointer"] == "#/idempotencyKey"
    assert query["error"]["data"]["code"] == "BAD_REQUEST", "a query has no key"


async def test_a_key_in_an_input_goes_before_the_headers(api: ApiStage) -> None:
    ana = await api.tenant()
    given = {"phoneNumber": "+14155238886", "idempotencyKey": "one"}
    first = await api.post("/trpc/contacts.create", ana, given, Idempotency_Key="a")
    again = await api.post("/trpc/contacts.create", ana, given, Idempotency_Key="b")
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
