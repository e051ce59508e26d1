"""No tenant reads, changes or even notices another's rows, whatever the API's role is made to ask.

The property: whatever a tenant runs comes out the same whether or not the other tenant exists, and leaves the other's
rows as they were. Rows that are seen, keys that collide and references that hold would each make a difference.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg import sql

from tests.schema import catalogue
from tests.schema.catalogue import Column, Function, Relation
from tests.schema.furnishing import furnish
from tests.schema.people import Connection, Tenant, as_worker

EXAMPLES = 8  # of each kind of statement on each table, view and function
Digests = list[tuple[Any, ...]]
UUID_TEXT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Statement:
    text: sql.SQL | sql.Composed
    values: tuple[object, ...] = ()
    copies: bool = False  # COPY … TO STDOUT

    def __str__(self) -> str:
        return f"{self.text.as_string()} {self.values}"


@dataclass
class Outcome:
    """What a tenant learns of a statement: an error, or rows and how many."""

    error: tuple[str, ...] | None = None
    count: int = 0
    rows: list[str] = field(default_factory=list)


@dataclass
class World:
    """Two furnished tenants in one transaction that is never committed, seen by the first."""

    connection: Connection
    mine: Tenant
    theirs: Tenant
    relations: list[Relation]
    functions: list[Function]
    tables: list[str]  # those with tenant_id
    known: set[str]  # every id there is
    pool: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def as_role(self, role: str, tenant_id: UUID | None = None) -> None:
        self.connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        self.connection.execute(
            "SELECT set_config('app.tenant_id', %s, true)", ("" if tenant_id is None else str(tenant_id),)
        )

    def run(self, statement: Statement, theirs: Digests | None = None) -> Outcome:
        """As the API for the first tenant, and undone. Asserts that the others' rows are as they were, if given."""
        try:
            with self.connection.transaction(force_rollback=True):
                self.as_role("palomar_api", self.mine.id)
                outcome = self._outcome(statement)
                self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                if theirs is not None:
                    self.as_role("palomar_worker")
                    assert self.theirs_as_they_are() == theirs, f"a write across: {statement}"
                return outcome
        except psycopg.Error as error:  # nothing of it is there any more
            diagnostic = error.diag
            parts = (
                diagnostic.sqlstate,
                diagnostic.message_primary,
                diagnostic.message_detail,
                diagnostic.message_hint,
                diagnostic.constraint_name,
            )
            return Outcome(error=tuple(self.blanked(part or "") for part in parts))

    def _outcome(self, statement: Statement) -> Outcome:
        with self.connection.cursor() as cursor:
            if statement.copies:
                with cursor.copy(statement.text) as copy:
                    return Outcome(rows=sorted(bytes(row).decode() for row in copy))
            cursor.execute(statement.text, statement.values)
            rows = cursor.fetchall() if cursor.description else []
            return Outcome(count=cursor.rowcount, rows=sorted(self.blanked(str(row)) for row in rows))

    def blanked(self, text: str) -> str:
        """Without the ids that were made by chance just now."""
        return UUID_TEXT.sub(lambda found: found[0] if found[0] in self.known else "made just now", text)

    def theirs_as_they_are(self) -> Digests:
        """A digest of every row that is not the first tenant's."""
        # Of so many tables PostgreSQL may read some at the same time, and in any order.
        return sorted(self.connection.execute(self._digests, prepare=True).fetchall())

    @cached_property
    def _digests(self) -> sql.Composed:
        return sql.SQL(" UNION ALL ").join(
            sql.SQL(
                "SELECT {name}, md5(string_agg(r::text, '|' ORDER BY r::text)) FROM {table} AS r WHERE {id} <> {mine}"
            ).format(
                name=sql.Literal(table),
                table=sql.Identifier(table),
                id=sql.Identifier("id" if table == "tenants" else "tenant_id"),
                mine=sql.Literal(self.mine.id),
            )
            for table in ("tenants", *self.tables)
        )

    def forget_them(self) -> None:
        """As the workers' role: the second tenant was never there."""
        self.as_role("palomar_worker")
        self.connection.execute("DELETE FROM tenants WHERE id = %s", (self.theirs.id,))
        for table in ("events", "inbound_log", "media_blobs"):  # whose rows outlive their tenant
            self.connection.execute(
                sql.SQL("DELETE FROM {} WHERE tenant_id = %s").format(sql.Identifier(table)), (self.theirs.id,)
            )

    def check(self, statements: Sequence[Statement]) -> list[Outcome]:
        """Assert the property for each statement. The other tenant is forgotten once: it has rows in every table."""
        self.as_role("palomar_worker")
        theirs = self.theirs_as_they_are()
        with_them = [self.run(statement, theirs) for statement in statements]
        with self.connection.transaction(force_rollback=True):
            self.forget_them()
            for statement, outcome in zip(statements, with_them, strict=True):
                assert outcome == self.run(statement), f"{statement} tells of another tenant"
        return with_them


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with as_worker(database_url) as worker, worker.transaction(force_rollback=True):
        mine, theirs = furnish(worker, "mine"), furnish(worker, "theirs")
        rows = worker.execute(catalogue.TABLES).fetchall()
        tables = [name for name, partition, _, _, has_tenant, _ in rows if has_tenant and not partition]
        made = World(worker, mine, theirs, catalogue.relations(worker), catalogue.functions(worker), tables, set())
        collect(made)
        yield made


def collect(world: World) -> None:
    """Every value that stands in a column of either tenant's rows, by relation and column."""
    for relation in world.relations:
        for column in relation.columns:
            values = world.connection.execute(
                sql.SQL("SELECT DISTINCT {}::text FROM {}").format(
                    sql.Identifier(column.name), sql.Identifier(relation.name)
                )
            ).fetchall()
            world.pool[relation.name, column.name] = sorted(value for (value,) in values if value is not None)
    texts = [value for values in world.pool.values() for value in values]
    world.known = {found for text in texts for found in UUID_TEXT.findall(text)}


def test_the_property_stands_on_rows_of_both_tenants_in_every_table(world: World) -> None:
    assert {relation.name for relation in world.relations} >= {"messages", "endpoints", "kommo_conversations"}
    for table in world.tables:
        owners = world.connection.execute(
            sql.SQL("SELECT DISTINCT tenant_id FROM {}").format(sql.Identifier(table))
        ).fetchall()
        assert {world.mine.id, world.theirs.id} <= {owner for (owner,) in owners}, f"furnishing.py makes no {table}"
    before = world.theirs_as_they_are()
    with world.connection.transaction(force_rollback=True):
        world.forget_them()
        assert [digest for _, digest in world.theirs_as_they_are()] == [None] * len(before)
    assert all(digest is not None for _, digest in before)


FRESH: dict[str, Callable[[], str]] = {
    "uuid": lambda: str(uuid4()), "text": lambda: "fresh", "integer": lambda: "7", "bigint": lambda: "7",
    "timestamp with time zone": lambda: "2026-01-01 00:00:00+00", "boolean": lambda: "true", "jsonb": lambda: "{}",
    "text[]": lambda: "{fresh}", "bytea": lambda: "\\x00", "smallint": lambda: "7", "xid8": lambda: "7",
    "regclass": lambda: "tenants", "date": lambda: "2026-01-01", "interval": lambda: "1 day", "numeric": lambda: "7",
}  # fmt: skip


def values_for(world: World, relation: Relation, column: Column) -> st.SearchStrategy[str | None]:
    """Theirs, ours, one without a tenant, or null."""
    there = world.pool[relation.name, column.name]
    fresh = st.just(FRESH[column.type]()) if column.type in FRESH else st.none()
    owners = [str(world.theirs.id), str(world.mine.id)] if column.name == relation.tenant_column else []
    return st.sampled_from(there + owners) | fresh if there + owners else fresh | st.none()


Condition = tuple[sql.SQL | sql.Composed, tuple[object, ...]]


def given_as(column: Column) -> sql.Composed:
    return sql.SQL("%s::") + sql.SQL(column.type)


def conditions(world: World, relation: Relation) -> st.SearchStrategy[Condition]:
    """Where: all rows, or those with one value in one column."""
    everything: Condition = (sql.SQL("true"), ())

    def equal(column: Column) -> st.SearchStrategy[Condition]:
        condition = sql.SQL("{} = ").format(sql.Identifier(column.name)) + given_as(column)
        return values_for(world, relation, column).map(lambda value: (condition, (value,)))

    readable = relation.may("select")
    return st.just(everything) | st.sampled_from(readable).flatmap(equal) if readable else st.just(everything)


def selects(world: World, relation: Relation) -> st.SearchStrategy[Statement]:
    columns = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c.name)) for c in relation.may("select"))
    ends = ["", " FOR UPDATE", " FOR SHARE SKIP LOCKED"]
    return st.tuples(conditions(world, relation), st.sampled_from(ends)).map(
        lambda found: Statement(
            sql.SQL("SELECT {} FROM {} WHERE {}{}").format(
                columns, sql.Identifier(relation.name), found[0][0], sql.SQL(found[1])
            ),
            found[0][1],
        )
    )


def copies(_: World, relation: Relation) -> st.SearchStrategy[Statement]:
    columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in relation.may("select"))
    table = sql.SQL("COPY {} ({}) TO STDOUT").format(sql.Identifier(relation.name), columns)
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(columns, sql.Identifier(relation.name))
    return st.sampled_from([Statement(table, copies=True), Statement(query, copies=True)])


def inserts(world: World, relation: Relation) -> st.SearchStrategy[Statement]:
    """A row like one that is there, of either tenant, with some of its values changed or left out."""
    columns = relation.may("insert")
    templates = world.connection.execute(
        sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c.name)) for c in columns),
            sql.Identifier(relation.name),
        )
    ).fetchall()

    @st.composite
    def drawn(draw: st.DrawFn) -> Statement:
        row = draw(st.sampled_from(templates))
        changes = draw(st.dictionaries(st.sampled_from(range(len(columns))), st.sampled_from("cdd"), max_size=4))
        kept = [(c, v) for number, (c, v) in enumerate(zip(columns, row, strict=True)) if changes.get(number) != "d"]
        chosen = [(c, draw(values_for(world, relation, c)) if changes.get(columns.index(c)) == "c" else v)
                  for c, v in kept]  # fmt: skip
        mine = draw(st.booleans())
        chosen = [(c, str(world.mine.id) if mine and c.name == relation.tenant_column else v) for c, v in chosen]
        end = draw(st.sampled_from(["", " ON CONFLICT DO NOTHING"]))
        text = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}){}").format(
            sql.Identifier(relation.name),
            sql.SQL(", ").join(sql.Identifier(c.name) for c, _ in chosen),
            sql.SQL(", ").join(given_as(c) for c, _ in chosen),
            sql.SQL(end),
        )
        return Statement(text, tuple(value for _, value in chosen))

    return drawn()


def updates(world: World, relation: Relation) -> st.SearchStrategy[Statement]:
    columns = relation.may("update")

    @st.composite
    def drawn(draw: st.DrawFn) -> Statement:
        changed = draw(st.lists(st.sampled_from(columns), min_size=1, max_size=3, unique=True))
        values = [draw(values_for(world, relation, column)) for column in changed]
        where, wanted = draw(conditions(world, relation))
        text = sql.SQL("UPDATE {} SET {} WHERE {}").format(
            sql.Identifier(relation.name),
            sql.SQL(", ").join(sql.Identifier(c.name) + sql.SQL(" = ") + given_as(c) for c in changed),
            where,
        )
        return Statement(text, (*values, *wanted))

    return drawn()


def deletes(world: World, relation: Relation) -> st.SearchStrategy[Statement]:
    return conditions(world, relation).map(
        lambda found: Statement(
            sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(relation.name), found[0]), found[1]
        )
    )


def calls(world: World, function: Function) -> st.SearchStrategy[Statement]:
    texts = sorted({value for (_, name), values in world.pool.items() for value in values
                    if name in ("provider", "phone", "address", "name", "kind", "kommo_chat_id")})  # fmt: skip
    pools = {"uuid": sorted(world.known), "text": texts}
    arguments = [
        (st.sampled_from(pools[kind]) if kind in pools else st.nothing())
        | (st.just(FRESH[kind]()) if kind in FRESH else st.none())
        for kind in function.arguments
    ]
    text = sql.SQL("SELECT t::text FROM {}({}) AS t").format(
        sql.Identifier(function.name), sql.SQL(", ").join(sql.SQL("%s::") + sql.SQL(k) for k in function.arguments)
    )
    return st.tuples(*arguments).map(lambda values: Statement(text, values))


def drawn(statements: st.SearchStrategy[Statement], examples: int) -> list[Statement]:
    """So many of these statements, the same ones each time."""
    found: list[Statement] = []

    @hypothesis_settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )  # fmt: skip
    @given(statements)
    def draw(statement: Statement) -> None:
        found.append(statement)

    draw()
    return found


Makes = Callable[[World, Relation], st.SearchStrategy[Statement]]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("verb", "make", "examples"),
    [("select", selects, EXAMPLES), ("select", copies, 2), ("insert", inserts, 2 * EXAMPLES),
     ("update", updates, EXAMPLES), ("delete", deletes, EXAMPLES)],
    ids=["select", "copy", "insert", "update", "delete"],
)  # fmt: skip
def test_nothing_that_a_tenant_runs_shows_another_tenants_rows_or_changes_them(
    world: World, verb: str, make: Makes, examples: int
) -> None:
    statements: list[Statement] = []
    for relation in world.relations:
        if relation.delete if verb == "delete" else relation.may(verb):
            statements += drawn(make(world, relation), examples)
    outcomes = world.check(statements)
    assert any(outcome.error is None and (outcome.count or outcome.rows) for outcome in outcomes), "it did nothing"


def check_few_by_few(world: World, statements: Sequence[Statement]) -> None:
    """Up to the first few with one that tells."""
    for few in range(0, len(statements), 20):
        world.check(statements[few : few + 20])


@pytest.mark.parametrize(
    ("leak", "make", "relation"),
    [
        ("GRANT INSERT ON endpoints TO palomar_api", inserts, "endpoints"),
        ("GRANT INSERT ON events TO palomar_api", inserts, "events"),
        ("CREATE UNIQUE INDEX ON groups (name)", inserts, "groups"),
        ("CREATE UNIQUE INDEX ON contacts (id); "
         "ALTER TABLE group_contacts DROP CONSTRAINT group_contacts_tenant_id_contact_id_fkey, "
         "ADD FOREIGN KEY (contact_id) REFERENCES contacts (id) ON DELETE CASCADE", inserts, "group_contacts"),
        ("CREATE POLICY leak ON contacts FOR SELECT TO palomar_api USING (true)", selects, "customers"),
        ("CREATE POLICY leak ON contacts FOR SELECT TO palomar_api USING (true)", copies, "contacts"),
        ("CREATE POLICY leak ON webhooks TO palomar_api USING (true)", updates, "webhooks"),
        ("ALTER TABLE webhook_logs DISABLE ROW LEVEL SECURITY", deletes, "webhook_logs"),
    ],
)  # fmt: skip
def test_a_leak_would_be_found(world: World, leak: str, make: Makes, relation: str) -> None:
    world.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    world.connection.execute("RESET ROLE")
    world.connection.execute(leak.encode())
    (leaking,) = (found for found in catalogue.relations(world.connection) if found.name == relation)
    world.as_role("palomar_worker")
    world.relations = [leaking]
    collect(world)
    statements = drawn(make(world, leaking), 400)
    with pytest.raises(AssertionError, match=r"tells of another|a write across"):
        check_few_by_few(world, statements)


def test_no_function_that_a_tenant_may_call_tells_of_another_or_changes_it(world: World) -> None:
    statements = [one for function in world.functions for one in drawn(calls(world, function), 2 * EXAMPLES)]
    outcomes = world.check(statements)
    assert any(outcome.error is None and outcome.rows for outcome in outcomes)


def test_what_the_api_sees_of_its_own_is_seen_and_without_a_tenant_nothing_is(world: World) -> None:
    for relation in world.relations:
        readable = relation.may("select")
        if not readable or relation.tenant_column is None:
            continue
        for tenant, seen in ((world.mine.id, True), (world.theirs.id, True), (None, False), (uuid4(), False)):
            with world.connection.transaction(force_rollback=True):
                world.as_role("palomar_api", tenant)
                owners = world.connection.execute(
                    sql.SQL("SELECT DISTINCT {} FROM {}").format(
                        sql.Identifier(relation.tenant_column), sql.Identifier(relation.name)
                    )
                ).fetchall()
                assert owners == ([(tenant,)] if seen else []), relation.name
