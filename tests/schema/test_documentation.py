"""docs/schema.md tells of everything that is there."""

import re

from tests.schema.office import Office
from tests.support.processes import ROOT


def test_every_table_and_view_stands_in_the_documentation_and_no_other(office: Office) -> None:
    text = (ROOT / "docs" / "schema.md").read_text()
    there = office.operator(
        "SELECT relname::text AS name, relkind = 'v' AS is_view FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition "
        "AND relname !~ 'yoyo'"
    )
    tables = {row["name"] for row in there if not row["is_view"]}
    rows = re.search(r"\n## The tables\n(.*?)\n## ", text, re.DOTALL)
    assert rows is not None
    assert set(re.findall(r"^\| `(\w+)` \|", rows[1], re.MULTILINE)) == tables
    assert [row["name"] for row in there if f"`{row['name']}`" not in text] == []
    picture = text.split("```")[3]
    assert [name for name in sorted(tables) if not re.search(rf"\b{name}\b", picture)] == []
