"""contacts.import: files of contacts go in whole, whatever is in them and however often they break off."""

import asyncio
import csv
import gzip
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import pytest

from shared.actions import contact_uploads
from shared.domain.contact_files.defects import LONGEST_LINE
from shared.settings import Settings
from tests.support.api import Answer, ApiStage, Tenant, serving
from tests.support.live import Process
from tests.support.ports import free_port
from tests.support.processes import quick

PATH = "/v1/contacts/import"
MAILBOX = "office@example.com"


async def send(api: ApiStage, whose: Tenant, file: bytes, kind: str = "text/csv", **rest: Any) -> Answer:
    headers = rest.pop("headers", {})
    return await api.request("POST", PATH, whose, data=file, params=rest, Content_Type=kind, **headers)


async def done(api: ApiStage, whose: Tenant, file: bytes, kind: str = "text/csv", **rest: Any) -> dict[str, Any]:
    """The import that this file led to."""
    answer = await send(api, whose, file, kind, **rest)
    assert answer.status == 200, answer.body
    imported: dict[str, Any] = answer.body["import"]
    assert imported["status"] == "completed"
    return imported


async def report(api: ApiStage, whose: Tenant, imported: dict[str, Any]) -> list[tuple[int, str, str]]:
    """Line, field and code of each defect."""
    answer = await api.get("/v1/contacts/import-errors.csv", whose, params={"importId": imported["id"]})
    assert answer.status == 200, answer.body
    lines = list(csv.DictReader(answer.body.splitlines()))
    assert all(line["detail"] and line["remedy"] for line in lines)
    return [(int(line["line"]), line["field"], line["code"]) for line in lines]


async def stored(api: ApiStage, whose: Tenant) -> dict[str, dict[str, Any]]:
    """Live contacts, by their number or else their name."""
    rows = await api.rows(
        """SELECT c.phone_number, c.name, c.is_active,
            array(SELECT canonical FROM contact_addresses a WHERE a.contact_id = c.id ORDER BY 1) AS addresses,
            array(SELECT name FROM groups g JOIN group_contacts m ON m.group_id = g.id
                WHERE m.contact_id = c.id ORDER BY 1) AS groups
        FROM contacts c WHERE tenant_id = $1 AND deleted_at IS NULL""",
        whose.id,
    )
    return {row["phone_number"] or row["name"]: row for row in rows}


def many(rows: int, begin: int = 0) -> bytes:
    lines = (f"+3460{n:07},Person {n},person{n}@example.com\n" for n in range(begin, begin + rows))
    return b"phone,name,email\n" + "".join(lines).encode()


def counted(imported: dict[str, Any], *names: str) -> tuple[int, ...]:
    return tuple(imported["counts"][name] for name in names)


OUTCOMES = ("created", "updated", "unchanged", "refused")


async def test_a_file_becomes_contacts_groups_and_events(api: ApiStage) -> None:
    ana = await api.tenant()
    there = await api.post("/v1/contacts", ana, {"phoneNumber": "+525512345678", "name": "Old"})
    file = (
        "﻿Teléfono;Nombre;Correo;Tags;City\r\n"
        "55 1234 5678;Ana;ana@example.com;VIP|Lima;Lima\r\n"
        "+52 1 55 1234 5678;;ANA@example.com;VIP;\r\n"  # the same person, as WhatsApp writes the number
        '+14155238886;"=HYPERLINK(""x""), B";;;\r\n'
        ";Carla;carla@example.com;Lima;\r\n"
    ).encode()
    answer = await send(api, ana, file, defaultCountry="MX", groups="Everyone")
    assert answer.status == 200, answer.body
    assert answer.body["ignoredColumns"] == ["City"]
    imported = answer.body["import"]
    assert counted(imported, *OUTCOMES, "memberships", "groupsCreated") == (2, 1, 1, 0, 6, 3)
    assert (imported["lines"], imported["defaultCountry"], len(imported["groupIds"])) == (5, "MX", 1)
    found = await stored(api, ana)
    assert set(found) == {"+525512345678", "+14155238886", "Carla"}
    assert found["+525512345678"]["name"] == "Ana"
    assert found["+525512345678"]["addresses"] == ["+525512345678", "ana@example.com"]
    assert found["+525512345678"]["groups"] == ["Everyone", "Lima", "VIP"]
    assert found["+14155238886"]["name"] == '=HYPERLINK("x"), B'
    assert found["Carla"]["groups"] == ["Everyone", "Lima"]
    names = [event["name"] for event in await api.events(ana, "contact")]
    assert sorted(names) == ["contact.created"] * 3 + ["contact.updated"]
    grown = [event["detail"].get("contacts_added") for event in await api.events(ana, "group")]
    assert sorted(one for one in grown if one) == [1, 2, 3]
    status = await api.get("/v1/contacts/import-status", ana, params={"importId": imported["id"]})
    assert status.body["import"] == imported
    assert (await api.get("/v1/contacts/imports", ana)).body["imports"] == [imported]
    assert (await api.get(f"/v1/contacts/{there.body['contact']['id']}", ana)).body["contact"]["name"] == "Ana"


async def test_ndjson_with_gzip_and_what_becomes_of_contacts_that_are_there(api: ApiStage) -> None:
    ana = await api.tenant()
    await api.post("/v1/contacts", ana, {"phoneNumber": "+14155238886"})
    rows = [
        {"phoneNumber": "+14155238886", "name": "Ana", "isActive": False, "groups": ["VIP"], "age": 30},
        {"email": "bea@example.com", "name": "Bea", "isActive": False},
    ]
    file = gzip.compress(b"\n".join(orjson.dumps(row) for row in rows))
    packed = {"headers": {"Content_Encoding": "gzip"}}
    kept = await done(api, ana, file, "application/x-ndjson", existing="keep", **packed)
    assert counted(kept, *OUTCOMES) == (1, 0, 1, 0)
    found = await stored(api, ana)
    assert (found["+14155238886"]["name"], found["+14155238886"]["groups"]) == (None, ["VIP"])
    assert found["Bea"]["is_active"] is False
    filled = await done(api, ana, file, "application/x-ndjson", existing="fill", **packed)
    assert counted(filled, *OUTCOMES) == (0, 1, 1, 0)
    found = await stored(api, ana)
    assert (found["+14155238886"]["name"], found["+14155238886"]["is_active"]) == ("Ana", True)
    assert counted(await done(api, ana, file, "application/jsonl", **packed), *OUTCOMES) == (0, 1, 1, 0)
    assert (await stored(api, ana))["+14155238886"]["is_active"] is False
    (broken,) = [await send(api, ana, file[:-9], "application/x-ndjson", **packed)]
    assert (broken.status, broken.problem) == (400, "parse-error")


async def test_each_wrong_line_is_named_and_costs_no_other_line_anything(api: ApiStage) -> None:
    ana = await api.tenant()
    good = [b"+3460000000%d,Person %d,,yes" % (n, n) for n in range(8)]
    bad = [
        b"5.21551E+12,A,,",
        b"+34600000101,Jos\xe9,,",
        b"+34600000102," + b"x" * 1_000_000 + b",,",
        b"+34600000103,A\0,,",
        b"+34600000104" + b"," * 10_000 + b"x",
        b"600000105,A,not an address,perhaps",
        b",nobody,,",
    ]
    lines = [b"phone,name,email,active", *(one for pair in zip(good, [*bad, b""], strict=True) for one in pair)]
    imported = await done(api, ana, b"\n".join(lines))
    assert counted(imported, *OUTCOMES, "defects") == (8, 0, 0, 7, 9)
    assert await report(api, ana, imported) == [
        (3, "phoneNumber", "phone_number"),
        (5, "", "encoding"),
        (7, "", "too_long"),
        (9, "", "nul"),
        (11, "", "too_many_cells"),
        (13, "email", "email"),
        (13, "isActive", "no_truth"),
        (13, "phoneNumber", "no_country"),
        (15, "", "no_address"),
    ]
    assert len(await stored(api, ana)) == 8
    answer = await api.get("/v1/contacts/import-errors.ndjson", ana, params={"importId": imported["id"]})
    assert orjson.loads(answer.body.splitlines()[0])["refused"] is True
    assert "A" not in {value for row in csv.reader(answer.body.splitlines()) for value in row}, "no value of the file"


async def test_people_who_share_a_mailbox_stay_two(api: ApiStage) -> None:
    ana = await api.tenant()
    file = f"phone,email\n+34600000001,{MAILBOX}\n+34600000002,{MAILBOX}\n".encode()
    imported = await done(api, ana, file)
    assert counted(imported, *OUTCOMES, "defects") == (2, 0, 0, 0, 1)
    assert await report(api, ana, imported) == [(3, "email", "email_of_another")]
    assert {number: one["addresses"] for number, one in (await stored(api, ana)).items()} == {
        "+34600000001": ["+34600000001", MAILBOX],
        "+34600000002": ["+34600000002"],
    }


async def test_who_was_deleted_comes_back_and_who_is_being_erased_does_not(api: ApiStage) -> None:
    ana = await api.tenant()
    made = [await api.post("/v1/contacts", ana, {"phoneNumber": f"+3460000000{n}"}) for n in (1, 2)]
    deleted, erased = (one.body["contact"]["id"] for one in made)
    await api.delete(f"/v1/contacts/{deleted}", ana)
    await api.post(f"/v1/contacts/{erased}/erase", ana, {})
    imported = await done(api, ana, b"phone\n+34600000001\n+34600000002\n")
    assert counted(imported, *OUTCOMES) == (0, 1, 0, 1)
    assert (await api.get(f"/v1/contacts/{deleted}", ana)).status == 200
    assert (await api.get(f"/v1/contacts/{erased}", ana)).status == 404
    assert await report(api, ana, imported) == [(3, "phoneNumber", "being_erased")]
    assert "contact.restored" in [event["name"] for event in await api.events(ana, "contact")]


async def part_of(file: bytes, size: int, gate: asyncio.Event) -> AsyncIterator[bytes]:
    """The beginning of a file; the rest never comes, and the connection breaks once the gate is open."""
    yield file[:size]
    await gate.wait()
    raise ConnectionResetError


async def begin(url: str, whose: Tenant, file: bytes, size: int, gate: asyncio.Event, key: str) -> None:
    """Send the beginning of a file, until the gate opens."""
    headers = {"Authorization": f"Bearer {whose.key}", "Content-Type": "text/csv", "Idempotency-Key": key}
    with suppress(aiohttp.ClientError, ConnectionError):
        async with aiohttp.ClientSession() as session:
            await session.post(f"{url}{PATH}", data=part_of(file, size, gate), headers=headers)


async def until_some(api: ApiStage, whose: Tenant) -> dict[str, Any]:
    """The tenant's import, once some of its rows are in."""
    async with asyncio.timeout(20):
        while True:
            answer = await api.get("/v1/contacts/imports", whose)
            if answer.status == 200 and answer.body["imports"] and answer.body["imports"][0]["lines"]:
                found: dict[str, Any] = answer.body["imports"][0]
                return found
            await asyncio.sleep(0.05)


async def test_a_file_whose_client_has_left_goes_on_when_it_comes_again(api: ApiStage) -> None:
    ana = await api.tenant()
    file, gate = many(1_600).replace(b"0@example.com\n", b"0@example.com\n\n\n"), asyncio.Event()
    broken = asyncio.create_task(begin(f"http://127.0.0.1:{api.port}", ana, file, len(file) // 2, gate, "mine"))
    so_far = await until_some(api, ana)
    gate.set()
    await broken
    assert so_far["status"] == "running"
    other = await send(api, ana, many(1_600, begin=5), importId=so_far["id"])
    assert (other.status, other.problem, other.pointers) == (400, "invalid-input", ["#/file"])
    shorter = await send(api, ana, b"\n".join(file.split(b"\n")[:100]), importId=so_far["id"])
    assert "differs" in shorter.body["detail"]
    options = await send(api, ana, file, importId=so_far["id"], existing="keep")
    assert options.pointers == ["#/existing"]
    format_ = await send(api, ana, file, "application/x-ndjson", importId=so_far["id"])
    assert format_.pointers == ["#/importId"]
    mismatch = await send(api, ana, file, existing="fill", headers={"Idempotency_Key": "mine"})
    assert (mismatch.status, mismatch.problem) == (422, "idempotency-mismatch")
    imported = await done(api, ana, file, headers={"Idempotency_Key": "mine"})
    assert imported["id"] == so_far["id"]
    assert counted(imported, *OUTCOMES) == (1_600, 0, 0, 0)
    assert imported["lines"] == file.count(b"\n")
    assert await done(api, ana, file, headers={"Idempotency_Key": "mine"}) == imported
    assert await done(api, ana, b"", importId=imported["id"]) == imported
    names = [event["name"] for event in await api.events(ana, "contact")]
    assert names == ["contact.created"] * 1_600


async def test_two_uploads_of_one_file_at_once_are_one_import(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_uploads, "BATCH", 20)
    ana, file = await api.tenant(), many(400)
    twins = await asyncio.gather(*(done(api, ana, file, headers={"Idempotency_Key": "mine"}) for _ in range(2)))
    assert twins[0]["id"] == twins[1]["id"]
    assert counted(twins[0], *OUTCOMES) == (400, 0, 0, 0)
    assert len(await api.events(ana, "contact")) == 400


async def test_two_files_at_once_make_no_contact_and_no_group_twice(
    api: ApiStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_uploads, "BATCH", 20)
    ana = await api.tenant()
    backwards = many(400).split(b"\n")
    backwards[1:-1] = reversed(backwards[1:-1])
    both = await asyncio.gather(
        done(api, ana, many(400), groups="Everyone"), done(api, ana, b"\n".join(backwards), groups="Everyone")
    )
    assert sum(one["counts"]["created"] for one in both) == 400
    assert sum(one["counts"]["groupsCreated"] for one in both) == 1
    assert len(await stored(api, ana)) == 400


async def test_an_import_goes_on_after_its_process_was_killed(settings: Settings) -> None:
    own = quick(settings, api_port=free_port(), port=free_port())
    process = Process(own, "ingress", "api")
    async with serving(settings) as api:
        ana, file, gate = await api.tenant(), many(1_600), asyncio.Event()
        try:
            process.start()
            url = f"http://127.0.0.1:{own.api_port}"
            async with aiohttp.ClientSession() as session, asyncio.timeout(30):
                while True:
                    with suppress(aiohttp.ClientError):
                        async with session.get(f"{url}/v1/contacts"):
                            break
                    await asyncio.sleep(0.05)
            broken = asyncio.create_task(begin(url, ana, file, len(file) // 2, gate, "mine"))
            await until_some(api, ana)
            process.end()
            gate.set()
            await broken
        finally:
            process.end()
        imported = await done(api, ana, file, headers={"Idempotency_Key": "mine"})
        assert counted(imported, *OUTCOMES) == (1_600, 0, 0, 0)
        assert len(await api.events(ana, "contact")) == 1_600


@pytest.mark.parametrize(
    ("file", "kind", "status", "problem"),
    [
        (b"", "text/csv", 400, "invalid-input"),
        (b"name\nAna\n", "text/csv", 400, "invalid-input"),
        ("phone\n+34600000001\n".encode("utf-16"), "text/csv", 400, "invalid-input"),
        (b"x" * (LONGEST_LINE + 10), "text/csv", 400, "invalid-input"),
        (b"", "application/x-ndjson", 400, "invalid-input"),
        (b"phone\n", "application/json", 415, "unsupported-media-type"),
        (b"phone\n", "", 415, "unsupported-media-type"),
    ],
)
async def test_a_file_that_is_refused_leaves_nothing_behind(
    api: ApiStage, file: bytes, kind: str, status: int, problem: str
) -> None:
    ana = await api.tenant()
    answer = await send(api, ana, file, kind)
    assert (answer.status, answer.problem) == (status, problem)
    if problem == "invalid-input":
        assert answer.body["errors"][0]["remedy"]
    assert (await api.get("/v1/contacts/imports", ana)).body["imports"] == []


async def test_a_file_has_bounds(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"api_upload_limit": 1024**2})) as api:
        ana = await api.tenant()
        bomb = gzip.compress(b"phone\n" + b"x" * 50_000_000)
        for file, headers in ((bomb, {"Content_Encoding": "gzip"}), (b"phone\n" + b"x" * 1024**2, {})):
            answer = await send(api, ana, file, headers=headers)
            assert (answer.status, answer.problem) == (413, "too-large")
        for encoding in ("br", "gzip"):
            answer = await send(api, ana, b"phone\n", headers={"Content_Encoding": encoding})
            assert answer.problem == ("parse-error" if encoding == "gzip" else "unsupported-media-type")


async def test_imports_are_their_tenants_own_and_keys_need_their_scopes(api: ApiStage) -> None:
    ana, luis = await api.tenant(), await api.tenant()
    file = b"phone,groups\n+34600000001,VIP\n"
    theirs = (await done(api, luis, file))["id"]
    for import_id in (theirs, str(uuid4())):
        params = {"importId": import_id}
        answers = [
            await send(api, ana, file, **params),
            await api.get("/v1/contacts/import-status", ana, params=params),
            await api.get("/v1/contacts/import-errors.csv", ana, params=params),
        ]
        assert [(one.status, one.problem, one.pointers) for one in answers] == [(404, "not-found", ["#/importId"])] * 3
    assert (await send(api, ana, file, tenantId=str(luis.id))).problem == "not-found"
    reader, writer = await api.key(ana, "contacts:read"), await api.key(ana, "contacts:write")
    assert (await send(api, reader, file)).problem == "forbidden"
    assert (await send(api, writer, file, groups="VIP")).problem == "forbidden"
    refused = await done(api, writer, file)
    assert counted(refused, *OUTCOMES) == (0, 0, 0, 1)
    assert await report(api, ana, refused) == [(2, "groups", "groups_forbidden")]
    operator = await api.operator()
    assert counted(await done(api, operator, file, tenantId=str(ana.id)), *OUTCOMES) == (1, 0, 0, 0)
    assert (await send(api, ana, file, defaultCountry="XX")).pointers == ["#/defaultCountry"]
    assert (await send(api, ana, file, other="1")).pointers == ["#/other"]


async def test_trpc_says_that_a_file_goes_over_rest(api: ApiStage) -> None:
    answer = await api.post("/trpc/contacts.import", await api.tenant(), {})
    assert answer.status == 405
    assert "REST" in answer.body["error"]["message"]
    assert await api.get("/trpc/router.d.ts", None) is not None
