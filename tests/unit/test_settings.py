"""The variables: what counts as set, and what an operator reads where one is wrong."""

import pytest
from pydantic import AliasChoices

from shared.settings import Settings, SettingsInvalid, load


def test_a_variable_that_is_set_to_nothing_means_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Settings(_env_file=None)
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        monkeypatch.setenv(str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"PALOMAR_{name.upper()}", "")
    assert load(env_file=None) == defaults


def test_the_circuit_breaker_is_set_by_its_first_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SHARE", "0.25"), ("WINDOW", "7"), ("TRIAL", "3")):
        monkeypatch.setenv(f"PALOMAR_BRAKE_{name}", value)
    found = load(env_file=None)
    assert (found.circuit_breaker_share, found.circuit_breaker_window, found.circuit_breaker_trial) == (0.25, 7, 3)


def test_an_empty_variable_lets_the_file_have_its_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("env") / "env"
    file.write_text("AMQP_URL='amqp://there/'\nPORT=''\n")
    monkeypatch.setenv("AMQP_URL", "")
    monkeypatch.delenv("PORT", raising=False)
    found = load(str(file))
    assert found.amqp_url.get_secret_value() == "amqp://there/"
    assert found.port is None


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PORT", "http", "PORT: should be a valid integer"),
        ("PORT", "65536", "PORT: should be less than or equal to 65535"),
        ("PALOMAR_BRAKE_WINDOW", "4", "PALOMAR_BRAKE_WINDOW: should be greater than or equal to 5"),
        ("PALOMAR_DATABASE_POOL", "1", "PALOMAR_DATABASE_POOL: should be greater than or equal to 2"),
        ("PALOMAR_TRUSTED_ORIGINS", "http://a", "PALOMAR_TRUSTED_ORIGINS: should be a list in JSON"),
        ("PALOMAR_META_API_VERSION", "25", "PALOMAR_META_API_VERSION: "),
        (
            "DATABASE_URL",
            "postgresql://a:geheim@h/n?channel_binding=require",
            "DATABASE_URL: the database driver can't",
        ),
        ("DATABASE_URL", "geheim", "DATABASE_URL: this is no address"),
    ],
)
def test_a_wrong_variable_is_named_in_one_line_without_its_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsInvalid) as refused:
        load(env_file=None)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)
    assert "geheim" not in str(refused.value)


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("PALOMAR_CLOCK_BATCH", "0")
    with pytest.raises(SettingsInvalid) as refused:
        load(env_file=None)
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == ["PORT", "PALOMAR_CLOCK_BATCH"]
