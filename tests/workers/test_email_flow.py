"""The whole way of a mail: posted in by HTTP, answered by SMTP in its thread; what comes back, what isn't answered."""

import asyncio
import json
from io import BytesIO

import aiohttp

from ops.sandbox.email_forms import ADDRESS
from shared.domain.message_form import Form, stored
from shared.domain.model import Media
from shared.settings import Settings
from tests.support.email_payloads import CONTENT_TYPE, fields, form
from tests.support.email_stage import ANA, mailbox
from tests.support.ingress import PUBLIC_URL

RULES: dict[str, object] = {
    "reply": {"greeting": "Hi Ana", "menu": [], "rules": [{"patterns": ["*price*"], "answer": "12 €"}]}
}
QUOTED = "What is the price?\n\nOn Mon, 5 Jan 2026, Tienda <hola@palomar.example> wrote:\n> Hi Ana\n"


async def test_a_conversation_is_one_thread(settings: Settings) -> None:
    async with mailbox(settings, RULES) as box:
        first = await box.writes("hola", subject="Pigeons")
        await box.stage.until(box.stage.statuses, equals=["sent"])
        ((text, headers),) = await box.mails()
        assert (text, headers["subject"]) == ("Hi Ana", "Re: Pigeons")
        assert headers["in-reply-to"] == headers["references"] == first.message_sid
        assert headers["auto-submitted"] == "auto-replied"
        own = await box.stage.row("SELECT * FROM messages WHERE direction = 'outbound'")
        assert own["external_id"] == headers["message-id"] == f"<palomar.{own['id']}@palomar.example>"

        threaded = {"In-Reply-To": headers["message-id"], "References": f"{first.message_sid} {headers['message-id']}"}
        # Another spelling of her address is the same person, and what she quotes is not what she asks.
        second = await box.writes(QUOTED, sender=ANA.upper(), subject="Re: Pigeons", headers=threaded)
        await box.stage.until(box.stage.statuses, equals=["sent", "sent"])
        text, headers = (await box.mails(ANA.upper()))[-1]
        assert (text, headers["subject"]) == ("12 €", "Re: Pigeons")
        assert headers["in-reply-to"] == second.message_sid
        assert headers["references"].split() == [first.message_sid, threaded["In-Reply-To"], second.message_sid]
        assert await box.stage.count("conversations WHERE provider = 'email'") == 1
        asked = await box.stage.row("SELECT * FROM messages WHERE external_id = $1", second.message_sid)
        assert (asked["content"], asked["reply_to"]) == ("What is the price?", own["external_id"])
        assert asked["metadata"]["full_text"] == QUOTED.strip()
        assert await box.stage.dead_letters() == {}


async def test_a_mail_that_comes_back_has_failed(settings: Settings) -> None:
    async with mailbox(settings, RULES) as box:
        await box.writes("hola")
        await box.stage.until(box.stage.statuses, equals=["sent"])
        ((_, headers),) = await box.mails()
        await box.stage.sandbox.email_bounce(headers["message-id"], webhook_url=box.url)
        await box.stage.until(box.stage.statuses, equals=["failed"])
        row = await box.stage.row("SELECT * FROM messages WHERE direction = 'outbound'")
        assert row["error_code"] == "5.1.1"
        assert "no such user" in row["error_message"]
        # The report itself is no customer's message.
        assert await box.stage.count("messages WHERE direction = 'inbound'") == 1
        assert await box.stage.count("contacts") == 1


async def test_what_a_machine_wrote_is_kept_and_not_answered(settings: Settings) -> None:
    async with mailbox(settings, RULES) as box:
        await box.writes("I am away", headers={"Auto-Submitted": "auto-replied"}, sender="luis@customer.example")
        await box.stage.until(box.stage.count, "messages WHERE role = 'system'", equals=1)
        await box.writes("hola")  # and the next one in line is
        await box.stage.until(box.stage.statuses, equals=["sent"])
        assert await box.mails("luis@customer.example") == []
        assert await box.stage.count("conversations WHERE reply_due_at IS NOT NULL") == 0


async def test_two_machines_that_do_not_say_so_end(settings: Settings) -> None:
    async with mailbox(settings, RULES) as box:
        for number in range(12):
            await box.writes(f"{number}. thank you for your mail")
            await box.stage.until(box.stage.count, "messages WHERE direction = 'inbound'", equals=number + 1)
            await box.stage.until(box.stage.count, "conversations WHERE reply_due_at IS NULL", equals=1)
        assert await box.stage.count("messages WHERE direction = 'outbound'") == 10


async def test_a_mail_lost_after_its_last_line_is_unknown_and_not_sent_again(settings: Settings) -> None:
    async with mailbox(settings, RULES) as box:
        await box.stage.sandbox.faults({"provider": "email", "action": "accept_then_drop", "times": 1})
        await box.writes("hola")
        # No server can be asked what became of it: after a while it is given up, as the channel says.
        await box.stage.until(box.stage.count, "messages WHERE error_code = 'unknown'", equals=1)
        await box.stage.sandbox.faults({"provider": "email", "action": "429", "times": 1})
        await box.writes("price?", sender="Luis <luis@customer.example>")
        await box.stage.until(box.stage.statuses, equals=["failed", "sent"])  # 421, and then it was taken
        assert len(await box.mails()) == 1
        assert len(await box.mails("luis@customer.example")) == 1


async def test_a_mail_with_a_large_file_is_kept_whole(settings: Settings) -> None:
    envelope = json.dumps({"to": [ADDRESS], "from": ANA})
    file = ("f.bin", "application/octet-stream", b"\0" * (9 * 1024 * 1024))
    body = form(fields(sender=ANA, envelope=envelope, attachment1=file))
    async with mailbox(settings, {"reply": {"engine": "none"}}, "persist") as box:
        await box.writes("hola")
        async with (
            aiohttp.ClientSession() as client,
            client.post(box.url, data=BytesIO(body), headers={"Content-Type": CONTENT_TYPE}) as answer,
        ):
            assert answer.status == 200
        await box.stage.until(box.stage.count, "messages WHERE external_id = '<m1@example.com>'", equals=1)
        media = await box.stage.value("SELECT media FROM messages WHERE external_id = '<m1@example.com>'")
        assert [(part["id"], part["filename"]) for part in media] == [("attachment1", "f.bin")]
        assert await box.stage.value("SELECT body FROM inbound_log ORDER BY length(body) DESC LIMIT 1") == body
        assert await box.stage.count("conversations") == 1


async def test_a_login_that_is_refused_stops_the_channel(settings: Settings) -> None:
    async with mailbox(settings, RULES) as box:
        await box.stage.sandbox.faults({"provider": "email", "action": "error", "code": 530, "times": 1})
        await box.writes("hola")
        stopped = "channels WHERE status = 'stopped' AND provider = 'email'"
        await box.stage.until(box.stage.count, stopped, equals=1)
        assert await box.stage.statuses() == ["ready"]


async def test_who_unsubscribes_gets_no_bulk_mail_and_still_their_answers(settings: Settings) -> None:
    async with mailbox(settings, RULES) as box:
        stage = box.stage
        await box.writes("hola", subject="Pigeons")
        await stage.until(stage.statuses, equals=["sent"])
        talk = await stage.value("SELECT id FROM conversations")
        await stage.owe(talk, "News", lane="bulk", ours=box.ours, metadata=stored(Form(subject="Our news")))
        await stage.until(stage.statuses, equals=["sent", "sent"])
        _, headers = (await box.mails())[-1]
        assert (headers["subject"], "in-reply-to" in headers) == ("Our news", False)
        link = headers["list-unsubscribe"].partition(">")[0].lstrip("<")
        assert link.startswith(PUBLIC_URL)
        async with aiohttp.ClientSession() as client:
            for _ in range(2):  # a mailbox provider may say it twice
                async with client.post(box.url.partition("/webhooks/")[0] + link.removeprefix(PUBLIC_URL)) as answer:
                    assert answer.status == 200
        said = "consents WHERE state = 'opted_out' AND scope = 'marketing' AND channel_kind = 'email'"
        await stage.until(stage.count, f"(SELECT DISTINCT contact_id FROM {said}) AS who", equals=1)
        await stage.owe(talk, "More news", lane="bulk", ours=box.ours)
        await stage.until(stage.statuses, equals=["sent", "sent", "failed"])
        await box.writes("price?")
        await stage.until(stage.statuses, equals=["sent", "sent", "failed", "sent"])
        assert await stage.dead_letters() == {}


async def test_who_calls_a_mail_spam_is_left_alone_until_they_write(settings: Settings) -> None:
    async with mailbox(settings, RULES) as box:
        stage = box.stage
        await box.writes("hola")
        await stage.until(stage.statuses, equals=["sent"])
        ((_, headers),) = await box.mails()
        report = fields(
            headers="Content-Type: multipart/report; report-type=feedback-report\n", sender="fbl@provider.example",
            envelope=json.dumps({"to": [ADDRESS], "from": ""}),
            attachment1=("", "message/feedback-report", b"Feedback-Type: abuse\r\n"),
            attachment2=("", "message/rfc822", f"Message-ID: {headers['message-id']}\r\n\r\nx".encode()),
        )  # fmt: skip
        async with (
            aiohttp.ClientSession() as client,
            client.post(box.url, data=form(report), headers={"Content-Type": CONTENT_TYPE}) as answer,
        ):
            assert answer.status == 200
        await stage.until(stage.count, "consents WHERE scope = 'blocked' AND state = 'opted_out'", equals=1)
        await stage.owe(await stage.value("SELECT id FROM conversations"), "Are you there?", ours=box.ours)
        await stage.until(stage.statuses, equals=["sent", "failed"])
        await box.writes("price?")
        await stage.until(stage.statuses, equals=["sent", "failed", "sent"])


async def test_a_slow_clock_of_theirs_says_nothing_of_when_they_wrote(settings: Settings) -> None:
    async with mailbox(settings, {"reply": {"engine": "none"}}, "persist") as box:
        await box.writes("hola", headers={"Date": "Thu, 01 Jan 2015 10:00:00 +0000"})
        await box.stage.until(box.stage.count, "messages", equals=1)
        assert await box.stage.value("SELECT last_user_message_at > now() - interval '1 hour' FROM conversations")
        assert await box.stage.value("SELECT metadata ->> 'date' FROM messages") == "2015-01-01T10:00:00+00:00"


async def test_a_file_leaves_in_the_mail_and_what_cannot_be_brought_as_a_link(settings: Settings) -> None:
    async with mailbox(settings, {"reply": {"engine": "none"}}) as box:
        stage, sandbox = box.stage, box.stage.sandbox
        await box.writes("hola")
        await stage.until(stage.count, "messages", equals=1)
        bill = await sandbox.media("plain", size=300_000, mime_type="application/pdf")
        large = await sandbox.media("plain", size=6 * 1024**2, mime_type="video/mp4")
        page = await sandbox.media("plain", mime_type="text/html")
        gone = await sandbox.media("plain", fault="gone")
        files = (
            Media(bill.url, filename="factura año.pdf"), Media(large.url), Media(page.url), Media(gone.url),
            Media("http://169.254.169.254/latest"),
        )  # fmt: skip
        await stage.owe(await stage.value("SELECT id FROM conversations"), "Toma", ours=box.ours, media=files)
        await stage.until(stage.statuses, equals=["sent"])
        (mail,) = [one for one in await sandbox.messages(to=ANA) if one.outcome == "accepted"]
        assert mail.media_urls == (f"factura año.pdf application/pdf {bill.hex}",)
        links = mail.body.splitlines()[2:]
        assert links == [large.url, page.url, gone.url, "http://169.254.169.254/latest"]
        # Another one goes as before, and alone.
        await stage.owe(await stage.value("SELECT id FROM conversations"), ours=box.ours, media=(Media(bill.url),))
        await stage.until(stage.statuses, equals=["sent", "sent"])
        mail = [one for one in await sandbox.messages(to=ANA) if one.outcome == "accepted"][-1]
        assert (mail.body, len(mail.media_urls)) == ("", 1)


async def test_a_mail_whose_files_find_no_room_waits_by_its_due_time(settings: Settings) -> None:
    async with mailbox(settings, {"reply": {"engine": "none"}}) as box:
        stage = box.stage
        for sender in (ANA, "luis@customer.example", "eva@customer.example"):
            await box.writes("hola", sender=sender)
        await stage.until(stage.count, "messages", equals=3)
        rows = await stage.rows("SELECT id FROM conversations ORDER BY created_at")
        ana, luis, eva = (row["id"] for row in rows)
        hangs = await stage.sandbox.media("plain", fault="hang")
        await stage.owe(ana, "Toma", ours=box.ours, media=(Media(hangs.url),))
        await stage.until(stage.count, "messages WHERE conversation_id = $1 AND status = 'ready'", ana, equals=1)
        await asyncio.sleep(0.5)  # its file is on its way
        await stage.owe(luis, "Toma", ours=box.ours, media=(Media(hangs.url),))
        waiting = "messages WHERE conversation_id = $1 AND status = 'ready' AND not_before > now()"
        await stage.until(stage.count, waiting, luis, equals=1)
        await stage.owe(eva, "hola", ours=box.ours)  # and delays no mail without files
        await stage.until(stage.count, "messages WHERE conversation_id = $1 AND status = 'sent'", eva, equals=1)
        assert await stage.count("messages WHERE conversation_id = $1 AND status = 'ready'", luis) == 1
