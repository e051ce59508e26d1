"""The form of an API key, and what scopes allow."""

import pytest

from shared.domain.api_keys import LENGTH, allows, digest_of, exceeding, is_well_formed, new_key, prefix_of


def test_a_key_has_the_documented_form() -> None:
    key = new_key()
    assert len(key) == LENGTH == 40
    assert key.startswith("plm_")
    assert key[4:].isalnum()
    assert key[4:].isascii()
    assert is_well_formed(key)
    assert prefix_of(key) == key[:12]
    assert len(digest_of(key)) == 32
    assert new_key() != key


def test_the_check_digits_are_those_of_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scanner of leaked secrets computes the same: base62 of CRC-32, digits before capitals before small letters."""
    monkeypatch.setattr("secrets.choice", lambda alphabet: alphabet[0])
    assert new_key() == "plm_" + "0" * 30 + "1W8XEv"


@pytest.mark.parametrize("place", range(LENGTH))
def test_a_mistyped_character_is_noticed_wherever_it_is(place: int) -> None:
    key = new_key()
    for other in "aZ0_ñ":
        typo = key[:place] + other + key[place + 1 :]
        assert is_well_formed(typo) == (typo == key)


def test_what_is_no_key_is_refused() -> None:
    for given in ("", "plm_", "plm_" + "0" * 36, new_key()[:-1], new_key() + "0", " " + new_key()[1:]):
        assert not is_well_formed(given), given


@pytest.mark.parametrize(
    ("held", "wanted", "allowed"),
    [
        (["contacts:read"], "contacts:read", True),
        (["contacts:write"], "contacts:read", False),
        (["*"], "contacts:read", True),
        ([], "contacts:read", False),
        (["contacts:*"], "contacts:read", False),
    ],
)
def test_scopes_allow_themselves_and_the_star_allows_all(held: list[str], wanted: str, allowed: bool) -> None:
    assert allows(held, wanted) == allowed


@pytest.mark.parametrize(
    ("held", "wanted", "too_many"),
    [
        (["*"], ["*", "a:read"], []),
        (["a:read"], ["a:read"], []),
        (["a:read"], ["a:write", "*", "a:read"], ["*", "a:write"]),
    ],
)
def test_no_key_passes_on_what_it_has_not(held: list[str], wanted: list[str], too_many: list[str]) -> None:
    assert exceeding(held, wanted) == too_many
