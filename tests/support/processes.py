"""Configuration of workers that run as processes of their own, and of waits short enough for a test."""

import json
from pathlib import Path

from pydantic import AliasChoices, SecretStr

from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def quick(settings: Settings, **others: object) -> Settings:
    """The same settings with leases and waits of a second or so; `others` on top."""
    return settings.model_copy(
        update={
            "publish_timeout": 3.0,
            "stop_grace": 5.0,
            "retry_delays": (0.2, 0.4),
            "handoff_lease": 1.0,
            "reply_lease": 1.0,
            "send_timeout": 2.0,
            "send_lease_margin": 1.0,
            "unknown_check_after": 0.3,
            "unknown_absent_for": 0.6,
            "unknown_give_up_after": 2.0,
            "clock_tick": 0.1,
            "media_retry_first": 0.2,
            "relay_poll": 0.1,
            **others,
        }
    )


def environ(settings: Settings) -> dict[str, str]:
    """The variables that make a process's `Settings` equal to these, whatever env file lies about."""
    variables: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if value is None:
            continue
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        text = json.dumps(plain, default=str) if isinstance(plain, tuple) else str(plain)
        alias = field.validation_alias
        variables[str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"PALOMAR_{name.upper()}"] = text
    return variables
