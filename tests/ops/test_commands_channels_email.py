"""`palomar channels` with a mailbox: from an SMTP login to the URL that a mail service posts to."""

import asyncio
import json
from typing import Any, cast

import pytest

from ops.sandbox.email_forms import PASSWORD, USER
from tests.support.commands import palomar
from tests.support.sandbox_stage import playing

NEW = (
    "channels", "add", "--provider", "email", "--address", "Hola@Shop.Example", "--smtp-user", USER,
    "--smtp-host", "127.0.0.1", "--smtp-tls", "none", "--tenant", "Tienda", "--new-tenant",
)  # fmt: skip


@pytest.fixture
def shop(environment: dict[str, str]) -> dict[str, str]:
    return {
        **environment,
        "SMTP_PASSWORD": PASSWORD,
        "PALOMAR_PUBLIC_URL": "https://hooks.example.com",
        "PALOMAR_SMTP_PRIVATE_HOSTS": "127.0.0.1",
    }


def listed(environment: dict[str, str]) -> list[dict[str, Any]]:
    result = palomar(environment, "channels", "list", "--json")
    assert result.returncode == 0, result.stderr
    return cast("list[dict[str, Any]]", json.loads(result.stdout))


async def test_a_mailbox_is_added_tried_and_given_another_url(shop: dict[str, str]) -> None:
    async with playing() as stage:
        port = str(await stage.sandbox.smtp_port())
        result = palomar(shop, *NEW, "--smtp-port", port)
        assert result.returncode == 0, result.stderr
        (channel,) = listed(shop)
        assert (channel["kind"], channel["address"]) == ("email", "Hola@shop.example")
        url = channel["webhook_url"]
        assert url.startswith(f"https://hooks.example.com/webhooks/email/{channel['endpoint_id']}/")
        assert len(url.rpartition("/")[2]) >= 32
        assert url in result.stdout
        assert "Inbound Parse" in result.stdout
        assert PASSWORD not in result.stdout + json.dumps(channel)

        again = palomar(shop, *NEW[:-1], "--smtp-port", port)
        assert "The email address Hola@shop.example is channel" in again.stderr

        tried = await asyncio.to_thread(palomar, shop, "channels", "test", channel["id"])
        assert "email takes the credentials" in tried.stdout, tried.stderr
        wrong = {**shop, "SMTP_PASSWORD": "wrong"}
        options = ("--credentials", *NEW[6:12], "--smtp-port", port)
        assert palomar(wrong, "channels", "set", channel["id"], *options).returncode == 0
        tried = await asyncio.to_thread(palomar, shop, "channels", "test", channel["id"])
        assert "check user, password and tls" in tried.stderr

        assert palomar(shop, "channels", "set", channel["id"], "--new-url").returncode == 0
        (changed,) = listed(shop)
        assert changed["webhook_url"] != url
        assert changed["endpoint_id"] == channel["endpoint_id"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--kind", "sms"), "--kind: Email's channels are email"),
        (("--address", "nobody"), "--address: 'nobody' is no e-mail address."),
        (("--smtp-tls", "ssl"), "--smtp-tls"),
        (("--smtp-port", "70000"), "--smtp-port"),
        (("--from-address", "x"), "--from-address: 'x' is no e-mail address."),
    ],
)
def test_a_wrong_call_names_the_field(shop: dict[str, str], arguments: tuple[str, ...], complaint: str) -> None:
    result = palomar(shop, *NEW, *arguments)
    assert result.returncode != 0
    assert complaint in result.stderr
