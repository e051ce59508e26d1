"""Each migration can be taken back, and taken back and applied again it leads to the same schema as a first time."""

import shutil
from pathlib import Path

import pytest

from ops.local.postgres import Postgres
from schema import migrate
from tests.schema.dumping import dump


@pytest.mark.timeout(300)
def test_each_migration_taken_back_leaves_what_was_there_before_it(
    database_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    names = [step.name for step in migrate.status(database_url)]
    fresh = dump(postgres, database_url)
    assert any("CREATE TABLE public.messages " in line for line in fresh)
    migrate.rollback(database_url, len(names))
    dumps = [dump(postgres, database_url)]
    for name in names:
        for file in migrate.MIGRATIONS.glob(f"{name}.*"):
            shutil.copy(file, tmp_path)
        assert migrate.apply(database_url, tmp_path) == [name]
        dumps.append(dump(postgres, database_url))
    assert dumps.pop() == fresh
    for name, before in zip(names[::-1], dumps[::-1], strict=True):
        assert migrate.rollback(database_url, 1) == [name]
        assert dump(postgres, database_url) == before, name
    assert migrate.apply(database_url) == names
    assert dump(postgres, database_url) == fresh
    assert migrate.apply(database_url) == []
    assert dump(postgres, database_url) == fresh
