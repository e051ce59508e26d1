"""`palomar parse`: what it prints for a person, and the lines it prints for a program."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support import commands

MESSAGE = "MessageSid=SM1&From=whatsapp%3A%2B5215512345678&To=whatsapp%3A%2B14155238886&Body=hola&ProfileName=Ana"
STATUS = "MessageSid=SM1&MessageStatus=failed&ErrorCode=63016&To=whatsapp%3A%2B5215512345678"


def palomar(*arguments: str, given: str = "") -> "subprocess.CompletedProcess[str]":
    return commands.palomar({"PALOMAR_STATE_DIR": str(commands.ROOT)}, "parse", *arguments, given=given)


def test_a_line_in_gives_a_line_out() -> None:
    form = "application/x-www-form-urlencoded"
    cases: list[object] = [
        {"content_type": form, "headers": {"Content-Type": form}, "body": MESSAGE, "url": None, "method": "POST"},
        {"content_type": None, "headers": None, "body": STATUS, "url": "https://p.example/s", "method": None},
        {"content_type": "application/json", "body": {"CallSid": "CA1"}},
        {"content_type": form, "body": "x=1"},
        [1],
    ]
    ran = palomar("twilio", "--jsonl", given="\n".join(map(json.dumps, cases)) + '\n\n{"broken\n')
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert (ran.returncode, len(lines)) == (0, 6)
    message = lines[0]["messages"][0]
    expected = ("SM1", "whatsapp:+5215512345678", "whatsapp:+14155238886", "text", "hola", "Ana", "inbound")
    names = ("external_id", "from", "to", "type", "text", "contact_name", "direction")
    assert tuple(message[name] for name in names) == expected
    assert lines[1]["statuses"][0]["error_code"] == "63016"
    assert lines[2]["other"] == [{"name": "call", "data": {"CallSid": "CA1"}}]
    assert [bool(line["error"]) for line in lines] == [False, False, False, True, True, True]


def test_metas_webhooks_are_read_by_line_too() -> None:
    ours = {
        "metadata": {"phone_number_id": "1"},
        "messages": [{"from": "34600000001", "id": "wamid.1", "type": "text"}],
    }
    body = {"object": "whatsapp_business_account", "entry": [{"changes": [{"field": "messages", "value": ours}]}]}
    ran = palomar("meta", "--jsonl", given=json.dumps({"content_type": "application/json", "body": json.dumps(body)}))
    (line,) = [json.loads(line) for line in ran.stdout.splitlines()]
    (message,) = line["messages"]
    assert (message["external_id"], message["from"], message["to"]) == ("wamid.1", "34600000001", "1")
    assert line["error"] is None


def test_a_mail_is_shown_to_a_person() -> None:
    parts = {"from": "Ana <ana@example.com>", "subject": "Hi", "text": "hola"}
    fields = (
        f'--xYz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in parts.items()
    )
    ran = palomar("email", given="".join(fields) + "--xYz--\r\n")
    assert ran.returncode == 0
    assert "hola" in ran.stdout
    assert "ana@example.com" in ran.stdout


def test_a_body_is_shown_to_a_person(tmp_path: Path) -> None:
    source = tmp_path / "body"
    source.write_text(MESSAGE + "\n")
    for ran in (palomar("twilio", given=MESSAGE), palomar("twilio", str(source))):
        assert ran.returncode == 0
        assert "hola" in ran.stdout
        assert "+525512345678" in ran.stdout


def test_what_a_manager_wrote_is_shown_to_a_person() -> None:
    echo = {"id": "wamid.1", "to": "5215512345678", "type": "text", "text": {"body": "ya voy"}}
    value = {"metadata": {"phone_number_id": "1"}, "message_echoes": [echo]}
    ran = palomar("meta", given=json.dumps({"field": "smb_message_echoes", "value": value}))
    assert "ya voy" in ran.stdout
    assert "wamid.1" in ran.stdout


def test_a_body_that_is_nothing_says_what_is_missing() -> None:
    ran = palomar("twilio", given="x=1")
    assert ran.returncode == 1
    assert "MessageSid" in ran.stdout


@pytest.mark.parametrize("name", ["nobody", "base", "twilio_send", "../twilio", "os"])
def test_an_unknown_provider_is_answered_with_the_list_of_providers(name: str) -> None:
    ran = palomar(name, given=MESSAGE)
    assert ran.returncode == 1
    assert "twilio" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_missing_file_is_reported() -> None:
    ran = palomar("twilio", "/nowhere/at/all")
    assert ran.returncode == 1
    assert "can't be read" in ran.stderr
    assert "Traceback" not in ran.stderr
