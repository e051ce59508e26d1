"""The sandbox as a tenant's own system: it takes deliveries, verifies what signs them, and shows them on its page."""

import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import pytest

from ops.sandbox.app import make_app, serving
from ops.sandbox.webhooks import verified
from shared.domain.webhooks.signatures import Signer, public_key

BODY = b'{"type": "message_received"}'
NOW = 1_795_900_000
SECRET, OTHER = (f"whsec_{b64encode(secret).decode()}" for secret in (bytes(range(24)), b"another secret"))
PRIVATE_KEY = f"whsk_{b64encode(bytes(range(32))).decode()}"


def signed(secrets: Sequence[str] = (SECRET,), keys: Sequence[str] = (PRIVATE_KEY,), at: int = NOW) -> dict[str, str]:
    return Signer.of(secrets, keys).headers("m1", at, BODY)


@pytest.mark.parametrize(
    ("headers", "keys", "said"),
    [
        (signed(), [SECRET, public_key(PRIVATE_KEY)], "verified: v1, v1a"),
        (signed(), [SECRET], "verified: v1"),
        (signed((OTHER, SECRET), ()), [SECRET], "verified: v1"),
        (signed(), [OTHER], "wrong"),
        (signed(), ["whpk_" + "A" * 44, "whsec_nothing", "text"], "wrong"),
        (signed(), [], "not verified: no key is known here"),
        (signed((), ()), [SECRET], "not signed"),
        (signed(at=NOW - 301), [SECRET], "wrong: the timestamp is too old, or none"),
        ({**signed(), "webhook-timestamp": "soon"}, [SECRET], "wrong: the timestamp is too old, or none"),
        ({**signed(), "webhook-signature": "v1,é v1a v1,"}, [SECRET], "wrong"),
    ],
)
def test_what_signs_a_delivery_is_verified(headers: Mapping[str, str], keys: Sequence[str], said: str) -> None:
    assert verified(headers, BODY, keys, NOW) == said


def test_a_changed_body_is_not_verified() -> None:
    assert verified(signed(), BODY + b" ", [SECRET, public_key(PRIVATE_KEY)], NOW) == "wrong"


async def test_what_came_is_on_the_page_and_answered_as_the_url_asks() -> None:
    async with serving(make_app()) as base, aiohttp.ClientSession(base) as client:

        async def post(path: str, body: bytes) -> int:
            headers = Signer.of((SECRET,), ()).headers("m1", int(time.time()), body)
            async with client.post(path, data=body, headers=headers) as answer:
                return answer.status

        keys = {"url": f"{base}/webhooks/shop", "keys": [SECRET]}
        async with client.post("/sandbox/webhooks/keys", json=keys) as answer:
            assert answer.status == 204
        assert await post("/webhooks/shop", BODY) == 200
        assert await post("/webhooks/shop?status=503", b'{"type": "<script>"}') == 503
        assert await post("/webhooks/other", b"[") == 200
        async with client.get("/sandbox/webhooks") as answer:
            found: list[dict[str, Any]] = await answer.json()
        assert [(one["path"], one["event"], one["signature"], one["status"]) for one in found] == [
            ("/webhooks/other", "", "not verified: no key is known here", 200),
            ("/webhooks/shop?status=503", "<script>", "verified: v1", 503),
            ("/webhooks/shop", "message_received", "verified: v1", 200),
        ]
        async with client.get("/") as answer:
            page = await answer.text()
        assert "verified: v1" in page
        assert "&lt;script&gt;" in page
        assert "<script>" not in page
