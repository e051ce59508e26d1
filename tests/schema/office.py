"""The documents' statements, run as their users would: as role palomar_api, in a transaction of a tenant.

    office.channel("twilio")
    with office.session() as sql:
        row = sql.one("INSERT INTO kommo_conversations (…) VALUES (…) RETURNING *")

An operator's statements, such as the documents' verification queries, run as the owner of the tables.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

Row = dict[str, Any]  # a row is whatever the statement asked for
_numbers = count(14155230000)


class Session:
    """One transaction of one tenant."""

    def __init__(self, connection: "psycopg.Connection[Row]") -> None:
        self._connection = connection

    def all(self, statement: str, **values: object) -> list[Row]:
        cursor = self._connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, **values: object) -> Row:
        (row,) = self.all(statement, **values)
        return row

    def count(self, statement: str, **values: object) -> int:
        """How many rows a statement changed."""
        return self._connection.execute(statement.encode(), values).rowcount

    @contextmanager
    def refused(self, error: type[psycopg.Error], says: str) -> Iterator[None]:
        """The statement fails with this error, whose text or constraint has these words; the transaction goes on."""
        with pytest.raises(error) as caught, self._connection.transaction():
            yield
        assert says in f"{caught.value} {caught.value.diag.constraint_name}", caught.value


class Office:
    """A tenant, and ways to speak to the database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.tenant = self.new_tenant()

    def new_tenant(self, name: str = "Tienda") -> UUID:
        return self.worker("INSERT INTO tenants (name) VALUES (%(name)s) RETURNING id", name=name)[0]["id"]  # type: ignore[no-any-return]

    def channel(
        self, provider: str, kind: str = "whatsapp", *, tenant: UUID | None = None, address: str | None = None
    ) -> UUID:
        """A channel with an address of its own; its id."""
        (row,) = self.worker(
            "INSERT INTO channels (tenant_id, provider, kind, address, credentials) "
            "VALUES (%(tenant)s, %(provider)s, %(kind)s, %(address)s, 'sealed') RETURNING id",
            tenant=tenant or self.tenant, provider=provider, kind=kind, address=address or f"+{next(_numbers)}",
        )  # fmt: skip
        return UUID(str(row["id"]))

    @contextmanager
    def session(self, tenant: UUID | None = None) -> Iterator[Session]:
        """A transaction of this tenant (else of the office's), committed at the end."""
        with self._connected("palomar_api") as connection:
            connection.execute("SELECT set_config('app.tenant_id', %s, true)", (str(tenant or self.tenant),))
            yield Session(connection)

    def worker(self, statement: str, **values: object) -> list[Row]:
        """As a worker, who sees every tenant's rows."""
        with self._connected("palomar_worker") as connection:
            return Session(connection).all(statement, **values)

    def operator(self, statement: str, **values: object) -> list[Row]:
        """As the owner of the tables, who sees the catalogues and no row."""
        with self._connected(None) as connection:
            return Session(connection).all(statement, **values)

    @contextmanager
    def _connected(self, role: str | None) -> Iterator["psycopg.Connection[Row]"]:
        options = f"-c role={role}" if role else ""
        with psycopg.connect(self.url, row_factory=dict_row, options=options) as connection:
            yield connection


def missing() -> UUID:
    """An id that nothing has."""
    return uuid4()
