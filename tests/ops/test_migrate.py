"""Migrations: applied once however many apply them, taken back whole, and not fooled by semicolons in functions."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from schema import migrate

FIRST = """
CREATE TABLE counted (n int NOT NULL);

-- A body with semicolons, a quoted ; and a nested block.
CREATE FUNCTION count_one() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE step int := 1;
BEGIN
    IF NEW.n IS NULL THEN
        RAISE EXCEPTION 'n is missing; give one';
    END IF;
    BEGIN
        NEW.n := NEW.n + step;
    EXCEPTION WHEN numeric_value_out_of_range THEN NULL;
    END;
    RETURN NEW;
END
$$;
CREATE TRIGGER count_one BEFORE INSERT ON counted FOR EACH ROW EXECUTE FUNCTION count_one();
"""
SECOND = """
DO $$
DECLARE i int;
BEGIN
    FOR i IN 1..3 LOOP
        INSERT INTO counted VALUES (i);
    END LOOP;
    CASE WHEN (SELECT count(*) FROM counted) = 3 THEN NULL; END CASE;
END
$$;
SELECT 1;
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text(FIRST)
    (tmp_path / "0001_first.rollback.sql").write_text("DROP TABLE counted;\nDROP FUNCTION count_one();\n")
    (tmp_path / "0002_second.sql").write_text(SECOND)
    (tmp_path / "0002_second.rollback.sql").write_text("DELETE FROM counted;\n")
    return tmp_path


@pytest.fixture
def applied(database_url: str, folder: Path) -> list[str]:
    return migrate.apply(database_url, folder)


def rows(database_url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_functions_and_blocks_survive_and_nothing_is_printed(
    database_url: str, applied: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert applied == ["0001_first", "0002_second"]
    assert rows(database_url, "SELECT n FROM counted ORDER BY n") == [(2,), (3,), (4,)]
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("applied")
def test_a_second_run_finds_nothing_to_do(database_url: str, folder: Path) -> None:
    assert migrate.apply(database_url, folder) == []


@pytest.mark.usefixtures("applied")
def test_the_newest_is_taken_back_first(database_url: str, folder: Path) -> None:
    assert migrate.rollback(database_url, 1, folder) == ["0002_second"]
    assert rows(database_url, "SELECT n FROM counted") == []
    assert [step.applied for step in migrate.status(database_url, folder)] == [True, False]
    assert migrate.rollback(database_url, 5, folder) == ["0001_first"]
    assert rows(database_url, "SELECT to_regclass('counted'), to_regproc('count_one')") == [(None, None)]


def test_one_of_several_at_once_does_the_work(database_url: str, folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: migrate.apply(database_url, folder), range(4)))
    assert sorted(map(len, done)) == [0, 0, 0, 2]


@pytest.mark.usefixtures("applied")
def test_the_lock_row_of_a_killed_run_stands_in_nobodys_way(database_url: str, folder: Path) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 1)")
    assert migrate.rollback(database_url, 1, folder) == ["0002_second"]


def test_a_migration_that_fails_leaves_nothing_of_itself(database_url: str, folder: Path) -> None:
    (folder / "0003_broken.sql").write_text("CREATE TABLE half (n int);\nSELECT no_such_function();\n")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        migrate.apply(database_url, folder)
    assert rows(database_url, "SELECT to_regclass('half')") == [(None,)]
    assert [step.name for step in migrate.status(database_url, folder) if step.applied] == ["0001_first", "0002_second"]


def test_palomars_own_schema_goes_back_to_nothing_and_up_again(database_url: str) -> None:
    steps = migrate.status(database_url)
    assert all(step.applied for step in steps)
    migrate.rollback(database_url, len(steps))
    left = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname !~ 'yoyo'"
    assert rows(database_url, left) == []
    assert migrate.apply(database_url) == [step.name for step in steps]
