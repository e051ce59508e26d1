"""The key of the demo tenant: `palomar up` makes it once, and keeps it for its user's eyes."""

import os
from pathlib import Path
from typing import Final

from ops.demo.tenants import DEMOS, USUAL
from shared import database
from shared.actions import api_keys as actions
from shared.domain import api_keys
from shared.settings import Settings
from shared.store import api_keys as store

FILE: Final = "api-key"  # in the state folder


async def ensure(settings: Settings) -> str | None:
    """Make the demo tenant's key where there is none that works; returns it if it is new."""
    file = settings.state_dir / FILE
    connection = await database.connect(settings, process="demo")
    try:
        kept = file.read_text().strip() if file.exists() else ""
        if api_keys.is_well_formed(kept):
            digest = api_keys.digest_of(kept)
            if await store.find(connection, api_keys.prefix_of(kept), digest) is not None:
                return None
        async with connection.transaction():
            made = await actions.create(connection, DEMOS[USUAL].tenant_id, "palomar up", [api_keys.ALL])
            _write(file, made.key)
        return made.key
    finally:
        await connection.close()


def _write(file: Path, key: str) -> None:
    """Whole or not at all, readable by its owner alone from its first byte on."""
    partial = file.with_name(f"{FILE}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as opened:
        opened.write(f"{key}\n")
    partial.replace(file)
