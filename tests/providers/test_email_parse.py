"""What is read in a mail that a service posts to us: who, what, which thread and files, and whether a person wrote."""

import json
from datetime import UTC, datetime

import pytest

from shared.providers.base import RawWebhook
from shared.providers.email.webhooks import attached, verify
from tests.support.email_payloads import (
    CONTENT_TYPE,
    HEADERS,
    OURS,
    OWN_ID,
    message,
    said,
    whole,
)

# -- who and what ------------------------------------------------------------------------------------------------------


def test_a_mail_is_a_message_of_its_sender() -> None:
    found = message(said())
    assert found.external_id == "<m1@example.com>"
    assert (found.sender[0].kind, found.sender[0].given, found.sender[0].canonical) == (
        "email", "Ana@Example.com", "ana@example.com",
    )  # fmt: skip
    assert (found.contact_name, found.channel_kind, found.channel_address) == ("Ana Pérez", "email", OURS)
    assert (found.message_type, found.text, found.extra["subject"]) == ("text", "¿Cuánto cuesta?", "Precio")
    assert found.timestamp == datetime(2026, 1, 1, 9, tzinfo=UTC)
    assert (found.extra["SPF"], found.extra["spam_score"]) == ("pass", "0.1")


def test_the_whole_mail_is_read_like_the_parsed_one() -> None:
    mail = (
        "From: =?utf-8?q?Ana_P=C3=A9rez?= <Ana@Example.com>\r\nTo: hola@shop.example\r\n"
        "Subject: =?iso-8859-1?q?=BFCu=E1nto?=\r\n =?iso-8859-1?q?_cuesta=3F?=\r\n"
        "Message-ID: <m1@example.com>\r\nIn-Reply-To: <r2@shop.example>\r\n"
        "References: <r1@shop.example>\r\n <r2@shop.example>\r\n"
        'Content-Type: multipart/mixed; boundary="out"\r\n\r\nfor old readers\r\n'
        '--out\r\nContent-Type: multipart/alternative; boundary="in"\r\n\r\n'
        "--in\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        "=BFCu=E1nto?\r\n"
        "--in\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<b>¿Cuánto?</b><script>x()</script>\r\n--in--\r\n"
        '--out\r\nContent-Type: image/png; name="f.png"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        "aGVsbG8=\r\n--out--\r\n"
    )
    found = message(whole(mail))
    assert (found.contact_name, found.sender[0].canonical) == ("Ana Pérez", "ana@example.com")
    assert (found.text, found.extra["subject"], found.extra["html"]) == (
        "¿Cuánto?",
        "¿Cuánto cuesta?",
        "<b>¿Cuánto?</b>",
    )
    assert found.reply_to == "<r2@shop.example>"
    assert found.extra["thread"] == {
        "message_id": "<m1@example.com>",
        "references": ["<r1@shop.example>", "<r2@shop.example>", "<m1@example.com>"],
    }
    (file,) = found.media
    assert (file.mime_type, file.filename) == ("image/png", "f.png")
    part = attached(whole(mail), str(file.id))
    assert part is not None
    assert part.content() == b"hello"


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        ("UTF-8", "café".encode(), "café"),
        ("iso-8859-1", "café".encode("latin-1"), "café"),
        ("windows-1252", "20 €".encode("cp1252"), "20 €"),
        ("shift_jis", "鳩".encode("shift_jis"), "鳩"),
        ("iso-8859-1", "20 € “ya”…".encode("cp1252"), "20 € “ya”…"),
        ("latin1", b"STOP\x85", "STOP…"),
        ("gb2312", "朱镕基".encode("gb18030"), "朱镕基"),
        ("ks_c_5601-1987", "똠방각하".encode("cp949"), "똠방각하"),
        ("Shift_JIS", "①髙".encode("cp932"), "①髙"),
        ("windows-874", "สวัสดี €".encode("cp874"), "สวัสดี €"),
        ("iso-8859-8-i", "שלום".encode("iso8859-8"), "שלום"),
        ("x-mac-cyrillic", "привет".encode("mac-cyrillic"), "привет"),
        ("iso-8859-9", "\u0131ş\u0131k €".encode("cp1254"), "\u0131ş\u0131k €"),
        ("us-ascii", "20 €".encode("cp1252"), "20 €"),
        ("iso-8859-1", b"a\x81b", "a\x81b"),
        ("us-ascii", "café".encode(), "café"),
        ("UTF-8", "café".encode("latin-1"), "café"),
        ("no-such-charset", "café".encode(), "café"),
        ("hex", b"6869", "6869"),
        ("idna", "café".encode(), "café"),
        ("utf-16", b"odd", "odd"),
        ("UTF-8", b"a\0b", "a\ufffdb"),
    ],
)
def test_a_charset_is_believed_as_far_as_it_fits(charset: str, body: bytes, text: str) -> None:
    assert message(said(text=body, charsets=json.dumps({"text": charset}))).text == text


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("=?utf-8?b?A?= hola", "=?utf-8?b?A?= hola"),  # base64 that is none
        ("=?utf-8?b?w6HD?= =?utf-8?b?rQ==?=", "áí"),  # a letter cut in two by whoever folded it
        ("=?utf-8?q?a=00b?= c\0d", "a\ufffdb c\ufffdd"),
        ("=?no-such?q?=E1?= =?x", "á =?x"),
    ],
)
def test_encoded_words_are_read_as_far_as_they_go(subject: str, shown: str) -> None:
    found = message(said(subject=subject, sender=f"{subject} <ana@x.example>"))
    assert found.extra["subject"] == shown
    assert found.sender[0].canonical == "ana@x.example"


def test_text_comes_from_html_only_where_there_is_no_other() -> None:
    html = '<p>Hola <a href="https://x.example/a">aquí</a></p><style>p{}</style><img src="https://t.example/p.gif">'
    both = message(said(html=html))
    assert both.text == "¿Cuánto cuesta?"
    alone = message(said(text=None, html=html + '<a href="javascript:x()" onclick="x()">no</a>'))
    assert alone.text.splitlines()[0] == "Hola [aquí](https://x.example/a)"
    for kept in (both, alone):
        html = str(kept.extra["html"])
        assert "<p>Hola" in html
        assert not any(bad in html for bad in ("style", "img", "javascript", "onclick", "script"))


def test_a_mail_with_nothing_but_a_subject_says_the_subject() -> None:
    assert message(said(text="", subject="Llámame")).text == "Llámame"


def test_files_are_named_so_that_they_can_be_fetched() -> None:
    webhook = said(
        text="",
        attachments="2",
        attachment1=("factura.pdf", "application/pdf", b"\r\n--not the end\r\n\0\xff"),
        attachment2=("", "image/png", b"png"),
        attachment_info=json.dumps({"attachment2": {"filename": "foto.png", "type": "image/png"}}),
    )
    found = message(webhook)
    assert [(m.id, m.filename, m.mime_type) for m in found.media] == [
        ("attachment1", "factura.pdf", "application/pdf"), ("attachment2", "foto.png", "image/png"),
    ]  # fmt: skip
    assert (found.message_type, found.text) == ("file", "")
    part = attached(webhook, "attachment1")
    assert part is not None
    assert part.content() == b"\r\n--not the end\r\n\0\xff"
    assert attached(webhook, "attachment3") is None


def test_a_file_has_the_name_that_the_service_read() -> None:
    """What stands in the part's own header may have lost its charset on the way."""
    info = {"attachment1": {"filename": "presupuesto año.pdf", "name": "x.pdf", "type": "application/pdf"}}
    found = message(
        said(attachment1=("presupuesto a?o.pdf", "application/pdf", b"x"), attachment_info=json.dumps(info))
    )
    assert found.media[0].filename == "presupuesto año.pdf"


def test_text_between_pictures_is_all_of_it_there() -> None:
    mail = (
        'From: a@b.example\r\nContent-Type: multipart/mixed; boundary="m"\r\n\r\n'
        "--m\r\nContent-Type: text/plain\r\n\r\nLook:\r\n--m\r\nContent-Type: image/png\r\n\r\nx\r\n"
        "--m\r\nContent-Type: text/plain\r\n\r\nDo you have it?\r\n--m--\r\n"
    )
    found = message(whole(mail))
    assert found.text.split() == ["Look:", "Do", "you", "have", "it?"]
    assert [file.mime_type for file in found.media] == ["image/png"]


def test_every_text_part_of_a_mixed_mail_is_there_and_of_an_alternative_one_form() -> None:
    mail = (
        'From: a@b.example\r\nContent-Type: multipart/mixed; boundary="m"\r\n\r\n'
        "--m\r\nContent-Type: text/html\r\n\r\n<p>one</p>\r\n--m\r\nContent-Type: image/png\r\n\r\nx\r\n"
        '--m\r\nContent-Type: multipart/alternative; boundary="a"\r\n\r\n'
        "--a\r\nContent-Type: text/plain\r\n\r\ntwo\r\n--a\r\nContent-Type: text/html\r\n\r\n<p>two</p>\r\n--a--\r\n"
        "--m\r\nContent-Type: text/html\r\n\r\n<p>three</p>\r\n"
        "--m\r\nContent-Type: text/plain; name=a.txt\r\n\r\na file\r\n--m--\r\n"
    )
    found = message(whole(mail))
    assert found.text.split() == ["one", "two", "three"]
    assert str(found.extra["html"]).split() == ["<p>one</p>", "<p>two</p>", "<p>three</p>"]
    assert [file.mime_type for file in found.media] == ["image/png", "text/plain"]


def test_all_parts_of_html_alone_are_there() -> None:
    mail = (
        'From: a@b.example\r\nContent-Type: multipart/mixed; boundary="m"\r\n\r\n'
        "--m\r\nContent-Type: text/html\r\n\r\n<html><body><p>one</p></body></html>\r\n"
        "--m\r\nContent-Type: text/html\r\n\r\n<html><body><p>two</p></body></html>\r\n--m--\r\n"
    )
    assert message(whole(mail)).text.split() == ["one", "two"]


def test_a_file_is_named_in_the_wider_charset_too() -> None:
    mail = (
        "From: a@b.example\r\nContent-Type: application/pdf; name*=gb2312''%E9F.pdf\r\n"
        "Content-Disposition: attachment; filename*=gb2312''%D6%EC%E9F%BB%F9.pdf\r\n\r\nx\r\n"
    )
    assert message(whole(mail)).media[0].filename == "朱镕基.pdf"


def test_a_footer_does_not_hide_the_html_before_it() -> None:
    mail = (
        'From: a@b.example\r\nContent-Type: multipart/mixed; boundary="m"\r\n\r\n'
        "--m\r\nContent-Type: text/html\r\n\r\n<p>Do you have it?</p>\r\n"
        "--m\r\nContent-Type: text/plain\r\n\r\nSent by a list\r\n--m--\r\n"
    )
    assert message(whole(mail)).text.split("\n") == ["Do you have it?", "Sent by a list"]


def test_html_of_nothing_but_pictures_does_not_hide_the_text_behind_it() -> None:
    mail = (
        'From: a@b.example\r\nContent-Type: multipart/mixed; boundary="m"\r\n\r\n'
        '--m\r\nContent-Type: text/html\r\n\r\n<p><img src="cid:1"></p>\r\n'
        "--m\r\nContent-Type: text/plain\r\n\r\nSTOP\r\n--m--\r\n"
    )
    assert message(whole(mail)).text == "STOP"


def test_an_invitation_is_a_file() -> None:
    mail = (
        'From: a@b.example\r\nContent-Type: multipart/alternative; boundary="m"\r\n\r\n'
        "--m\r\nContent-Type: text/plain\r\n\r\nTuesday?\r\n--m\r\nContent-Type: text/html\r\n\r\n<p>Tuesday?\r\n"
        '--m\r\nContent-Type: text/calendar; method=REQUEST; charset="UTF-8"\r\n\r\nBEGIN:VCALENDAR\r\n--m--\r\n'
    )
    found = message(whole(mail))
    assert (found.text, [file.mime_type for file in found.media]) == ("Tuesday?", ["text/calendar"])
    part = attached(whole(mail), str(found.media[0].id))
    assert part is not None
    assert part.content() == b"BEGIN:VCALENDAR"


def test_a_line_that_is_no_header_costs_no_other_header() -> None:
    broken = f"Received: by mx\nno header at all\n{HEADERS}Auto-Submitted : auto-replied\n"
    found = message(said(headers="\n" + broken))
    assert (found.external_id, found.message_type) == ("<m1@example.com>", "system")


DISGUISED = "=?utf-8?q?boss=40bank.example=2C?= <ana@x.example>\n"


@pytest.mark.parametrize(
    ("changed", "address"),
    [
        ({"sender": "Ana (Tienda, Norte <ana@x.example>"}, "ana@x.example"),
        ({"sender": "Pérez, Ana <ana@x.example>"}, "ana@x.example"),
        ({"sender": "boss@bank.example, <ana@x.example>", "headers": f"{HEADERS}From: {DISGUISED}"}, "ana@x.example"),
        ({"headers": HEADERS + "Reply-To: ana@x.example\n", "sender": "Web form <web@shop.example>"}, "ana@x.example"),
        ({"headers": HEADERS + "Reply-To: a@x.example, b@x.example\n"}, "ana@example.com"),
        ({"headers": HEADERS + "Reply-To: nobody\n"}, "ana@example.com"),
    ],
)  # fmt: skip
def test_who_wrote_is_who_wants_the_answer(changed: dict[str, str], address: str) -> None:
    found = message(said(**changed))
    assert (found.sender[0].canonical, found.message_type) == (address, "text")


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("Sí.\n\nOn Mon, 5 Jan 2026 at 10:00, Shop <hola@shop.example> wrote:\n\n> Hi\n> there\n", "Sí."),
        ("Sí.\r\n\r\nEl lun, 5 ene 2026 a las 10:00, Tienda\r\n<hola@shop.example> escribió:\r\n> Hola\r\n", "Sí."),
        ("Sim\n\nEm seg., 5 de jan. de 2026, Loja <a@b.example> escreveu:\n> Olá\n", "Sim"),
        ("Sí.\n-- \nAna\n+34 600", "Sí."),
        ("Sí.\n\n-----Mensaje original-----\nDe: x", "Sí."),
        ("Yes\n\nFrom: Shop <a@b.example>\nSent: Monday\nTo: Ana\nSubject: Prices\n\nHi", "Yes"),
        ("> Do you want it?\nYes\n> When?\nToday", "> Do you want it?\nYes\n> When?\nToday"),
        ("Ja.\n\nAm Mo., 5. Jan. 2026 um 10:00 Uhr schrieb Laden <hola@shop.example>:\n\n> Hallo\n", "Ja."),
        ("Ja.\n\nAm 05.01.26 um 10:00 schrieb Laden Berlin\n<hola@shop.example>:\n> Hallo\n", "Ja."),
        ("Ja.\n\nLaden <hola@shop.example> schrieb am Mo., 5. Jan. 2026, 10:00:\n> Hallo\n", "Ja."),
        ("Sì.\n\nIl giorno lun 5 gen 2026 alle ore 10:00 Negozio <a@b.example> ha scritto:\n\n> Ciao\n", "Sì."),
        ("Oui.\n\nLe lun. 5 janv. 2026 à 10:00, Boutique <a@b.example> a écrit\u00a0:\n> Bonjour\n", "Oui."),
        ("Yes\n\nShop <a@b.example> wrote:\n> Hi\n", "Yes"),
        ("Ja.\n\n-----Ursprüngliche Nachricht-----\nVon: x", "Ja."),
        ("Sì.\n\n-----Messaggio originale-----\nDa: x", "Sì."),
        ("Sim.\n\n-----Mensagem original-----\nDe: x", "Sim."),
        ("Oui.\n\n-----Message d’origine-----\nDe : x", "Oui."),
        ("Ja.\n\nVon: Laden <a@b.example>\nGesendet: Montag\nAn: Ana\nBetreff: Preise\n\nHallo", "Ja."),
        ("Sì.\n\nDa: Negozio <a@b.example>\nInviato: lunedì\nA: Ana\nOggetto: Prezzi\n\nCiao", "Sì."),
        ("Oui.\n\nDe : Boutique\nEnvoyé : lundi\nÀ : Ana\nObjet : Prix\n\nBonjour", "Oui."),
        ("Sim.\n\nDe: Loja\nEnviado: segunda\nPara: Ana\nAssunto: Preços\n\nOlá", "Sim."),
        (
            "Yes\n\nGet Outlook for iOS<https://aka.ms/o0ukef>\n________________________________\n"
            "From: Shop <a@b.example>\nSent: Monday\nTo: Ana\nSubject: Prices\n\nHi",
            "Yes",
        ),
        (
            "Ja\n\nOutlook für Android beziehen<https://aka.ms/x>\n______________________\n"
            "Von: Laden\nGesendet: Montag\nAn: Ana\nBetreff: Preise\n\nHallo",
            "Ja",
        ),
        ("Sì\nOttieni Outlook per iOS", "Sì"),
        ("uno\u0085dos\u0085-- \u0085Ana", "uno\ndos"),
        ("a\n_____\nb", "a\n_____\nb"),
        ("He wrote: yes\nand so:\n", "He wrote: yes\nand so:"),
        ("> only a quote", "> only a quote"),
        ("From: the heart\nthank you", "From: the heart\nthank you"),
    ],
)
def test_what_is_new_stands_in_the_text_and_all_of_it_beside(text: str, new: str) -> None:
    found = message(said(text=text))
    assert found.text == new
    if new != text.strip():
        assert str(found.extra["full_text"]).split() == text.split()


@pytest.mark.parametrize(
    ("changed", "address"),
    [
        ({"envelope": '{"to":["inbox@parse.example"],"from":"a@b.c"}'}, "inbox@parse.example"),
        ({"envelope": None}, OURS),
        ({"envelope": "no json", "to": None, "headers": f"Message-ID: <a@b>\nDelivered-To: {OURS}\n"}, OURS),
    ],
)
def test_the_channel_comes_from_the_envelope_else_from_the_headers(
    changed: dict[str, str | None], address: str
) -> None:
    assert message(said(**changed)).channel_address == address


def test_the_same_mail_without_an_id_is_the_same_message_however_it_is_wrapped() -> None:
    one, again = message(said(headers="")), message(said(headers="", spam_score="9"))
    assert one.external_id == again.external_id
    assert message(said(headers="", text="other")).external_id != one.external_id


# -- what nobody answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"headers": HEADERS + "Auto-Submitted: auto-replied\n"},
        {"headers": HEADERS + "Auto-Submitted: auto-generated (vacation)\n"},
        {"headers": HEADERS + "Precedence: bulk\n"},
        {"headers": HEADERS + "X-Auto-Response-Suppress: DR, OOF, AutoReply\n"},
        {"headers": HEADERS + "X-Autoreply: yes\n"},
        {"headers": HEADERS + "List-Id: <pigeons.example>\n"},
        {"headers": HEADERS + 'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n'},
        {"envelope": json.dumps({"to": [OURS], "from": ""})},
        {"sender": "MAILER-DAEMON@mx.example"},
        {"sender": "No Reply <no-reply@x.example>"},
        {"sender": f"Tienda <{OURS}>"},
        {"headers": HEADERS + f"Reply-To: {OURS}\n"},
        {"headers": HEADERS + "Reply-To: mailer-daemon@x.example\n"},
        {"headers": f"Message-ID: {OWN_ID}\n"},  # one of ours that somebody sent back as it was
        {"headers": HEADERS + "Return-Path: <>\n", "envelope": None},
        {"headers": HEADERS + "X-Failed-Recipients: a@b.example\n"},
    ],
)
def test_what_a_machine_wrote_is_kept_and_owed_no_answer(changed: dict[str, str]) -> None:
    found = message(said(**changed))
    assert found.message_type == "system"
    assert found.extra["automatic"]


@pytest.mark.parametrize(
    "changed",
    [
        {"headers": HEADERS + "Auto-Submitted: no\n"},
        {"headers": HEADERS + "Precedence: first-class\n"},
        {"sender": "noreen@x.example"},
        {"cc": "Ana@example.com"},
        {"envelope": None},
    ],
)
def test_what_a_person_wrote_is_answered(changed: dict[str, str | None]) -> None:
    assert message(said(**changed)).message_type == "text"


def test_the_secret_is_the_end_of_the_url() -> None:
    def called(url: str) -> RawWebhook:
        return RawWebhook("POST", url, CONTENT_TYPE, {}, b"")

    assert verify(called("https://x.example/webhooks/email/1/s3cret"), ("other", "s3cret"))
    assert verify(called("https://x.example/webhooks/email/1/s3cret?a=/b"), ("s3cret",))
    assert not verify(called("https://x.example/webhooks/email/1/s3cre"), ("s3cret",))
    assert not verify(called("https://x.example/webhooks/email/1/"), ("",))
    assert not verify(called("https://x.example/webhooks/email/1/ñ"), ("s3cret",))
