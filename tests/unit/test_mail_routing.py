"""Whose a mail is, of several mailboxes behind one webhook."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from shared.domain.channels import Channel, ChannelSettings
from shared.providers.email.webhooks import parse
from tests.support.email_payloads import said
from workers.persist.routing import channel_of_message

AT = datetime(2026, 1, 1, tzinfo=UTC)


def mailbox(number: int, address: str) -> Channel:
    return Channel(UUID(int=number), UUID(int=9), None, "email", "email", address, "active", ChannelSettings(), AT)


SALES, HELP = mailbox(1, "Sales@shop.example"), mailbox(2, "help+vip@shop.example")


@pytest.mark.parametrize(
    ("to", "channel"),
    [
        ("sales@shop.example", SALES),
        ("sales+order17@shop.example", SALES),
        ("help+vip@shop.example", HELP),
        ("help@shop.example", None),
        ("nobody@shop.example", None),
    ],
)
def test_a_mail_is_of_the_mailbox_it_went_to_whatever_tag_was_put_to_it(to: str, channel: Channel | None) -> None:
    webhook = said(envelope=f'{{"to": ["{to}"], "from": "ana@example.com"}}', to=to)
    (message,) = parse(webhook).messages
    assert channel_of_message([SALES, HELP], message) is channel
