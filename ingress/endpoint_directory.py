"""Keeps all endpoints with their secrets in memory: loaded from PostgreSQL, refreshed by NOTIFY and a slow poll.

During an outage of PostgreSQL the directory stays as it is. A process that starts meanwhile reads a sealed copy from
its disk.
"""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal
from uuid import UUID

import asyncpg
from prometheus_client import Counter, Gauge
from pydantic import TypeAdapter, ValidationError

from ingress.receive.durable_files import write_durably
from ingress.receive.endpoint import Endpoint
from shared import database
from shared.crypto import CryptoError, KeyRing
from shared.process.log import get_logger
from shared.process.tasks import cancel
from shared.providers import provider
from shared.settings import Settings
from shared.store import endpoints
from shared.store.endpoints import EndpointRow

log = get_logger(__name__)

KNOWN = Gauge("palomar_directory_endpoints", "Endpoints in memory, by whether their secrets open", ["state"])
LOADS = Counter("palomar_directory_loads", "Times the directory was read from the database, whole")
AGE = Gauge("palomar_directory_age_seconds", "Time since the database last confirmed what is in memory")

COPY = "directory.sealed"
FIRST_LOAD = 5.0  # seconds a start waits for the database before it reads the copy
RELOAD_PAUSE = 1.0  # seconds between two loads: a thousand changes are a thousand notifications
RECONNECT_DELAYS = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds; the last one goes on
_ROWS = TypeAdapter(list[EndpointRow])

Source = Literal["database", "copy"]


class Directory:
    """All endpoints. `start` it inside the loop."""

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        self._settings = settings
        self._keys = keys
        self._copy = settings.state_dir / COPY
        self._rows: Sequence[EndpointRow] | None = None
        self._opened: Mapping[EndpointRow, Endpoint] = {}
        self._endpoints: Mapping[str, Endpoint] = {}
        self._as_of = 0.0  # Unix time
        self._tried = asyncio.Event()
        self._changed = asyncio.Event()
        self._failures = 0
        self._why: str | None = None  # why the database can't be read; None while it can
        self._task: asyncio.Task[None] | None = None
        self.source: Source | None = None
        AGE.set_function(lambda: self.age)

    @property
    def age(self) -> float:
        """Seconds since the database last confirmed what is in memory; infinite while nothing is."""
        return time.time() - self._as_of if self.source else float("inf")

    @property
    def unready_reason(self) -> str | None:
        """Why no endpoint is known at all; None once the endpoints are loaded."""
        if self.source:
            return None
        return f"{self._why or database.why_away(None)}; and there is no copy of the directory on disk"

    @property
    def warning(self) -> str | None:
        """Why changes of endpoints are not seen, while known endpoints are served."""
        return f"changes of endpoints are not seen: {self._why}" if self._why is not None else None

    def find(self, name: str) -> Endpoint | None:
        """The endpoint with this id, written in any form of a UUID; None where there is none."""
        endpoint = self._endpoints.get(name)
        if endpoint is None and len(name) <= 64:
            with suppress(ValueError):
                endpoint = self._endpoints.get(str(UUID(name)))
        return endpoint

    async def start(self) -> None:
        """Load from the database, or from the copy where it does not answer; then follow changes."""
        self._task = asyncio.create_task(self._follow(), name="directory")
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOAD):
                await self._tried.wait()
        if self.source is None:
            await self._load_copy()

    async def close(self) -> None:
        if self._task is not None:
            await cancel([self._task])

    async def _follow(self) -> None:
        while True:
            try:
                await self._session()
            except Exception as error:
                self._why = database.why_away(error)
                if not database.is_outage(error) and not isinstance(error, asyncpg.PostgresError):
                    log.exception("directory failed")
                elif not self._failures:
                    log.warning("directory can't ask the database", why=self._why, source=self.source)
            self._tried.set()
            await asyncio.sleep(RECONNECT_DELAYS[min(self._failures, len(RECONNECT_DELAYS) - 1)])
            self._failures += 1

    async def _session(self) -> None:
        """Load, and load again on each change and each poll, until the connection is lost. Raises its error."""
        connection = await database.connect(self._settings, process="receive")
        try:
            # LISTEN comes before the first load: otherwise a change in between would be missed.
            await connection.add_listener(endpoints.CHANGED, lambda *_: self._changed.set())
            connection.add_termination_listener(lambda *_: self._changed.set())
            while True:
                self._changed.clear()
                LOADS.inc()
                loaded_at = time.monotonic()
                await self._adopt(await endpoints.live(connection), "database", time.time())
                self._failures, self._why = 0, None
                self._tried.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.directory_poll):
                        await self._changed.wait()
                # The first change is loaded at once, those within the next second together.
                await asyncio.sleep(loaded_at + RELOAD_PAUSE - time.monotonic())
        finally:
            with suppress(Exception):
                await connection.close(timeout=2)

    async def _adopt(self, rows: Sequence[EndpointRow], source: Source, as_of: float) -> None:
        """Replace all endpoints by these."""
        self._opened = {row: self._opened.get(row) or self._open(row) for row in rows}
        self._endpoints = {str(endpoint.id): endpoint for endpoint in self._opened.values()}
        if source != self.source:
            log.info("directory loaded", source=source, endpoints=len(rows), age=round(time.time() - as_of))
        self.source, self._as_of = source, as_of
        sealed = sum(endpoint.secrets is None for endpoint in self._endpoints.values())
        KNOWN.labels("open").set(len(rows) - sealed)
        KNOWN.labels("sealed").set(sealed)
        changed = sorted(rows) != self._rows
        self._rows = sorted(rows)
        if source == "database":
            await asyncio.to_thread(self._save, self._rows if changed else None, as_of)

    def _open(self, row: EndpointRow) -> Endpoint:
        """The endpoint of a row, without secrets where they can't be opened: then only its own webhooks are refused."""
        try:
            opened = self._keys.open(row.secrets, tenant_id=row.tenant_id, owner=row.id)
            secrets = provider(row.provider).endpoint_secrets.model_validate_json(opened)
            return Endpoint(row.id, row.tenant_id, row.provider, secrets)
        except CryptoError as error:
            log.error("secrets of an endpoint can't be opened", endpoint=str(row.id), why=str(error))
        except LookupError:
            log.error("an endpoint is of a provider that this version does not know", endpoint=str(row.id))
        except ValidationError:  # its text would quote the secret
            example = provider(row.provider).endpoint_secrets.EXAMPLE
            log.error(f"secrets of an endpoint are not {example}", endpoint=str(row.id))
        except Exception as error:  # whatever is wrong with this row, the other endpoints are served
            log.error("an endpoint can't be read", endpoint=str(row.id), error=type(error).__name__)
        return Endpoint(row.id, row.tenant_id, row.provider, None)

    # -- the copy ------------------------------------------------------------------------------------------------------

    def _save(self, rows: Sequence[EndpointRow] | None, as_of: float) -> None:
        """Write the copy. With None nothing has changed, and only its time is set."""
        try:
            if rows is not None or not self._copy.exists():
                plain = _ROWS.dump_json(list(rows if rows is not None else self._rows or ())).decode()
                self._copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_durably(self._copy, self._keys.seal(plain, tenant_id=None, owner=COPY).encode())
            os.utime(self._copy, (as_of, as_of))
        except OSError as error:
            log.error("can't write the copy of the directory: a start without PostgreSQL would fail", error=str(error))

    async def _load_copy(self) -> None:
        try:
            sealed, as_of = await asyncio.to_thread(lambda: (self._copy.read_text(), self._copy.stat().st_mtime))
            rows = _ROWS.validate_json(self._keys.open(sealed, tenant_id=None, owner=COPY))
        except FileNotFoundError:
            log.error(
                "no webhook can be verified: neither PostgreSQL nor a copy of the directory", copy=str(self._copy)
            )
        except (OSError, ValueError, CryptoError) as error:
            why = str(error) if isinstance(error, (OSError, CryptoError)) else type(error).__name__
            log.error("the copy of the directory can't be read", copy=str(self._copy), why=why)
        else:
            if self.source is None:  # the database may have answered meanwhile
                await self._adopt(rows, "copy", as_of)
