"""Mails as they leave, and what each answer of an SMTP server means; over SMTP, to a real server."""

import re

import pytest

from shared.domain.model import Button, File, Interactive, Media, Reaction, Template, Thread
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    RecipientInvalid,
    Throttled,
    Unreachable,
)
from shared.providers.email.errors import error_class
from shared.providers.email.send import make_sender
from tests.support.ports import free_port
from tests.support.smtp_stage import MESSAGE_ID, Server, outgoing, sender_to, serving

OWN_ID = f"<palomar.{MESSAGE_ID}@shop.example>"
THREAD = Thread("<m2@example.com>", ("<m1@example.com>", "<r1@shop.example>", "<m2@example.com>"), "Precio")

# -- the mail ----------------------------------------------------------------------------------------------------------


async def test_an_answer_belongs_to_its_thread_and_says_that_a_machine_wrote_it() -> None:
    async with serving(Server()) as server:
        sent = await sender_to(server.port, from_name="Tienda Ñandú").send(
            outgoing(thread=THREAD, automatic="auto-replied")
        )
        assert sent == Accepted(OWN_ID)
        (mail,), (envelope,) = server.taken, server.envelopes
        assert (envelope.mail_from, envelope.rcpt_tos) == ("hola@shop.example", ["Ana@example.com"])
        assert mail.get_content().strip() == "Son 12 €."
        assert mail["From"].addresses[0].display_name == "Tienda Ñandú"
        assert (mail["To"], mail["Subject"]) == ("Ana@example.com", "Re: Precio")
        assert (mail["Message-ID"], mail["In-Reply-To"]) == (OWN_ID, "<m2@example.com>")
        assert mail["References"] == "<m1@example.com> <r1@shop.example> <m2@example.com>"
        assert mail["Auto-Submitted"] == "auto-replied"


@pytest.mark.parametrize(
    ("changed", "subject"),
    [
        ({"thread": Thread("<a@b>", (), "RE: Precio")}, "RE: Precio"),
        ({"thread": Thread("<a@b>", (), "Precio"), "subject": "Oferta"}, "Oferta"),
        ({"text": "Hola Ana"}, "Hola Ana"),
        ({"text": "palabra " * 20}, "palabra palabra palabra palabra palabra palabra palabra palabra …"),
        ({"thread": Thread("<a@b>", (), "Precio\r\nBcc: x@evil.example")}, "Re: Precio Bcc: x@evil.example"),
        ({"subject": "a\nBcc: x@evil.example\n\nb"}, "a Bcc: x@evil.example b"),
    ],
)
async def test_the_subject_is_the_threads_and_one_line(changed: dict[str, object], subject: str) -> None:
    async with serving(Server()) as server:
        assert isinstance(await sender_to(server.port).send(outgoing(**changed)), Accepted)
        (mail,) = server.taken
        assert mail["Subject"] == subject
        assert mail["Bcc"] is None


@pytest.mark.parametrize("evil", ["x\r\nBcc: x@evil.example", "=?utf-8?q?x=0D=0ABcc:_x@evil.example?="])
async def test_no_name_or_id_writes_a_header_of_its_own(evil: str) -> None:
    thread = Thread(f"<a@b>{evil}", (f"<c@d>{evil}", "<e@f>"), evil)
    async with serving(Server()) as server:
        sender = sender_to(server.port, from_name=evil)
        sent = outgoing(thread=thread, media=(Media(url="https://x.example/f", filename=evil),), reply_to=evil)
        assert isinstance(await sender.send(sent), Accepted)
        (mail,) = server.taken
        assert set(mail.keys()) <= {
            "From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
            "X-Peer", "X-MailFrom", "X-RcptTo",
        }  # fmt: skip
        for address in (f"ana@example.com{evil}", "ana@example.com>", "a b@c.example", "", "a@b@c", "ana@-..example"):
            assert isinstance(await sender.send(outgoing(recipient=address)), RecipientInvalid)
        assert len(server.taken) == 1


HIDDEN = "=?utf-8?b?eA0KQmNjOiB4QGV2aWwuZXhhbXBsZQ0KDQpidXk=?="  # x, a header, and another text


@pytest.mark.parametrize(
    "changed",
    [
        {"subject": HIDDEN}, {"text": HIDDEN}, {"thread": Thread("<a@b>", (), HIDDEN)},
        {"thread": Thread(f"<{HIDDEN}@b>", (f"<a{HIDDEN}@b>",), "s")}, {"reply_to": f"<a.{HIDDEN}@b>"},
        {"recipient": f"{HIDDEN}@b.example"}, {"sender": f"{HIDDEN}@b.example"}, {"recipient_name": HIDDEN},
        {"files": (File(HIDDEN, "text/plain", b"x"),)}, {"files": (File("x", HIDDEN, b"x"),)},
    ],
)  # fmt: skip
async def test_nothing_hides_a_header_in_an_encoded_word(changed: dict[str, object]) -> None:
    """Python reads encoded words in what it is given to write, and a customer chooses their subject and message id."""
    async with serving(Server()) as server:
        result = await sender_to(server.port, from_name=HIDDEN).send(outgoing(**changed))
        assert isinstance(result, (Accepted, ContentRejected, RecipientInvalid))
        for envelope in server.envelopes:
            lines = (envelope.original_content or b"").lower().splitlines()
            assert not any(line.startswith((b"bcc", b"buy")) for line in lines)


async def test_a_long_thread_keeps_its_first_and_newest_ids_unbroken() -> None:
    ids = tuple(f"<{'x' * 90}.{n}@example.com>" for n in range(40))
    async with serving(Server()) as server:
        await sender_to(server.port).send(outgoing(thread=Thread(ids[-1], ids, "s")))
        (mail,) = server.taken
        kept = mail["References"].split()
        assert mail["In-Reply-To"] == ids[-1]
        assert (kept[0], kept[-1]) == (ids[0], ids[-1])
        assert set(kept) <= set(ids)
        assert len(mail["References"]) < 950


async def test_words_beyond_ascii_stand_in_lines_that_every_mailer_reads() -> None:
    subject = "ñandú " * 25
    async with serving(Server()) as server:
        await sender_to(server.port, from_name="Tienda «Ñandú», aves y otros animales").send(outgoing(subject=subject))
        assert server.taken[0]["Subject"] == subject.strip()
        encoded = re.findall(rb"=\?utf-8\?[^ ]*\?=", server.envelopes[0].original_content or b"")
        assert len(encoded) > 2
        assert max(map(len, encoded)) <= 75  # RFC 2047


async def test_an_address_beyond_ascii_is_written_as_it_is() -> None:
    async with serving(Server()) as server:
        sent = await sender_to(server.port).send(outgoing(recipient="ñandú@café.example"))
        assert isinstance(sent, Accepted)
        assert server.envelopes[0].rcpt_tos == ["ñandú@xn--caf-dma.example"]
        assert "To: ñandú@xn--caf-dma.example\r\n".encode() in (server.envelopes[0].original_content or b"")


async def test_a_server_that_takes_no_such_address_is_no_fault_of_the_channels() -> None:
    async with serving(Server({"sender": "553 5.6.7 no such letters"})) as server:
        assert isinstance(await sender_to(server.port).send(outgoing(recipient="ñ@x.example")), RecipientInvalid)


async def test_a_bulk_mail_can_be_unsubscribed_with_one_click() -> None:
    url = f"https://hooks.example.com/webhooks/email/1/unsubscribe/{MESSAGE_ID}/v1.k.{'A' * 40}"
    async with serving(Server()) as server:
        await sender_to(server.port).send(outgoing(unsubscribe=url, automatic="auto-generated"))
        await sender_to(server.port).send(outgoing(unsubscribe=url.replace("https", "http")))
        await sender_to(server.port).send(outgoing())
        first, plain, answer = server.taken
        mailto = f"<mailto:hola@shop.example?subject=unsubscribe%20{MESSAGE_ID}>"
        assert first["List-Unsubscribe"] == f"<{url}>, {mailto}"
        assert first["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert first["X-Auto-Response-Suppress"] == "OOF, AutoReply"
        assert (plain["List-Unsubscribe"], plain["List-Unsubscribe-Post"]) == (mailto, None)
        assert answer["List-Unsubscribe"] is answer["X-Auto-Response-Suppress"] is None


async def test_text_arrives_as_it_was_written() -> None:
    text = ".\n..a\nFrom here\n" + "ñ" * 3000 + "\n\n.\nend 🕊"
    async with serving(Server()) as server:
        await sender_to(server.port).send(outgoing(text=text))
        (mail,) = server.taken
        assert mail.get_content().splitlines() == text.split("\n")
        assert max(map(len, (server.envelopes[0].original_content or b"").splitlines())) < 1000


async def test_another_from_address_takes_answers_at_the_channels() -> None:
    async with serving(Server()) as server:
        await sender_to(server.port, from_address="info@tienda.example").send(outgoing())
        (mail,) = server.taken
        assert (mail["From"], mail["Reply-To"]) == ("info@tienda.example", "hola@shop.example")
        assert mail["Message-ID"] == f"<palomar.{MESSAGE_ID}@tienda.example>"


async def test_a_file_leaves_as_a_link() -> None:
    async with serving(Server()) as server:
        media = (Media(url="https://x.example/f.pdf", filename="Factura"),)
        await sender_to(server.port).send(outgoing(text="Toma", media=media))
        assert "Factura: https://x.example/f.pdf" in server.taken[0].get_content()


@pytest.mark.parametrize(
    "changed",
    [
        {"template": Template("hello")}, {"text": " "}, {"media": (Media(id="1"),)},
        {"interactive": Interactive(buttons=(Button("y", "Yes"),))}, {"reaction": Reaction("<a@b>", "👍")},
    ],
)  # fmt: skip
async def test_what_a_mail_cannot_be_is_refused_before_the_call(changed: dict[str, object]) -> None:
    assert isinstance(await sender_to(1).send(outgoing(**changed)), ContentRejected)


# -- what a server says ------------------------------------------------------------------------------------------------

OUTCOMES = [
    ({"greeting": "421 too many connections"}, Throttled, "421"),
    ({"greeting": "554 no mail from you"}, ChannelBroken, "554"),
    ({"login": "454 4.7.0 try again"}, Throttled, "454"),
    ({"login": "535 5.7.8 wrong"}, ChannelBroken, "535"),
    ({"login": "534 5.7.9 another way"}, ChannelBroken, "534"),
    ({"sender": "451 4.3.0 later"}, Throttled, "451"),
    ({"sender": "550 5.7.1 not your address"}, ChannelBroken, "550"),
    ({"sender": "552 5.3.4 too large"}, ContentRejected, "552"),
    ({"sender": "530 5.7.0 log in"}, ChannelBroken, "530"),
    ({"recipient": "450 4.2.0 greylisted"}, Throttled, "450"),
    ({"recipient": "452 4.2.2 full"}, Throttled, "452"),
    ({"recipient": "421 closing"}, Throttled, "421"),
    ({"recipient": "550 5.1.1 nobody"}, RecipientInvalid, "550"),
    ({"recipient": "553 5.1.3 no address"}, RecipientInvalid, "553"),
    ({"recipient": "551 not here"}, RecipientInvalid, "551"),
    ({"recipient": "550 5.1.1 mx.example said: 550 relaying denied"}, RecipientInvalid, "550"),  # theirs, quoted
    ({"recipient": "550 remote server answered: relay not permitted"}, RecipientInvalid, "550"),
    ({"recipient": "530 5.7.0 log in"}, ChannelBroken, "530"),
    ({"recipient": "550 5.7.1 Relaying denied"}, ChannelBroken, "550"),
    ({"recipient": "554 5.7.1 <ana@example.com>: Relay access denied"}, ChannelBroken, "554"),
    ({"content": "421 closing"}, Throttled, "421"),
    ({"content": "451 4.3.0 disk"}, Throttled, "451"),
    ({"content": "552 5.2.3 too large"}, ContentRejected, "552"),
    ({"content": "554 5.7.1 spam"}, ContentRejected, "554"),
    ({"content": "550 5.1.1 nobody"}, RecipientInvalid, "550"),
    ({"content": "999 what"}, Ambiguous, "999"),
]


@pytest.mark.parametrize(("answers", "outcome", "code"), OUTCOMES, ids=lambda one: str(one))
async def test_each_answer_means_one_thing(answers: dict[str, str], outcome: type, code: str) -> None:
    async with serving(Server(answers)) as server:
        result = await sender_to(server.port).send(outgoing())
        assert type(result) is outcome
        assert getattr(result, "code", None) == code
        scope = getattr(result, "scope", "channel")
        # What is put off at the recipient, or by a filter of contents, holds up this one mail and no other.
        one = "recipient" in answers or answers.get("content", "421")[:3] != "421"
        assert scope == ("message" if one and outcome is Throttled else "channel")


@pytest.mark.parametrize(
    ("how", "step", "outcome"),
    [
        ("drop", "sender", Unreachable),
        ("drop", "recipient", Unreachable),
        ("drop", "content", Ambiguous),
        ("hang", "recipient", Unreachable),
        ("hang", "content", Ambiguous),
    ],
)
async def test_silence_is_harmless_until_the_mail_has_left(how: str, step: str, outcome: type) -> None:
    server = Server(drop=step) if how == "drop" else Server(hang=step)
    async with serving(server):
        assert type(await sender_to(server.port, timeout=1.5).send(outgoing())) is outcome


async def test_a_wrong_password_breaks_the_channel() -> None:
    async with serving(Server()) as server:
        assert isinstance(await sender_to(server.port, password="wrong").send(outgoing()), ChannelBroken)
        assert "check user, password and tls" in str(await sender_to(server.port, password="no").check("a@b.example"))
        assert await sender_to(server.port).check("hola@shop.example") is None
        assert server.taken == []


async def test_nobody_there_is_provably_not_accepted() -> None:
    port = free_port()
    assert isinstance(await sender_to(port).send(outgoing()), Unreachable)
    assert "can't be reached" in str(await sender_to(port).check("hola@shop.example"))


async def test_a_server_that_cannot_encrypt_gets_neither_password_nor_mail() -> None:
    async with serving(Server()) as server:
        for tls in ("starttls", "tls"):
            result = await sender_to(server.port, tls=tls, timeout=2.0).send(outgoing())
            assert isinstance(result, (ChannelBroken, Unreachable))
        assert server.taken == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1"]
)
async def test_no_tenant_reaches_our_own_network(host: str) -> None:
    async with serving(Server()) as server:
        result = await sender_to(server.port, private="", host=host).send(outgoing())
        assert isinstance(result, (ChannelBroken, Unreachable))
        assert server.taken == []
        if host == "127.0.0.1":
            assert "PALOMAR_SMTP_PRIVATE_HOSTS" in str(await sender_to(server.port, private="").check("a@b.example"))


@pytest.mark.parametrize(
    ("credentials", "field"),
    [("{}", "host"), ('{"host": "x", "port": 0}', "port"), ('{"host": "x", "tls": "yes"}', "tls"), ("[]", "JSON")],
)
def test_the_error_of_wrong_credentials_names_the_field(credentials: str, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        make_sender(credentials, private_hosts="", timeout=1)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("5.1.1", RecipientInvalid), ("5.2.1", RecipientInvalid), ("5.4.4", RecipientInvalid), ("5.3.4", ContentRejected),
     ("5.6.0", ContentRejected), ("5.7.1", None), ("4.1.1", None), ("unknown", None)],
)  # fmt: skip
def test_a_bounces_code_has_a_class(code: str, kind: type | None) -> None:
    assert error_class(code) is kind
