"""A mail opts in or out only its author: the address that the inbound service vouches for."""

from datetime import UTC, datetime, timedelta

from shared.queue.jobs import WebhookReceived
from shared.settings import Settings
from shared.store import consents
from shared.store.consents import Entry
from tests.support.email_payloads import CONTENT_TYPE, OURS, fields, form
from tests.support.email_stage import Mailbox, mailbox
from workers.persist import worker

SILENT: dict[str, object] = {"reply": {"engine": "none"}}
VICTIM, MALLORY = "victim@customer.example", "mallory@evil.example"


async def posted(box: Mailbox, sender: str, text: str, *, spf: str | None = "pass", reply_to: str = "") -> None:
    """A mail whose envelope is its sender's own."""
    number = await box.stage.count("inbound_log")
    headers = f"From: {sender}\nMessage-ID: <m{number}@x.example>\n" + (f"Reply-To: {reply_to}\n" if reply_to else "")
    envelope = f'{{"to":["{OURS}"],"from":"{sender}"}}'
    body = form(fields(headers=headers, sender=sender, text=text, envelope=envelope, SPF=spf))
    webhook = WebhookReceived.of(
        box.ours.endpoint_id, body, tenant_id=box.ours.tenant_id, provider="email", url=box.url,
        content_type=CONTENT_TYPE, received_at=datetime.now(UTC),
    )  # fmt: skip
    await worker.persist([webhook], box.stage.context)


async def wants(box: Mailbox, who: str) -> list[tuple[str, str]]:
    """What the ledger holds of this address, oldest first."""
    rows = await box.stage.rows(
        "SELECT k.state, k.scope FROM consents k JOIN contact_addresses a ON a.contact_id = k.contact_id "
        "WHERE a.canonical = $1 ORDER BY k.effective_at",
        who,
    )
    return [(row["state"], row["scope"]) for row in rows]


async def stopped(box: Mailbox, who: str) -> bool:
    found = await box.stage.row("SELECT id FROM conversations WHERE address = $1", who)
    async with box.stage.pool.acquire() as connection:
        return await consents.answer_stopped(connection, box.ours.tenant_id, found["id"])


async def test_a_reply_to_says_where_the_answer_goes_and_nothing_of_who_wants_it(settings: Settings) -> None:
    async with mailbox(settings, SILENT, "clock") as box:
        await posted(box, VICTIM, "STOP")
        assert await wants(box, VICTIM) == [("opted_out", "all")]
        await posted(box, MALLORY, "START", reply_to=VICTIM)
        assert await wants(box, VICTIM) == [("opted_out", "all")]
        assert await wants(box, MALLORY) == [("opted_in", "all")], "what is proven is the author's"
        assert await stopped(box, VICTIM)
        await posted(box, VICTIM, "START")
        assert not await stopped(box, VICTIM)
        await posted(box, MALLORY, "STOP", reply_to=VICTIM)
        assert not await stopped(box, VICTIM), "and no person silences another"
        assert await wants(box, MALLORY) == [("opted_in", "all"), ("opted_out", "all")]


async def test_a_forged_from_changes_nothing_and_one_that_nobody_vouches_for_only_opts_out(settings: Settings) -> None:
    async with mailbox(settings, {"reply": {"greeting": "Hi", "menu": []}}, "clock") as box:
        await posted(box, VICTIM, "STOP", spf="fail")
        assert await wants(box, VICTIM) == []
        assert await box.stage.count("conversations WHERE reply_due_at IS NOT NULL") == 0, "no menu for it"
        await posted(box, VICTIM, "STOP", spf=None)
        await posted(box, VICTIM, "START", spf=None)
        await posted(box, VICTIM, "START", spf="softfail")
        assert await wants(box, VICTIM) == [("opted_out", "all")]
        await posted(box, VICTIM, "START")
        assert await wants(box, VICTIM) == [("opted_out", "all"), ("opted_in", "all")]


async def test_a_spam_report_is_lifted_by_a_mail_of_theirs_and_by_none_in_their_name(settings: Settings) -> None:
    async with mailbox(settings, SILENT, "clock") as box:
        await posted(box, VICTIM, "hola")
        contact = await box.stage.value("SELECT contact_id FROM conversations")
        at = datetime.now(UTC) - timedelta(milliseconds=1)
        async with box.stage.pool.acquire() as connection, connection.transaction():
            entry = Entry(box.ours.tenant_id, contact, "email", "opted_out", "provider", at, "blocked")
            assert await consents.add(connection, [entry]) == [entry]
        assert await stopped(box, VICTIM)
        await posted(box, VICTIM, "hola", spf="fail")
        await posted(box, VICTIM, "hola", spf=None)
        await posted(box, MALLORY, "hola", reply_to=VICTIM)
        assert await stopped(box, VICTIM)
        await posted(box, VICTIM, "hola otra vez")
        assert not await stopped(box, VICTIM)


async def test_a_deleted_contact_comes_back_by_a_mail_of_theirs_and_by_none_in_their_name(settings: Settings) -> None:
    async with mailbox(settings, SILENT, "clock") as box:
        await posted(box, VICTIM, "hola")
        await box.stage.pool.execute("UPDATE contacts SET deleted_at = now()")
        await posted(box, VICTIM, "hola", spf="fail")
        await posted(box, VICTIM, "hola", spf=None)
        await posted(box, MALLORY, "hola", reply_to=VICTIM)
        assert await box.stage.count("contacts WHERE deleted_at IS NULL") == 0
        await posted(box, VICTIM, "hola otra vez")
        assert await box.stage.count("contacts WHERE deleted_at IS NULL") == 1
