"""Makes the variables of a local system, and writes them to the file that a second shell reads: `.palomar/env`."""

import os
import secrets
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

SECRET_KEYS = "PALOMAR_SECRET_KEYS"


def secret_keys(file: Path) -> str:
    """The keys of the last start, or one new key: what they sealed is in the database and must open again."""
    kept = dotenv_values(file, interpolate=False).get(SECRET_KEYS) if file.exists() else None
    return kept or f"local:{b64encode(secrets.token_bytes(32)).decode()}"


def settle(defaults: Mapping[str, str]) -> dict[str, str]:
    """The values that hold: the user's environment wins, over the defaults and by what it adds of ours."""
    given = {name: value for name, value in os.environ.items() if value and _is_ours(name)}
    return {**defaults, **given}


def _is_ours(name: str) -> bool:
    return name.startswith("PALOMAR_") or name in ("AMQP_URL", "DATABASE_URL")


def write(file: Path, values: Mapping[str, str]) -> None:
    """Whole or not at all, for this user's eyes; a shell can read it as well as pydantic-settings."""
    partial = file.with_name("env.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()}
    partial.write_text("".join(f"{name}='{value}'\n" for name, value in quoted.items()))
    partial.replace(file)
