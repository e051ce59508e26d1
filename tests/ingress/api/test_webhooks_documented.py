"""docs/webhooks.md: its snippets run as they stand there, and verify what Palomar signs with the libraries it names."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingress.api.procedures.webhook_logs import _EVENTS
from shared.actions.webhook_keys import new_keys
from shared.domain.webhooks import bodies
from shared.domain.webhooks.signatures import Signer
from tests.support import node, snippets
from tests.support.api import ApiStage

DOCS = Path(__file__).resolve().parents[3] / "docs" / "webhooks.md"
PROGRAMS = snippets.programs(DOCS.read_text())
VERIFY = "Verify the signature"
BODY = orjson.dumps(bodies.sample(_EVENTS["message_received"]))
TEXT = BODY.decode()
SENT: dict[str, Any] = orjson.loads(BODY)
# The exported function of the snippet, tried with a request and with one whose body was changed.
TRIES = """
const [secret, headers, body] = JSON.parse(process.argv[2]);
const verified = received(secret, headers, body);
let refused = false;
try { received(secret, headers, body.replace("Good", "Bad")); } catch { refused = true; }
console.log(JSON.stringify({ type: verified.type, refused }));
"""


def signed(*secrets: str, private_keys: tuple[str, ...] = ()) -> dict[str, str]:
    """The headers of a delivery that begins now."""
    return Signer.of(secrets, private_keys).headers("019ac2f0-c0de-8a63-9c55-0c3a1a2b3c4d", int(time.time()), BODY)


def documented() -> dict[str, Any]:
    """What the Python snippets define."""
    module: dict[str, Any] = {}
    exec(PROGRAMS[VERIFY, "python"], module)
    return module


def test_the_library_for_python_verifies_a_delivery_and_refuses_another_body() -> None:
    library = pytest.importorskip("standardwebhooks")
    old, new = new_keys(), new_keys()
    received = documented()["received"]
    for keys in (old, new):  # while a rotation's overlap lasts
        headers = signed(new.secret, old.secret, private_keys=(new.private_key, old.private_key))
        assert received(keys.secret, headers, BODY) == SENT
    with pytest.raises(library.WebhookVerificationError):
        received(new.secret, signed(new.secret), BODY.replace(b"Good", b"Bad"))
    with pytest.raises(library.WebhookVerificationError):
        received(new_keys().secret, signed(new.secret), BODY)


def test_the_public_key_verifies_a_delivery_without_a_secret() -> None:
    pytest.importorskip("standardwebhooks")
    old, new = new_keys(), new_keys()
    is_signed = documented()["is_signed"]
    headers = signed(new.secret, private_keys=(new.private_key, old.private_key))
    assert is_signed(new.public_key, headers, BODY)
    assert is_signed(old.public_key, headers, BODY)
    assert not is_signed(new.public_key, headers, BODY.replace(b"Good", b"Bad"))
    assert not is_signed(new_keys().public_key, headers, BODY)


async def test_the_library_for_javascript_verifies_a_delivery_and_refuses_another_body(tmp_path: Path) -> None:
    program = await asyncio.to_thread(node.ready)
    (tmp_path / "node_modules").symlink_to(node.MODULES)
    (tmp_path / "verify.mjs").write_text(PROGRAMS[VERIFY, "js"] + TRIES)
    keys = new_keys()
    given = json.dumps([keys.secret, signed(keys.secret, private_keys=(keys.private_key,)), TEXT])
    child = await asyncio.create_subprocess_exec(
        str(program), "verify.mjs", given, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await child.communicate()
    assert child.returncode == 0, err.decode()
    assert json.loads(out) == {"type": "message_received", "refused": True}


async def test_the_first_calls_run_as_they_stand_there(
    api: ApiStage, environment: dict[str, str], tmp_path: Path
) -> None:
    ana = await api.tenant()
    url = f"http://127.0.0.1:{api.port}"
    try:
        ran = await snippets.run(
            "sh", PROGRAMS["The first one", "sh"], tmp_path, {**environment, "API": url, "KEY": ana.key}
        )
    except LookupError as missing:
        pytest.skip(f"not run, for this machine has no {missing}")
    assert ran.code == 0, ran.printed
    assert '"isTest":true' in ran.printed.replace(" ", "")
    made = orjson.loads((tmp_path / "webhook.json").read_bytes())
    assert made["secret"].startswith("whsec_")
