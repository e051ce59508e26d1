"""What we sign is verified by the libraries of Standard Webhooks, of PyPI and npm, and Ed25519 by `cryptography`."""

import asyncio
import subprocess
import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from shared.domain.webhooks import signatures
from shared.domain.webhooks.signatures import Signer
from tests.support import node

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FORMER = f"whsec_{b64encode(bytes(range(32))).decode()}"
KEY = f"whsk_{b64encode(bytes(range(32))).decode()}"
FORMER_KEY = f"whsk_{b64encode(bytes(range(32, 64))).decode()}"
ID = "019ac2f0-9e1c-8a35-b1c7-5d0e7a44f210"
BODY = '{"type": "message_received", "data": {"text": "¿Qué precio tiene? 😀"}}'.encode()

# Name → (secrets, private keys, those of which each verifies)
SIGNERS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "v1": ([SECRET], [], [SECRET]),
    "v1 beside v1a": ([SECRET], [KEY], [SECRET]),
    "two secrets and two keys": ([SECRET, FORMER], [KEY, FORMER_KEY], [SECRET, FORMER]),
    "no former one": ([SECRET, ""], [KEY, ""], [SECRET]),
}


def headers_of(name: str) -> dict[str, str]:
    secrets, keys, _ = SIGNERS[name]
    return Signer.of(secrets, keys).headers(ID, int(time.time()), BODY)


@pytest.mark.parametrize("name", SIGNERS)
def test_the_library_of_pypi_verifies(name: str) -> None:
    headers = headers_of(name)
    for secret in SIGNERS[name][2]:
        assert Webhook(secret).verify(BODY, headers) == orjson.loads(BODY)
        for changed, given in ((BODY + b" ", headers), (BODY, headers | {"webhook-id": "other"})):
            with pytest.raises(WebhookVerificationError):
                Webhook(secret).verify(changed, given)
    with pytest.raises(WebhookVerificationError):
        Webhook(f"whsec_{b64encode(b'another secret').decode()}").verify(BODY, headers)


def verified_by_npm(program: Path, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [program, "verify.mjs"], cwd=node.FOLDER / "webhooks", input=orjson.dumps(asked), capture_output=True,
        check=True, timeout=node.PATIENCE,
    )  # fmt: skip
    found: list[dict[str, Any]] = orjson.loads(done.stdout)
    return found


async def test_the_library_of_npm_verifies() -> None:
    program = await asyncio.to_thread(node.ready)
    asked: list[dict[str, Any]] = []
    for name, (_, _, verifying) in SIGNERS.items():
        asked += [{"secret": one, "body": BODY.decode(), "headers": headers_of(name)} for one in verifying]
    asked.append({"secret": FORMER, "body": BODY.decode(), "headers": headers_of("v1")})
    *verified, refused = await asyncio.to_thread(verified_by_npm, program, asked)
    assert verified == [{"verified": orjson.loads(BODY)}] * (len(asked) - 1)
    assert refused == {"error": "WebhookVerificationError"}


@pytest.mark.parametrize("private", [KEY, f"whsk_{b64encode(bytes(range(32)) + bytes(32)).decode()}"])
def test_ed25519_is_verified_with_the_public_key(private: str) -> None:
    public = signatures.public_key(private)
    assert public.startswith("whpk_")
    key = Ed25519PublicKey.from_public_bytes(b64decode(public.removeprefix("whpk_")))
    found = signatures.sign([SECRET], [private, FORMER_KEY], ID, 1700000000, BODY).split()
    assert [one.partition(",")[0] for one in found] == ["v1", "v1a", "v1a"]
    signed = f"{ID}.1700000000.".encode() + BODY
    key.verify(b64decode(found[1].partition(",")[2]), signed)
    for signature, of in ((found[1], signed + b" "), (found[2], signed)):
        with pytest.raises(InvalidSignature):
            key.verify(b64decode(signature.partition(",")[2]), of)


def test_the_example_of_the_specification() -> None:
    """https://github.com/standard-webhooks/standard-webhooks: the test of its libraries."""
    found = signatures.sign([SECRET], [], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("whsec_AAEC", b"\x00\x01\x02"),
        ("our word", b"our word"),
        ("contraseña", "contraseña".encode()),
        ("whsec_no base64", b"whsec_no base64"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ],
)
def test_the_key_of_a_secret(secret: str, key: bytes) -> None:
    assert signatures.secret_bytes(secret) == key


@pytest.mark.parametrize("text", ["whsk_", "whsk_AAEC", "whsk_no base64", KEY.replace("whsk_", "whsec_"), KEY + "=="])
def test_what_is_no_private_key_is_refused_without_being_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a private key is whsk_") as refused:
        signatures.private_key(text)
    assert text not in str(refused.value) or text == "whsk_"


def test_an_id_with_a_full_stop_is_not_signed() -> None:
    with pytest.raises(ValueError, match="full stop"):
        signatures.sign([SECRET], [], "a.1", 1, b"")


def test_where_nothing_signs_there_is_no_signature_and_keys_are_never_shown() -> None:
    assert Signer.of([""], [""]).headers(ID, 1, b"") == {"webhook-id": ID, "webhook-timestamp": "1"}
    assert "Ed25519" not in repr(Signer.of([SECRET], [KEY]))
