"""A page of a list is looked up by where it begins, by an index, also under the row level security of palomar_api."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from shared.store.newest_first import id_or_last
from tests.schema.people import as_api
from tests.schema.statements import every_statement

FEW = ("channel_records._PAGE", "consent_records._OF_CONTACT")  # rows, all of which may be read
PAGES = [
    one
    for one in every_statement()
    if one.name not in FEW and any(id_or_last(place) in one.sql for place in range(1, 10))
]


def test_a_page_is_found_by_an_index(database_url: str) -> None:
    families = {one.name.rpartition("._")[0] for one in PAGES}
    assert families >= {"contact_records", "conversation_records", "messages.records", "messages.history", "groups"}
    with as_api(database_url, uuid4(), prepare_threshold=None) as session:
        # Of an empty table a scan costs nothing, and of any table a plan has to fit all arguments.
        session.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        session.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        unfound = []
        for number, statement in enumerate(PAGES):
            session.execute(f"PREPARE s{number} AS {statement.sql}".encode())
            row = session.execute(
                "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = %s", (f"s{number}",)
            ).fetchone()
            assert row is not None
            nulls = ", ".join(["NULL"] * row[0])
            planned = session.execute(f"EXPLAIN (FORMAT JSON) EXECUTE s{number}({nulls})".encode()).fetchone()
            assert planned is not None
            plan = planned[0][0]["Plan"]
            if not any("CASE WHEN" in condition for condition in _index_conditions(plan)):
                unfound.append(statement.name)
    assert unfound == []


def _index_conditions(plan: dict[str, Any]) -> Iterator[str]:
    yield plan.get("Index Cond", "")
    for below in plan.get("Plans", ()):
        yield from _index_conditions(below)
