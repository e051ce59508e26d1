"""What is read in a mail that a service posts to us: who, what, which thread and files, and whether a person wrote."""

import json
import time
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.model import InboundMessage
from shared.providers.base import OptedOut, Parsed, RawWebhook
from shared.providers.email.errors import error_class
from shared.providers.email.webhooks import attached, parse, verify
from tests.support.email_payloads import BOUNDARY, CONTENT_TYPE, ENVELOPE, HEADERS, OURS, fields, form, raw, said, whole

OWN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
OWN_ID = f"<palomar.{OWN}@shop.example>"
MIB = 1024 * 1024


def message(webhook: RawWebhook) -> InboundMessage:
    parsed = parse(webhook)
    assert parsed.errors == ()
    (found,) = parsed.messages
    return found


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
        ("=?utf-8?b?w6HD?= =?utf-8?b?rQ==?=", "áí"),  # a letter cut in two where the line was folded
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


# -- what is not answered ----------------------------------------------------------------------------------------------


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
        {"headers": f"Message-ID: {OWN_ID}\n"},  # one of ours that was sent back as it was
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


# -- bounces -----------------------------------------------------------------------------------------------------------

REPORT = (
    "Reporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; ana@example.com\r\nAction: failed\r\n"
    "Status: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no such\r\n user here\r\n"
)
REPORTED = HEADERS + 'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n'
BOUNCED = {
    "parsed": said(
        headers=REPORTED, sender="Mail Delivery System <mailer-daemon@mx.example>", text="It was not delivered.",
        attachment1=("", "message/delivery-status", REPORT.encode()),
        attachment2=("", "text/rfc822-headers", f"Message-ID: {OWN_ID}\r\nSubject: x\r\n".encode()),
    ),
    "flattened": said(headers=REPORTED, text=f"{REPORT}\r\nMessage-ID: {OWN_ID}\r\n"),
    "whole": whole(
        f'From: mailer-daemon@mx.example\r\n{REPORTED.replace(chr(10), chr(13) + chr(10))}\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n"
        f"--b\r\nContent-Type: message/delivery-status\r\n\r\n{REPORT}\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: {OWN_ID}\r\nSubject: x\r\n\r\nhola\r\n--b--\r\n"
    ),
    "by its thread": said(headers=REPORTED + f"In-Reply-To: {OWN_ID}\n", text=REPORT),
}  # fmt: skip


@pytest.mark.parametrize("webhook", BOUNCED.values(), ids=BOUNCED)
def test_a_bounce_is_the_receipt_of_the_message_that_came_back(webhook: RawWebhook) -> None:
    parsed = parse(webhook)
    (receipt,) = parsed.receipts
    assert parsed.messages == ()
    assert (receipt.message_id, receipt.external_id, receipt.status) == (OWN, OWN_ID, "failed")
    assert receipt.error_code == "5.1.1"
    assert "550 5.1.1 no such user here" in str(receipt.error_message)


@pytest.mark.parametrize(
    ("action", "status"),
    [("delivered", "delivered"), ("delayed", "delayed"), ("relayed", "sent"), ("failed", "failed")],
)
def test_a_report_says_what_happened(action: str, status: str) -> None:
    text = REPORT.replace("Action: failed", f"Action: {action}") + f"\r\nMessage-ID: {OWN_ID}\r\n"
    (receipt,) = parse(said(headers=REPORTED, text=text)).receipts
    assert (receipt.status, receipt.error_code is None) == (status, action != "failed")


def test_a_bounce_of_somebody_elses_mail_is_kept_and_not_answered() -> None:
    assert message(said(headers=REPORTED, text=REPORT + "Message-ID: <x@y.example>")).message_type == "system"


def test_who_quotes_a_message_id_of_ours_does_not_bounce_it() -> None:
    assert message(said(text=f"Message-ID: {OWN_ID}\nAction: failed")).message_type == "text"


def test_of_a_report_about_several_the_one_that_failed_counts() -> None:
    report = (
        "Reporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; a@x.example\r\nAction: delivered\r\n"
        "Status: 2.0.0\r\n\r\nFinal-Recipient: rfc822; b@x.example\r\nAction: failed\r\nStatus: 5.2.2\r\n"
        "Diagnostic-Code: smtp; 552 mailbox full\r\n"
    )
    (receipt,) = parse(said(headers=REPORTED, text=f"{report}\r\nMessage-ID: {OWN_ID}\r\n")).receipts
    assert (receipt.status, receipt.error_code) == ("failed", "5.2.2")
    assert "mailbox full" in str(receipt.error_message)


@pytest.mark.parametrize(
    ("headers", "text", "code"),
    [
        ("X-Failed-Recipients: ana@example.com\n", "Created automatically.\n\n550 5.1.1 nobody", "5.1.1"),
        ("", "Hi. This is the qmail-send program at mx.example.\nI'm afraid I wasn't able to deliver your message.\n"
         "<ana@example.com>:\nSorry, no mailbox here by that name. (#5.1.1)\n", "5.1.1"),
        ("X-Failed-Recipients: ana@example.com\n", "No luck.", "bounced"),
    ],
)  # fmt: skip
def test_bounces_of_the_old_forms_are_receipts_too(headers: str, text: str, code: str) -> None:
    back = f"{text}\n--- Below this line is a copy of the message.\n\nMessage-ID: {OWN_ID}\n"
    sender = "From: Mail Delivery System <MAILER-DAEMON@mx.example>\n"
    (receipt,) = parse(said(headers=HEADERS + sender + headers, text=back)).receipts
    assert (receipt.message_id, receipt.status, receipt.error_code) == (OWN, "failed", code)
    # A person who quotes such a mail is a person.
    assert message(said(headers=HEADERS + "From: ana@x.example\n", text=back)).message_type == "text"


COMPLAINED = HEADERS + 'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\n'


@pytest.mark.parametrize(("kind", "is_complaint"), [("abuse", True), ("fraud", True), ("not-spam", False)])
def test_a_report_of_spam_is_a_complaint_about_our_mail(kind: str, is_complaint: bool) -> None:
    webhook = said(
        headers=COMPLAINED, sender="feedback@provider.example", text="This is an abuse report.",
        attachment1=("", "message/feedback-report", f"Feedback-Type: {kind}\r\nVersion: 1\r\n".encode()),
        attachment2=("", "message/rfc822", f"Message-ID: {OWN_ID}\r\nSubject: x\r\n\r\nhola".encode()),
    )  # fmt: skip
    parsed = parse(webhook)
    if is_complaint:
        (receipt,) = parsed.receipts
        assert (receipt.message_id, receipt.status, receipt.error_code) == (OWN, "complained", "complaint")
        assert error_class("complaint") is OptedOut
    else:
        assert [found.message_type for found in parsed.messages] == ["system"]


def test_a_mailers_unsubscribe_mail_is_of_the_mail_it_names() -> None:
    parsed = parse(said(subject=f"unsubscribe {OWN}", text="This was generated by a mailer."))
    (receipt,) = parsed.receipts
    assert (receipt.message_id, receipt.error_code, parsed.messages) == (OWN, "unsubscribed", ())
    assert error_class("unsubscribed") is OptedOut
    assert message(said(subject=f"Re: unsubscribe {OWN}")).message_type == "text"


# -- hostile bodies ----------------------------------------------------------------------------------------------------


def test_a_body_that_is_no_form_is_an_error() -> None:
    for webhook in (raw(b"", "text/plain"), raw(b"x"), raw(form(fields()), "multipart/form-data")):
        parsed = parse(webhook)
        assert parsed.errors
        assert parsed.messages == ()


def test_a_form_that_is_no_mail_is_a_notice() -> None:
    assert parse(raw(form({"hello": "world"}))).notices[0].data == {"fields": ["hello"]}


HOSTILE = {
    "delimiters": f"--{BOUNDARY}\r\n".encode() * (MIB // 9),
    "nearly delimiters": f"\n--{BOUNDARY}q".encode() * (MIB // 9),
    "headers": f"--{BOUNDARY}\r\n".encode() + b"A: b\r\n" * (MIB // 6),
    "brackets": form(fields(sender="(" * MIB)),
    "quotes": b'--' + BOUNDARY.encode() + b"\r\nContent-Disposition: form-data; " + b'";' * MIB + b"\r\n\r\nx",
    "elements in elements": form(fields(text=None, html="<div>" * MIB)),
    "lists in lists": form(fields(text=None, html="<ul><li>x" * (MIB // 9))),
    "less than": form(fields(text=None, html="<" * MIB)),
    "parts in parts": form(
        {"email": "From: a@b.example\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n"
         + "--q\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n" * (MIB // 52)}
    ),
    "quoted lines": form(fields(text=">\n" * (MIB // 2))),
    "encoded words": form(fields(subject="=?utf-8?q?a" * (MIB // 10))),
    "nested JSON": form(fields(envelope="[" * MIB)),
}  # fmt: skip


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_no_body_takes_long(body: bytes) -> None:
    """Read as a whole these take minutes, or hours."""
    started = time.process_time()
    parse(raw(body))
    assert time.process_time() - started < 20


def test_parts_without_end_are_not_all_read() -> None:
    many = form({f"field{n}": "x" for n in range(1000)})
    assert "more than 200 parts" in parse(raw(many)).errors[0]


def test_a_mail_that_was_cut_off_is_read_as_far_as_it_came() -> None:
    body = form(fields(attachment1=("f.pdf", "application/pdf", b"x" * 1000)))
    parsed = parse(raw(body[:-500]))
    assert parsed.messages[0].text == "¿Cuánto cuesta?"


def texts(value: object) -> list[str]:
    """Every text in something."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    return [text for part in value for text in texts(part)] if isinstance(value, (list, tuple)) else []


def readable(parsed: Parsed) -> None:
    """All of it is what the queue and PostgreSQL take."""
    values: list[object] = [parsed.errors, [dict(notice.data) for notice in parsed.notices]]
    for found in parsed.messages:
        assert found.external_id
        assert found.sender
        named = [found.contact_name, found.given_from, found.given_to, found.channel_address, found.external_id]
        values += [
            found.text,
            dict(found.extra),
            named,
            [(file.id, file.filename, file.mime_type) for file in found.media],
        ]
        values += [(address.given, address.canonical) for address in found.sender]
    for receipt in parsed.receipts:
        values += [receipt.external_id, receipt.status, receipt.error_code, receipt.error_message, dict(receipt.extra)]
    for text in texts(values):
        assert "\0" not in text
        text.encode()


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_mutated_webhook_raises(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from([form(fields()), *(webhook.body for webhook in BOUNCED.values())])))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(body)))
        cut = data.draw(st.integers(0, 40))
        body[at : at + cut] = data.draw(st.binary(max_size=30))
    readable(parse(raw(bytes(body))))


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.sampled_from(
            ["headers", "from", "to", "cc", "subject", "text", "html", "charsets", "attachment-info", "email"]
        ),
        st.one_of(
            st.just("\0=?utf-8?q?=00?= <a\0@b.example>\0"),
            st.text(max_size=200),
            st.binary(max_size=200),
            st.just(HEADERS),
            st.just("Content-Type: multipart/report"),
        ),
    ),
    st.one_of(
        st.just(ENVELOPE),
        st.text(max_size=60),
        st.sampled_from(
            ["[]", "null", '{"to":1,"from":[]}', '{"to":[1]}', '{"to":["a\\u0000@b.example"],"from":"\\u0000"}']
        ),
    ),
)
def test_no_odd_field_costs_its_neighbours(odd: dict[str, str | bytes], envelope: str) -> None:
    readable(parse(raw(form({**odd, "envelope": envelope}))))
    kept = {name: value for name, value in odd.items() if name not in ("from", "text", "email", "charsets", "headers")}
    found = parse(raw(form({**fields(), **kept})))
    assert found.messages[0].text == "¿Cuánto cuesta?"


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=200), st.text(max_size=60))
def test_no_content_type_raises(content_type: str, boundary: str) -> None:
    parse(raw(form(fields()), content_type))
    parse(raw(form(fields()), f"multipart/form-data; boundary={boundary}"))
    assert CONTENT_TYPE


def test_the_secret_is_the_end_of_the_url() -> None:
    def called(url: str) -> RawWebhook:
        return RawWebhook("POST", url, CONTENT_TYPE, {}, b"")

    assert verify(called("https://x.example/webhooks/email/1/s3cret"), ("other", "s3cret"))
    assert verify(called("https://x.example/webhooks/email/1/s3cret?a=/b"), ("s3cret",))
    assert not verify(called("https://x.example/webhooks/email/1/s3cre"), ("s3cret",))
    assert not verify(called("https://x.example/webhooks/email/1/"), ("",))
    assert not verify(called("https://x.example/webhooks/email/1/ñ"), ("s3cret",))
