"""Tenants with a channel and conversations, put in by SQL as the workers' role; no broker and no provider needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Tenant:
    """A tenant and its one channel."""

    id: UUID
    channel_id: UUID
    endpoint_id: UUID


@contextmanager
def as_worker(database_url: str, **options: Any) -> Iterator[Connection]:
    """A connection of the role that sees every tenant; each statement is its own transaction."""
    with psycopg.connect(database_url, autocommit=True, **options) as connection:
        connection.execute("SET ROLE palomar_worker")
        yield connection


@contextmanager
def as_api(database_url: str, tenant_id: UUID | None, **options: Any) -> Iterator[Connection]:
    """A transaction of the API's role for this tenant (or none), rolled back at the end."""
    with psycopg.connect(database_url, **options) as connection:
        connection.execute("SET ROLE palomar_api")
        if tenant_id is not None:
            connection.execute("SELECT set_config('app.tenant_id', %s, true)", (str(tenant_id),))
        yield connection
        connection.rollback()


def add_tenant(
    worker: Connection, tenant: Tenant | None = None, *, provider: str = "twilio", kind: str = "whatsapp"
) -> Tenant:
    """A tenant with an endpoint and a channel of this provider and kind; its ids may be given."""
    tenant = tenant or Tenant(uuid4(), uuid4(), uuid4())
    worker.execute("INSERT INTO tenants (id, name) VALUES (%s, 'Tienda')", (tenant.id,))
    worker.execute(
        "INSERT INTO endpoints (id, tenant_id, provider, secrets) VALUES (%s, %s, %s, 'sealed')",
        (tenant.endpoint_id, tenant.id, provider),
    )
    add_channel(worker, tenant.id, tenant.channel_id, tenant.endpoint_id, provider=provider, kind=kind)
    return tenant


def add_channel(
    worker: Connection, tenant_id: UUID, channel_id: UUID, endpoint_id: UUID, *, provider: str, kind: str
) -> None:
    worker.execute(
        "INSERT INTO channels (id, tenant_id, endpoint_id, provider, kind, address, credentials) "
        "VALUES (%s, %s, %s, %s, %s, %s, 'sealed')",
        (channel_id, tenant_id, endpoint_id, provider, kind, f"+1415{channel_id.int % 10**7:07}"),
    )


def add_conversation(worker: Connection, tenant: Tenant, channel_id: UUID | None = None, **columns: object) -> UUID:
    """A conversation with a phone number of its own; `columns` adds to it or changes it."""
    identifier = uuid4()
    phone = f"+34{600000000 + identifier.int % 10**8}"
    row = {
        "id": identifier,
        "tenant_id": tenant.id,
        "channel_id": channel_id or tenant.channel_id,
        "provider": "twilio",
        "address": phone,
        "recipient": phone,
        "phone": phone,
        **columns,
    }
    names, places = ", ".join(row), ", ".join(["%s"] * len(row))
    worker.execute(f"INSERT INTO conversations ({names}) VALUES ({places})".encode(), list(row.values()))
    return identifier
