"""contacts.import: files of contacts go in whole, whatever is in them and however often they break off."""

import csv
import gzip
from typing import Any
from uuid import uuid4

import orjson
import pytest

from shared.domain.contact_files.defects import LONGEST_LINE
from shared.settings import Settings
from tests.support.api import ApiStage, Tenant, serving
from tests.support.contact_files import OUTCOMES, counted, done, send

MAILBOX = "office@example.com"


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
        bomb = gzip.compress(b"phone\n" + b"x" * 5_000_000)
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
