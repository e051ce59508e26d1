"""channels, whatsappSettings, stats, media and system over the API: what a tenant and an operator can do with them."""

import asyncio
from io import BytesIO
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from aio_pika import Message

from shared.actions.channels import SWITCHED_OFF
from shared.crypto import KeyRing
from shared.media.blob_store import Blobs
from shared.queue.connection import connected
from tests.support import api_rows
from tests.support.api import ApiStage, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")

TWILIO = {"accountSid": "AC" + "0" * 32, "authToken": "first token"}
NUMBER = {
    "phoneNumberId": "106540352242922",
    "businessId": "102290129340398",
    "apiKey": "the-app-secret",
    "accessToken": "EAAG-token",
    "webhookToken": "our word",
}


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def channel(api: ApiStage, whose: Tenant, **more: Any) -> dict[str, Any]:
    given = {"provider": "twilio", "kind": "sms", "address": "+1 415 523 8886", "credentials": TWILIO} | more
    answer = await api.post("/v1/channels", whose, given)
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.body["channel"]
    return made


async def endpoint_secrets(api: ApiStage, channel_id: str) -> str:
    (row,) = await api.rows(
        "SELECT e.id, e.tenant_id, e.secrets FROM channels c JOIN endpoints e ON e.id = c.endpoint_id WHERE c.id = $1",
        UUID(channel_id),
    )
    keys = KeyRing.parse(api.settings.secret_keys.get_secret_value())
    return keys.open(row["secrets"], tenant_id=row["tenant_id"], owner=row["id"])


async def test_a_channel_is_created_with_secrets_that_no_answer_shows(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await channel(api, ana, name="Sales")
    assert (made["address"], made["isActive"], made["credentials"]) == ("+14155238886", True, "••••••••")
    (stored,) = await api.rows("SELECT credentials FROM channels WHERE id = $1", UUID(made["id"]))
    keys = KeyRing.parse(api.settings.secret_keys.get_secret_value())
    assert "first token" in keys.open(stored["credentials"], tenant_id=ana.id, owner=UUID(made["id"]))
    assert "first token" in await endpoint_secrets(api, made["id"])
    for path in ("/v1/channels", f"/v1/channels/{made['id']}", f"/v1/channels/{made['id']}/webhook-urls"):
        assert "first token" not in str((await api.get(path, ana)).body)
    urls = (await api.get(f"/v1/channels/{made['id']}/webhook-urls", ana)).body["webhookUrls"]
    assert "/webhooks/twilio/" in urls["messages"]
    assert "/status" in urls["receipts"]


async def test_channels_of_one_account_share_their_endpoint_and_a_rotated_token_is_accepted(api: ApiStage) -> None:
    ana = await api.tenant()
    first = await channel(api, ana)
    second = await channel(api, ana, address="+14155238887")
    rotated = await api.post(
        f"/v1/channels/{first['id']}/rotate-secrets", ana, {"credentials": TWILIO | {"authToken": "second token"}}
    )
    assert rotated.status == 200, rotated.body
    accepted = await endpoint_secrets(api, second["id"])
    assert "first token" in accepted
    assert "second token" in accepted


KOMMO = "6f3ecadf-18a3-4680-9a1b-0c3a1a2b3c4d"
KINDS = {
    "kommo": {"address": f"{KOMMO}_{KOMMO}", "credentials": {"secret": "a secret", "botId": "bot"}},
    "email": {
        "address": "hello@Example.com",
        "credentials": {"host": "smtp.example.com", "port": "465", "tls": "tls", "user": "me", "password": "a secret"},
    },
}


@pytest.mark.parametrize("provider", KINDS)
async def test_a_url_that_holds_a_secret_can_have_another_one(api: ApiStage, provider: str) -> None:
    ana = await api.tenant()
    made = await channel(api, ana, provider=provider, **KINDS[provider], kind=None)
    at = f"/v1/channels/{made['id']}"
    before = (await api.get(f"{at}/webhook-urls", ana)).body["webhookUrls"]["messages"]
    rotated = await api.post(f"{at}/rotate-secrets", ana, {"newUrl": True})
    assert rotated.status == 200, rotated.body
    after = (await api.get(f"{at}/webhook-urls", ana)).body["webhookUrls"]["messages"]
    assert before != after
    accepted = await endpoint_secrets(api, made["id"])
    assert all(url.rpartition("/")[2] in accepted for url in (before, after))
    assert (await api.post(f"{at}/rotate-secrets", ana, {})).pointers == ["#/credentials"]


async def test_a_wrong_channel_is_refused_by_field(api: ApiStage) -> None:
    ana = await api.tenant()
    base = {"provider": "twilio", "kind": "sms", "address": "+14155238886", "credentials": TWILIO}
    for wrong, pointer in (
        ({"provider": "pigeon"}, "#/provider"),
        ({"kind": "email"}, "#/kind"),
        ({"kind": None}, "#/kind"),
        ({"address": "hello"}, "#/address"),
        ({"credentials": {"accountSid": "XX1", "authToken": "x"}}, "#/credentials/accountSid"),
        ({"credentials": {"accountSid": TWILIO["accountSid"]}}, "#/credentials/authToken"),
        ({"settings": {"reply": {"engine": "magic"}}}, "#/settings/reply/engine"),
    ):
        refused = await api.post("/v1/channels", ana, base | wrong)
        assert (refused.status, refused.problem, refused.pointers) == (400, "invalid-input", [pointer]), refused.body
    await channel(api, ana)
    again = await api.post("/v1/channels", ana, base)
    assert (again.problem, again.pointers) == ("conflict", ["#/address"])


async def test_a_channel_is_changed_switched_off_and_on_and_deleted(api: ApiStage) -> None:
    ana = await api.tenant()
    at = f"/v1/channels/{(await channel(api, ana))['id']}"
    changed = (await api.patch(at, ana, {"settings": {"reply": {"engine": "none"}}, "isActive": False})).body["channel"]
    assert changed["settings"] == {"reply": {"engine": "none"}}
    assert changed["isActive"] is False
    assert (await api.patch(at, ana, {"settings": {"reply": None}})).body["channel"]["settings"] == {}
    assert (await api.patch(at, ana, {"isActive": True})).body["channel"]["statusReason"] is None
    assert (await api.delete(at, ana)).status == 200
    assert (await api.get(at, ana)).problem == "not-found"
    names = await api.rows(
        "SELECT name FROM events WHERE tenant_id = $1 AND name LIKE 'channel.%' ORDER BY seq", ana.id
    )
    assert [row["name"] for row in names] == ["channel.created", *["channel.updated"] * 3, "channel.deleted"]


async def test_a_channel_that_its_provider_stopped_can_be_switched_off(api: ApiStage) -> None:
    ana = await api.tenant()
    at = f"/v1/channels/{(await channel(api, ana))['id']}"
    stop = "UPDATE channels SET status = 'stopped', status_reason = '63007: no such number' WHERE tenant_id = $1"
    await api.pool.execute(stop, ana.id)
    off = [(await api.patch(at, ana, {"isActive": False})).body["channel"]["statusReason"] for _ in range(2)]
    assert off == [SWITCHED_OFF, SWITCHED_OFF]
    assert [one["name"] for one in await api.events(ana, "channel")].count("channel.updated") == 1


async def test_the_token_of_a_number_at_the_operators_app_is_rotated_alone(api: ApiStage) -> None:
    ana = await api.tenant()
    number = (await api.post("/v1/whatsapp-settings", ana, NUMBER)).body["whatsappSettings"]
    await api.pool.execute("UPDATE endpoints SET tenant_id = NULL WHERE tenant_id = $1", ana.id)
    before = await api.rows("SELECT secrets FROM endpoints ORDER BY id")
    at = f"/v1/whatsapp-settings/{number['id']}"
    for name in ("apiKey", "webhookToken", "businessId"):
        refused = await api.patch(at, ana, {"accessToken": "EAAG-new", name: "1234567"})
        assert (refused.problem, refused.pointers) == ("invalid-input", [f"#/{name}"])
    wrong = await api.patch(at, ana, {"accessToken": "with blank"})
    assert wrong.pointers == ["#/accessToken"]
    changed = await api.patch(at, ana, {"accessToken": "EAAG-new", "isActive": False})
    assert (changed.status, changed.body["whatsappSettings"]["isActive"]) == (200, False), changed.body
    (row,) = await api.rows("SELECT id, credentials, business_id FROM channels WHERE tenant_id = $1", ana.id)
    keys = KeyRing.parse(api.settings.secret_keys.get_secret_value())
    assert "EAAG-new" in keys.open(row["credentials"], tenant_id=ana.id, owner=row["id"])
    assert row["business_id"] == NUMBER["businessId"]
    assert await api.rows("SELECT secrets FROM endpoints ORDER BY id") == before
    await api.pool.execute("UPDATE endpoints SET tenant_id = $1 WHERE tenant_id IS NULL", ana.id)


async def test_a_numbers_secrets_are_rotated_one_by_one(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await api.post("/v1/whatsapp-settings", ana, NUMBER)
    assert made.status == 201, made.body
    number = made.body["whatsappSettings"]
    assert number["apiKey"] == number["accessToken"] == number["webhookToken"] == "••••••••"
    changed = await api.patch(f"/v1/whatsapp-settings/{number['id']}", ana, {"apiKey": "another-app-secret"})
    assert changed.status == 200, changed.body
    accepted = await endpoint_secrets(api, number["id"])
    assert all(one in accepted for one in ("the-app-secret", "another-app-secret", "our word"))
    spanning = await api.rows("SELECT FROM endpoints WHERE provider = 'meta' AND tenant_id IS NULL")
    assert spanning == [], "a tenant's key makes no endpoint of several tenants"
    wrong = await api.post("/v1/whatsapp-settings", ana, NUMBER | {"apiKey": "with blank", "phoneNumberId": "1234567"})
    assert wrong.pointers == ["#/apiKey"]


async def test_a_number_that_two_tenants_name_is_each_ones_own_endpoint(api: ApiStage) -> None:
    ana, eva = await api.tenant(), await api.tenant()
    for whose in (ana, eva):
        assert (await api.post("/v1/whatsapp-settings", whose, NUMBER)).status == 201
    rows = await api.rows(
        "SELECT DISTINCT endpoint_id FROM channels WHERE provider = 'meta' AND tenant_id = ANY($1)", [ana.id, eva.id]
    )
    assert len(rows) == 2


async def test_figures_count_what_was_sent_how_fast_it_was_answered_and_what_waits(api: ApiStage) -> None:
    ana = await api.tenant()
    tenant_id, channel_id, conversation_id = await api_rows.conversation(api, ana)
    await api_rows.inbound(api, tenant_id, channel_id, conversation_id)
    await api.pool.execute(
        """INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
            out_seq, sent_at)
        SELECT gen_random_uuid(), $1, $2, $3, 'twilio', 'outbound', 'assistant', status, 'hello', place, now()
        FROM unnest(ARRAY['delivered', 'failed', 'held']) WITH ORDINALITY AS of (status, place)""",
        tenant_id, conversation_id, channel_id,
    )  # fmt: skip
    sent = (await api.get("/v1/stats/deliveries", ana)).body
    (of_channel,) = sent["channels"]
    assert (of_channel["channelId"], of_channel["outbound"], of_channel["delivered"]) == (str(channel_id), 3, 1)
    assert sum(hour["outbound"] for hour in sent["hours"]) == 3
    (times,) = (await api.get("/v1/stats/reply-times", ana)).body["channels"]
    assert times["replies"] == 1
    assert 4.5 < times["medianSeconds"] < 60
    (waiting,) = (await api.get("/v1/stats/waiting", ana)).body["channels"]
    assert (waiting["held"], waiting["unknown"]) == (1, 0)
    long = await api.get("/v1/stats/deliveries", ana, params={"since": "2026-01-01T00:00:00Z",
                                                             "until": "2026-03-01T00:00:00Z"})  # fmt: skip
    assert (long.problem, long.pointers) == ("invalid-input", ["#/since"])


async def test_windows_that_close_soon_are_listed(api: ApiStage) -> None:
    ana = await api.tenant()
    _, _, conversation_id = await api_rows.conversation(api, ana)
    soon = (await api.get("/v1/stats/windows", ana, params={"withinMinutes": "30"})).body["windows"]
    assert [one["conversationId"] for one in soon] == [str(conversation_id)]
    assert (await api.get("/v1/stats/windows", ana, params={"withinMinutes": "20"})).body["windows"] == []


async def test_a_file_is_downloaded_by_a_signed_link_and_by_no_other(api: ApiStage) -> None:
    ana, eva = await api.tenant(), await api.tenant()
    content = b"<script>alert(1)</script>"
    file_id = await api_rows.file(api, ana, content, "text/html", 'in "quotes"\r\n.html')
    (row,) = await api.rows("SELECT key FROM media WHERE id = $1", UUID(file_id))
    await Blobs.of(api.settings).put(row["key"], BytesIO(content))
    link = (await api.get(f"/v1/media/{file_id}/link", ana)).body["url"]
    got = await api.get(link, None)
    assert (got.status, got.body) == (200, content.decode())
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Content-Disposition"].startswith('attachment; filename="in _quotes___.html"')
    for wrong in (
        link[:-1] + ("A" if link[-1] != "A" else "B"),
        link.replace("expires=", "expires=9"),
        link.replace(str(ana.id), str(eva.id)),
        link.partition("?")[0],
        "/files/nothing",
    ):
        assert (await api.get(wrong, None)).problem == "forbidden", wrong
    assert (await api.get(f"/v1/media/{file_id}/link", eva)).problem == "not-found"


async def test_an_operator_decides_on_an_unknown_send_once(api: ApiStage) -> None:
    operator = await api.operator()
    message_id = await api_rows.unknown_send(api, await api.tenant())
    listed = (await api.get("/v1/system/unknown-sends", operator)).body["unknownSends"]
    assert [one["id"] for one in listed] == [message_id]
    at = f"/v1/system/{message_id}/decide-unknown-send"
    decided = await api.post(at, operator, {"decision": "resend"})
    assert decided.status == 200, decided.body
    assert decided.body["sentAs"] is not None
    assert (await api.post(at, operator, {"decision": "fail"})).problem == "conflict"
    assert (await api.get("/v1/system/status", operator)).body["unknown"] == 0


async def test_unknown_sends_are_listed_page_by_page(api: ApiStage) -> None:
    operator, ana = await api.operator(), await api.tenant()
    ids = [await api_rows.unknown_send(api, ana) for _ in range(4)]
    one_moment = "UPDATE messages SET unknown_at = now() WHERE id = ANY($1)"
    await api.pool.execute(one_moment, [UUID(one) for one in ids[1:3]])
    await api.pool.execute("UPDATE messages SET unknown_at = NULL WHERE id = $1", UUID(ids[3]))
    in_order = [ids[3], ids[0], *sorted(ids[1:3])]
    found: list[str] = []
    params = {"limit": "1"}
    while True:
        page = (await api.get("/v1/system/unknown-sends", operator, params=params)).body
        found += [one["id"] for one in page["unknownSends"]]
        if page["nextCursor"] is None:
            break
        params = {"limit": "1", "cursor": page["nextCursor"]}
    assert found == in_order


async def dead_letter(api: ApiStage, *bodies: bytes) -> None:
    """Put messages into the media worker's dead-letter queue, and wait until the broker counts them."""
    async with connected(api.settings.amqp_url.get_secret_value(), "test") as connection:
        channel = await connection.channel()
        for body in bodies:
            await channel.default_exchange.publish(Message(body, message_id=f"letter-{body.decode()}"), "media.dead")


async def depths(api: ApiStage, operator: Tenant, envelopes: int, dead: int) -> None:
    """Wait until the media queue has these depths: the broker's counts come a moment later."""
    async with asyncio.timeout(10):
        while True:
            queues = (await api.get("/v1/system/queues", operator)).body["queues"]
            (media,) = (one for one in queues if one["name"] == "media")
            if (media["envelopes"], media["dead"]) == (envelopes, dead):
                return
            await asyncio.sleep(0.1)


async def test_an_operator_replays_and_discards_dead_letters(api: ApiStage) -> None:
    operator = await api.operator()
    await dead_letter(api, b"first", b"second")
    await depths(api, operator, envelopes=0, dead=2)
    listed = (await api.get("/v1/system/dead-letters", operator, params={"queue": "media"})).body
    assert listed["count"] == 2
    assert [one["id"] for one in listed["deadLetters"]] == ["letter-first", "letter-second"]
    assert "first" not in str([{**one, "id": ""} for one in listed["deadLetters"]]), "a body may be a customer's text"
    replayed = await api.post("/v1/system/replay-dead-letters", operator, {"queue": "media", "ids": ["letter-first"]})
    assert (replayed.status, replayed.body) == (200, {"count": 1})
    await depths(api, operator, envelopes=1, dead=1)
    rest = {"queue": "media", "ids": ["letter-second"]}
    assert (await api.post("/v1/system/discard-dead-letters", operator, rest)).body == {"count": 1}
    await depths(api, operator, envelopes=1, dead=0)
    gone = await api.post("/v1/system/replay-dead-letters", operator, {"queue": "media", "ids": ["letter-first"]})
    assert (gone.problem, gone.pointers) == ("not-found", ["#/ids"])
    none = await api.post("/v1/system/replay-dead-letters", operator, {"queue": "fax", "ids": ["letter-first"]})
    assert (none.problem, none.pointers) == ("invalid-input", ["#/queue"])


async def test_an_operator_verifies_the_database(api: ApiStage) -> None:
    operator = await api.operator()
    found = (await api.get("/v1/system/verify", operator)).body
    assert found["ok"] is True
    assert len(found["checks"]) > 20
    assert all((one["ok"], one["detail"], one["remedy"]) == (True, None, None) for one in found["checks"])
    owner = await asyncpg.connect(api.settings.database_session_url)
    await owner.execute("ALTER TABLE groups DISABLE ROW LEVEL SECURITY")
    found = (await api.get("/v1/system/verify", operator)).body
    await owner.execute("ALTER TABLE groups ENABLE ROW LEVEL SECURITY")
    await owner.close()
    assert found["ok"] is False
    (wrong,) = (one for one in found["checks"] if not one["ok"])
    assert "groups does not enable it" in wrong["detail"]
    assert "ALTER TABLE" in wrong["remedy"]
