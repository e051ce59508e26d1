"""palomar campaigns: a campaign is created, started, paused, watched and canceled, and its results are written."""

import asyncio
import csv
import json
from io import StringIO
from pathlib import Path
from uuid import UUID

from shared import database
from shared.queue import topology
from shared.settings import Settings
from shared.store.campaigns.recipients import STATUSES
from tests.support.commands import depth_reaches, palomar
from tests.support.stage import ADDRESS, Stage, staged

HELLO = "Hello {{contact.name|there}}!"


async def run(environment: dict[str, str], *arguments: str, given: str = "", code: int = 0) -> tuple[str, str]:
    """Run `palomar campaigns …`; its output and what it says of errors."""
    ran = await asyncio.to_thread(palomar, environment, "campaigns", *arguments, given=given)
    assert ran.returncode == code, (arguments, ran.stdout, ran.stderr)
    return ran.stdout, ran.stderr


async def with_customers(environment: dict[str, str], tmp_path: Path) -> None:
    """Two contacts in a group."""
    file = tmp_path / "contacts.csv"
    file.write_text("phone,name\n+34600000001,Ana\n+34600000002,Luis\n")
    ran = await asyncio.to_thread(palomar, environment, "contacts", "import", str(file), "--group", "Customers")
    assert ran.returncode == 0, ran.stderr


async def created(environment: dict[str, str], *more: str) -> UUID:
    out, _ = await run(
        environment, "create", "--name", "Q1 Promotion", "--message", HELLO, "--group", "Customers", *more
    )
    return UUID(out.split()[2].rstrip("."))


async def add_recipients(stage: Stage, campaign_id: UUID, *states: str) -> None:
    for state in states:
        contact_id = database.new_id()
        await stage.pool.execute(
            "INSERT INTO contacts (id, tenant_id, name) VALUES ($1, $2, '=1+1')", contact_id, stage.ours.tenant_id
        )
        await stage.pool.execute(
            "INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, status) VALUES ($1, $2, $3, $4)",
            *(stage.ours.tenant_id, campaign_id, contact_id, state),
        )


async def test_a_campaign_is_created_and_led_through_its_life(
    environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    async with staged(settings) as stage:
        await with_customers(environment, tmp_path)
        campaign_id = await created(environment)
        assert "draft" in (await run(environment, "list", "--status", "draft"))[0]
        previewed, _ = await run(environment, "preview", "Q1 Promotion")
        assert "would get it: 2." in previewed
        assert "No price is loaded for 2 of them" in previewed
        assert "running" in (await run(environment, "start", "Q1 Promotion"))[0]
        await depth_reaches(settings, topology.CAMPAIGN.name, 1)
        assert "paused" in (await run(environment, "pause", str(campaign_id)))[0]
        assert "Wait until it has ended" in (await run(environment, "again", "Q1 Promotion", code=1))[1]
        shown, _ = await run(environment, "show", "Q1 Promotion")
        assert "paused: by a person" in shown
        assert "campaigns.resume" in shown
        assert HELLO in shown
        assert "running" in (await run(environment, "resume", "Q1 Promotion"))[0]
        assert "Nothing was changed" in (await run(environment, "cancel", "Q1 Promotion", given="n\n", code=1))[1]
        assert "canceled" in (await run(environment, "cancel", "Q1 Promotion", "--yes"))[0]
        assert "Created campaign" in (await run(environment, "again", "Q1 Promotion"))[0]
        assert "(again)" in (await run(environment, "list", "--status", "draft"))[0]
        _, refused = await run(environment, "start", "Q1 Promotion", code=1)
        assert "is canceled" in refused
        names = await stage.pool.fetch("SELECT name FROM events WHERE name LIKE 'campaign.%' ORDER BY seq")
        expected = ["created", "running", "paused", "running", "canceled", "created"]
        assert [row["name"].removeprefix("campaign.") for row in names] == expected


async def test_a_draft_is_made_from_names_and_scheduled_in_its_zone(
    environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"waves": {"shares": []}, "rate": 5}))
    async with staged(settings) as stage:
        await with_customers(environment, tmp_path)
        await stage.pool.execute(
            """INSERT INTO message_templates (tenant_id, name, content, status, external_id)
            VALUES ($1, 'offers', '{{1}}', 'approved', 'HX1')""",
            stage.ours.tenant_id,
        )
        at = ("--at", "2099-01-07T09:00", "--timezone", "Europe/Madrid")
        variable = ("--template", "offers", "--variable", "1={{contact.name|you}} = 1")
        campaign_id = await created(environment, *at, *variable, "--settings", str(file), "--channel", ADDRESS)
        row = await stage.pool.fetchrow("SELECT * FROM campaigns WHERE id = $1", campaign_id)
        assert row is not None
        assert row["status"] == "scheduled"
        assert f"{row['scheduled_at']:%Y-%m-%d %H:%M}" == "2099-01-07 08:00"
        assert row["variables"] == {"1": "{{contact.name|you}} = 1"}
        assert row["settings"] == {"waves": {"shares": []}, "rate": 5}
        assert row["message_template_id"] is not None


async def test_watch_shows_a_campaign_until_it_ends(
    environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    async with staged(settings) as stage:
        await with_customers(environment, tmp_path)
        campaign_id = await created(environment)
        assert "is a draft" in (await run(environment, "watch", str(campaign_id), code=1))[1]
        await add_recipients(stage, campaign_id, "pending", "delivered", "failed", "failed")
        await stage.pool.execute(
            """UPDATE campaigns SET status = 'paused', frozen_at = now(), paused_reason = 'failures',
            paused_detail = '{"share": 66.7, "allowed": 20.0, "resume": "a person, with campaigns.resume"}'
            WHERE id = $1""",
            campaign_id,
        )
        watching = asyncio.create_task(run(environment, "watch", str(campaign_id)))
        await asyncio.sleep(1.5)
        await stage.pool.execute("UPDATE campaign_recipients SET status = 'sent' WHERE status = 'pending'")
        await stage.pool.execute("UPDATE campaigns SET status = 'completed', paused_reason = NULL WHERE true")
        _, said = await watching
        first, *_, last = said.splitlines()
        assert first == (
            "3 of 4: paused: failures (66.7 % of the outcomes, 20.0 % allowed). Who can resume it: a person, with "
            "campaigns.resume, 2 failed"
        )
        assert last == "4 of 4: completed, 2 failed"
        await stage.pool.execute("UPDATE campaigns SET status = 'canceled' WHERE true")
        assert "canceled" in (await run(environment, "watch", str(campaign_id), code=1))[1]


async def test_results_are_written_as_csv(environment: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    async with staged(settings) as stage:
        await with_customers(environment, tmp_path)
        campaign_id = await created(environment)
        await add_recipients(stage, campaign_id, *STATUSES)
        assert "Wrote 12" in (await run(environment, "results", str(campaign_id), str(file)))[0]
        lines = list(csv.DictReader(StringIO(file.read_text())))
        assert sorted(line["status"] for line in lines) == sorted(STATUSES)
        assert {line["name"] for line in lines} == {"'=1+1"}, "no formula"
        out, _ = await run(environment, "results", str(campaign_id), "--status", "failed")
        assert [line["status"] for line in csv.DictReader(StringIO(out))] == ["failed"]
        _, refused = await run(environment, "results", str(campaign_id), str(tmp_path / "no" / "x.csv"), code=1)
        assert "can't be written" in refused


WRONG = (
    (("create", "--name", "Q1"), "Give one of them"),
    (("create", "--name", "Q1", "--message", "Hi", "--group", "Nobody"), "contacts import"),
    (("create", "--name", "Q1", "--message", "Hi", "--channel", "pigeon"), ADDRESS),
    (("create", "--name", "Q1", "--message", "Hi", "--template", "none"), "messageTemplates.list"),
    (("create", "--name", "Q1", "--message", "Hi {{you}}"), "{{contact.name}}"),
    (("create", "--name", "Q1", "--message", "Hi", "--every", "often"), "five fields"),
    (("create", "--name", "Q1", "--message", "Hi", "--timezone", "Mars"), "Europe/Madrid"),
    (("create", "--name", "Q1", "--message", "Hi", "--variable", "1"), "NAME=TEXT"),
    (("create", "--name", " ", "--message", "Hi"), "at least 1"),
    (("start", "Unknown"), "campaigns list"),
    (("start", "019ac2f0-a3c4-7d49-b5d6-7f3e4d5c6b71"), "campaigns list"),
    (("list", "--status", "sleeping"), "running"),
    (("results", "Q1", "--status", "sleeping"), "delivered"),
)


async def test_what_is_wrong_with_the_call_is_said_with_the_remedy(
    environment: dict[str, str], settings: Settings
) -> None:
    async with staged(settings):
        for arguments, remedy in WRONG:
            _, said = await run(environment, *arguments, code=1)
            assert remedy in said, arguments


async def test_a_preview_says_who_is_left_out_and_why(
    environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    async with staged(settings) as stage:
        await with_customers(environment, tmp_path)
        await stage.pool.execute("UPDATE contacts SET name = NULL WHERE name = 'Luis'")
        await stage.pool.execute(
            """INSERT INTO message_rates (provider, kind, market, category, price, currency, valid_from)
            VALUES ('twilio', 'whatsapp', 'ES', 'service', 0.5, 'EUR', '2020-01-01')"""
        )
        given = ("--name", "Q2", "--message", "Hi {{contact.name}}", "--everyone")
        assert "Created" in (await run(environment, "create", *given))[0]
        out, _ = await run(environment, "preview", "Q2")
        assert "would get it: 1." in out
        assert "missing_variables" in out
        assert "contact.name" in out
        assert "0.50 EUR" in out
