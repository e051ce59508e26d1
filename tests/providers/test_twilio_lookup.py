"""Asking Twilio: what became of a send of unknown outcome, and whether credentials work."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from shared.providers.base import (
    Accepted,
    SentList,
    SentRecord,
)
from shared.providers.twilio.client import TwilioCredentials
from shared.providers.twilio.send import TwilioSender, make_sender
from tests.support.twilio_stage import ACCOUNT, CREDENTIALS, SINCE, Provider, outgoing, playing, sending_to


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with playing() as provider:
        yield provider


@pytest.fixture
async def sender(provider: Provider) -> AsyncIterator[TwilioSender]:
    async with sending_to(provider) as sender:
        yield sender


# -- looking for a send of unknown outcome -----------------------------------------------------------------------------


def listed(**changed: object) -> dict[str, object]:
    item = {"sid": "SM1", "body": "hola", "status": "sent", "direction": "outbound-api", **changed}
    return {"date_created": "Fri, 01 Mar 2024 12:00:05 +0000", **item}


async def test_what_was_sent_to_the_recipient_since(provider: Provider, sender: TwilioSender) -> None:
    theirs = listed(sid="SM2", direction="inbound")
    page = {"messages": [listed(), theirs, listed(sid="SM3", body=None)], "page_size": 50}
    provider.answer = provider.answering(200, page)
    local = SINCE.astimezone(timezone(timedelta(hours=-6)))
    at = datetime(2024, 3, 1, 12, 0, 5, tzinfo=UTC)
    entries = (SentRecord("SM1", "hola", "sent", at), SentRecord("SM3", "", "sent", at))
    assert await sender.find(outgoing(recipient="+34600000001"), local) == SentList(entries, complete=True)
    fields = {
        "To": ["whatsapp:+34600000001"],
        "From": [f"whatsapp:{outgoing().sender}"],  # another number's message to this person is not this one
        "PageSize": ["50"],
    }
    assert provider.asked == [("GET", f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json", fields)]
    await sender.find(outgoing(sender="MG" + "0a" * 16), local)  # a service chooses the number itself
    assert "From" not in provider.asked[-1][2]


async def test_a_number_that_is_written_in_two_ways_is_looked_for_by_both(
    provider: Provider, sender: TwilioSender
) -> None:
    provider.answer = provider.answering(200, {"messages": [], "page_size": 50})
    assert await sender.find(outgoing(recipient="+5215512345678"), SINCE) == SentList((), complete=True)
    asked = [fields["To"] for _, _, fields in provider.asked]
    assert asked == [["whatsapp:+5215512345678"], ["whatsapp:+525512345678"]]


async def test_the_list_of_a_user_id_is_never_complete(provider: Provider, sender: TwilioSender) -> None:
    """What was sent to one may be listed under the person's number."""
    provider.answer = provider.answering(200, {"messages": [], "page_size": 50})
    assert await sender.find(outgoing(recipient="US.13491208655302741918"), SINCE) == SentList((), complete=False)


async def test_what_a_service_sent_by_rcs_is_looked_for_too(provider: Provider, sender: TwilioSender) -> None:
    provider.answer = provider.answering(200, {"messages": [], "page_size": 50})
    message = outgoing(recipient="+34600000001", sender="MG" + "0a" * 16, channel_kind="sms")
    assert await sender.find(message, SINCE) == SentList((), complete=True)
    assert [fields["To"] for _, _, fields in provider.asked] == [["+34600000001"], ["rcs:+34600000001"]]


async def test_what_is_older_is_left_out_and_a_queued_one_is_not(provider: Provider, sender: TwilioSender) -> None:
    """date_sent is empty while Twilio queues a message; date_created never is."""
    queued = listed(sid="SM1", status="queued", date_sent=None)
    older = listed(sid="SM2", date_created="Fri, 01 Mar 2024 11:59:59 +0000")
    provider.answer = provider.answering(200, {"messages": [queued, *[older] * 49], "page_size": 50})
    found = await sender.find(outgoing(recipient="+34600000001"), SINCE)
    assert found is not None
    assert [entry.external_id for entry in found.entries] == ["SM1"]
    assert found.complete, "what is behind is older still"


async def test_an_endless_list_is_read_no_further_than_fifty(provider: Provider, sender: TwilioSender) -> None:
    page = {"messages": [listed()] * 50, "next_page_uri": f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json?Page=1"}
    provider.answer = provider.answering(200, page)
    found = await sender.find(outgoing(recipient="+34600000001"), SINCE)
    assert found is not None
    assert (len(found.entries), found.complete) == (50, False)
    assert len(provider.asked) == 1


@pytest.mark.parametrize(
    ("status", "body"), [(500, ""), (401, {"code": 20003}), (200, "<html>"), (200, "[]"), (200, {"messages": [1]})]
)
async def test_a_list_that_does_not_come_tells_nothing(
    provider: Provider, sender: TwilioSender, status: int, body: object
) -> None:
    provider.answer = provider.answering(status, body)
    assert await sender.find(outgoing(), SINCE) is None


# -- credentials -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, {"sid": ACCOUNT, "status": "active"}, None),
        (200, {"sid": ACCOUNT, "status": "suspended"}, "suspended"),
        (401, {"code": 20003, "message": "Authenticate"}, "auth_token"),
        (404, {"code": 20404}, "account_sid"),
        (503, "", "503"),
        (200, "<html>", "PALOMAR_TWILIO_API_URL"),
    ],
)
async def test_credentials_can_be_tried(
    provider: Provider, sender: TwilioSender, status: int, body: object, problem: str | None
) -> None:
    provider.answer = provider.answering(status, body)
    found = await sender.check()
    assert provider.asked[0][1] == f"/2010-04-01/Accounts/{ACCOUNT}.json"
    assert found is None if problem is None else found is not None and problem in found


async def test_credentials_cannot_be_tried_without_a_network() -> None:
    sender = TwilioSender(CREDENTIALS, timeout=1, base_url="http://127.0.0.1:1")
    found = await sender.check()
    await sender.close()
    assert found is not None
    assert "can't be reached" in found


@pytest.mark.parametrize(
    "fields",
    [
        {"account_sid": "AC1/../../x", "auth_token": "t"},
        {"account_sid": "AC1", "auth_token": ""},
        {"account_sid": "AC1", "auth_token": "t", "api_key": "SK1"},
        {"account_sid": "AC1", "auth_token": "t", "api_secret": "s"},
    ],
)
def test_credentials_that_cannot_work_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        TwilioCredentials.model_validate(fields)


@pytest.mark.parametrize("stored", ['{"account_sid": "hush", "auth_token": "hush"}', '{"hush": 1}', "hush", "[]"])
def test_credentials_that_were_stored_wrong_are_named_without_their_values(stored: str) -> None:
    with pytest.raises(ValueError, match="Twilio credentials: ") as raised:
        make_sender(stored, api_url="https://api.twilio.com", timeout=1)
    assert "input_value" not in str(raised.value)
    assert '"hush"' not in str(raised.value)


async def test_stored_credentials_make_a_sender(provider: Provider) -> None:
    stored = json.dumps({"account_sid": ACCOUNT, "auth_token": "token"})
    sender = make_sender(stored, api_url=provider.url, timeout=0.5)
    assert await sender.send(outgoing()) == Accepted("SM1")
    await sender.close()


def test_credentials_do_not_show_their_secrets() -> None:
    assert "'token'" not in repr(CREDENTIALS)


@pytest.mark.parametrize("base_url", ["", "api.twilio.com", "ftp://api.twilio.com"])
async def test_an_address_that_is_none_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match="twilio_api_url"):
        TwilioSender(CREDENTIALS, timeout=1, base_url=base_url)
