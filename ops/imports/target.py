"""The target of an import: its tenants and channels, and which of our rows a source's row becomes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from ops.errors import Problem
from ops.imports.values import LONGEST_NAME, Reader, Skip, our_id
from shared.crypto import KeyRing
from shared.database import Connection, Pool, new_id
from shared.store import channels
from shared.store.channels import Listed
from shared.store.imports import insert as imported
from shared.store.imports import progress
from shared.store.imports.progress import Key
from shared.store.imports.rows import ChannelRow, Json, TenantRow

STAND_IN: Final = "imported"  # address of a channel that stands for one that no operator has entered yet
SILENT: Final = Json('{"reply": {"engine": "none"}}')  # it answers no customer until an operator sets how


@dataclass(frozen=True, slots=True)
class Through:
    """A channel that conversations belong to."""

    id: UUID
    provider: str


@dataclass(slots=True)
class Target:
    """Filled while tables are prepared, read while rows are converted. Only tenants and channels are held in memory."""

    system: str
    pool: Pool
    keys: KeyRing
    now: datetime  # of the source's snapshot
    tenant_id: UUID | None  # that all goes to; None: the source brings its tenants
    chosen: Sequence[Listed]
    notes: list[str] = field(default_factory=list)  # for the person who runs this
    tenants: dict[str, UUID] = field(default_factory=dict)  # by the source's id
    _channels: dict[tuple[UUID, str], Through] = field(default_factory=dict)

    # -- tenants ---------------------------------------------------------------------------------------------------

    def tenant_of(self, reader: Reader, column: str = "tenant_id") -> UUID:
        """Whose a row is. Raises Skip where the source does not know either."""
        if self.tenant_id is not None:
            return self.tenant_id
        given = reader.id(column)
        if given is None:
            raise Skip("whose it is cannot be said")
        found = self.tenants.get(given)
        if found is None:
            raise Skip("its tenant is not in the source")
        return found

    async def add_tenants(
        self, connection: Connection, named: Mapping[str, tuple[str | None, datetime | None, Json]]
    ) -> int:
        """Tenants by the source's id, with name, beginning and settings; returns how many are new."""
        rows = [
            TenantRow(
                our_id(self.system, "tenants", None, source_id),
                (name or f"{self.system} {source_id}")[:LONGEST_NAME],
                created_at or self.now,
                settings,
            )
            for source_id, (name, created_at, settings) in sorted(named.items())
        ]
        new = await imported.insert(connection, rows)
        self.tenants |= {source_id: row.id for source_id, row in zip(sorted(named), rows, strict=True)}
        return len(new)

    # -- channels --------------------------------------------------------------------------------------------------

    async def open_channel(
        self, tenant_id: UUID, kind: str, *, provider: str, only_that: bool, call: str, own_id: UUID | None = None,
        name: str | None = None,
    ) -> None:  # fmt: skip
        """Choose the channel for the rows that the source calls `call`.

        The one that was chosen, else the one by its own id, else the tenant's only one, else a new stand-in: stopped,
        silent, without credentials, with the source's `name`. `only_that`: only of this provider, because the rows
        name it. Raises Problem where there are several.
        """
        every = [c for c in await channels.listed(self.pool) if c.tenant_id == tenant_id and c.kind == kind]
        fitting = [c for c in every if c.provider == provider] if only_that else every
        chosen_ids = {channel.id for channel in self.chosen}
        chosen = [c for c in fitting if c.id in chosen_ids]
        found = chosen or [c for c in fitting if c.id == own_id] or ([] if own_id else fitting)
        if len(found) > 1:
            names = ", ".join(f"{channel.id} ({channel.address})" for channel in found)
            raise Problem(
                f"{found[0].tenant} has {len(found)} {kind} channels to choose from{f' at {provider}' * only_that}.",
                f"Name one with --channel: {names}.",
            )
        if found:
            through = Through(found[0].id, found[0].provider)
        else:
            through = await self._stand_in(tenant_id, kind, provider, own_id, name)
        self._channels[tenant_id, call] = through

    def channel(self, tenant_id: UUID, call: str) -> Through:
        """The channel that was opened for these rows. Raises Skip where none was."""
        found = self._channels.get((tenant_id, call))
        if found is None:
            raise Skip("its channel is not in the source")
        return found

    def set_channel(self, tenant_id: UUID, call: str, through: Through) -> None:
        self._channels[tenant_id, call] = through

    async def _stand_in(
        self, tenant_id: UUID, kind: str, provider: str, own_id: UUID | None, name: str | None
    ) -> Through:
        channel_id = own_id or new_id()
        row = ChannelRow(
            id=channel_id,
            tenant_id=tenant_id,
            provider=provider,
            kind=kind,
            name=(name or f"imported from {self.system}")[:LONGEST_NAME].replace("\0", "\ufffd"),
            address=f"{STAND_IN} {own_id}" if own_id else STAND_IN,
            credentials=self.keys.seal("{}", tenant_id=tenant_id, owner=channel_id),
            settings=SILENT,
            status="stopped",
            status_reason="imported without credentials",
            created_at=self.now,
            business_id=None,
            webhook_url=None,
        )
        async with self.pool.acquire() as connection, connection.transaction():
            await imported.insert(connection, [row])
        self.notes.append(f"Made {provider} channel {channel_id} ({kind}), stopped: it has no credentials yet.")
        return Through(channel_id, provider)

    # -- which row of ours -----------------------------------------------------------------------------------------

    def key(self, reader: Reader, tenant_id: UUID, column: str = "id") -> Key:
        """Raises Skip for a row without an id."""
        source_id = reader.id(column)
        if source_id is None:
            raise Skip("no id")
        return tenant_id, source_id

    async def ours(self, connection: Connection, table: str, our_table: str, keys: Iterable[Key]) -> dict[Key, UUID]:
        """The rows of ours that these rows of a source's table are; without those that are none."""
        asked = set(keys)
        joined = await progress.aliases(connection, self.system, table, asked)
        named = {key: (key[0], joined.get(key) or our_id(self.system, table, *key)) for key in asked}
        there = await progress.existing(connection, our_table, named.values())
        return {key: ours[1] for key, ours in named.items() if ours in there}
