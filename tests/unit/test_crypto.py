"""Secrets at rest: what opens, what must not, and which error an operator gets."""

import base64
from uuid import UUID

import pytest

from shared.crypto import KeyRing, KeysInvalid, TokenInvalid, UnknownKey

TENANT, OTHER_TENANT = UUID(int=1), UUID(int=2)
CHANNEL, OTHER_CHANNEL = UUID(int=11), UUID(int=12)


def key(fill: int, size: int = 32) -> str:
    return base64.b64encode(bytes([fill]) * size).decode()


OLD = KeyRing.parse(f"2024:{key(1)}")
BOTH = KeyRing.parse(f"2025:{key(2)}, 2024:{key(1)}")


def test_a_secret_opens_where_it_was_sealed() -> None:
    token = OLD.seal('{"auth_tokens": ["ñ"]}', tenant_id=TENANT, owner=CHANNEL)
    assert token.startswith("v1.2024.")
    assert "auth" not in token
    assert OLD.open(token, tenant_id=TENANT, owner=CHANNEL) == '{"auth_tokens": ["ñ"]}'


def test_the_same_secret_never_looks_the_same() -> None:
    assert OLD.seal("x", tenant_id=TENANT, owner=CHANNEL) != OLD.seal("x", tenant_id=TENANT, owner=CHANNEL)


def test_a_secret_may_span_tenants_and_belong_to_something_without_an_id() -> None:
    token = OLD.seal("x", tenant_id=None, owner="directory")
    assert OLD.open(token, tenant_id=None, owner="directory") == "x"


@pytest.mark.parametrize(
    ("tenant_id", "owner"),
    [
        (OTHER_TENANT, CHANNEL),
        (TENANT, OTHER_CHANNEL),
        (None, CHANNEL),
        (TENANT, "directory"),
    ],
)
def test_a_token_copied_to_another_row_does_not_open(tenant_id: UUID | None, owner: UUID | str) -> None:
    token = OLD.seal("x", tenant_id=TENANT, owner=CHANNEL)
    with pytest.raises(TokenInvalid, match="another tenant or owner"):
        OLD.open(token, tenant_id=tenant_id, owner=owner)


def test_a_token_relabelled_with_another_key_does_not_open() -> None:
    twins = KeyRing.parse(f"a:{key(1)},b:{key(1)}")
    token = twins.seal("x", tenant_id=TENANT, owner=CHANNEL)
    with pytest.raises(TokenInvalid):
        twins.open(token.replace("v1.a.", "v1.b."), tenant_id=TENANT, owner=CHANNEL)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "plain",
        "v1.2024.",
        "v2.2024.AAAA",
        "v1.2024.%%%%",
        "v1.2024.AAAA",
        "v1.2024.ñ",
    ],
)
def test_a_damaged_token_is_refused_by_name(token: str) -> None:
    with pytest.raises(TokenInvalid):
        OLD.open(token, tenant_id=TENANT, owner=CHANNEL)


def test_any_flipped_character_is_noticed() -> None:
    token = OLD.seal("secret", tenant_id=TENANT, owner=CHANNEL)
    body = token.rindex(".") + 1
    for place in range(body, len(token) - 1):
        flipped = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(TokenInvalid):
            OLD.open(flipped, tenant_id=TENANT, owner=CHANNEL)


def test_rotation_seals_again_with_the_first_key_and_leaves_the_rest_alone() -> None:
    old = OLD.seal("x", tenant_id=TENANT, owner=CHANNEL)
    assert BOTH.open(old, tenant_id=TENANT, owner=CHANNEL) == "x"
    new = BOTH.reseal(old, tenant_id=TENANT, owner=CHANNEL)
    assert new.startswith("v1.2025.")
    assert BOTH.reseal(new, tenant_id=TENANT, owner=CHANNEL) == new
    with pytest.raises(UnknownKey, match=r"'2025'.*PALOMAR_SECRET_KEYS.*2024"):
        OLD.open(new, tenant_id=TENANT, owner=CHANNEL)


@pytest.mark.parametrize(
    ("configured", "explanation"),
    [
        ("", "PALOMAR_SECRET_KEYS is empty"),
        (" , ", "PALOMAR_SECRET_KEYS is empty"),
        (key(1), "entry 1 has no id"),
        (f"a:{key(1)},:{key(1)}", "entry 2 has no id"),
        (f"a.b:{key(1)}", "entry 1 has no id"),
        ("a:no base64", "key 'a' is not base64"),
        (f"a:{key(1, 16)}", "has 16 bytes instead of 32"),
        (f"a:{key(1)},a:{key(2)}", "stands there twice"),
    ],
)
def test_wrong_keys_are_explained_without_being_shown(configured: str, explanation: str) -> None:
    with pytest.raises(KeysInvalid, match=explanation) as raised:
        KeyRing.parse(configured)
    assert "PALOMAR_SECRET_KEYS" in str(raised.value)
    assert key(1) not in str(raised.value)


def test_both_base64_alphabets_are_taken() -> None:
    raw = bytes([0xFB, 0xFF] * 16)
    plain, urlsafe = (
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
    )
    token = KeyRing.parse(f"a:{plain}").seal("x", tenant_id=None, owner=CHANNEL)
    assert KeyRing.parse(f"a:{urlsafe}").open(token, tenant_id=None, owner=CHANNEL) == "x"
