"""Puts aside, after a restore or a fail-over, every send that may already have happened.

What is put aside, and for whom, is in shared/store/messages/restored.py. A restore does it in the one transaction that
gives Palomar's roles their rights, so that no process, whenever it is started, finds a row that it could send.
"""

import pkgutil
from datetime import timedelta
from pathlib import Path
from typing import Final

import psycopg

import workers
from ops import archives, connections
from ops.archives import Manifest
from ops.errors import Problem
from schema.migrate import MIGRATIONS
from shared import database
from shared.actions import delivery_receipts
from shared.settings import Settings
from shared.store import partitions
from shared.store.messages import restored
from shared.store.messages.restored import LONG, Suspended

CLUSTER: Final = ("0001_roles", "0019_memberships")
"""Migrations whose work lies outside the database, so that no backup holds it. Each bears being run again."""

PARTITIONS_AHEAD: Final = 7  # days
RECEIPTS_AT_ONCE: Final = 500

_CONNECTED: Final = """
SELECT DISTINCT application_name FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'palomar %' ORDER BY 1
"""
_FULL: Final = """
SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
"""


def restore(settings: Settings, folder: Path, jobs: int) -> tuple[Manifest, Suspended]:
    """Fill an empty database from a backup, and put aside what may have left since. Raises Problem."""
    url = settings.database_session_url
    manifest = Manifest.read(folder)
    ours = max(file.stem for file in MIGRATIONS.glob("*.sql") if not file.name.endswith(".rollback.sql"))
    if manifest.last_migration != ours:
        raise Problem(
            f"The backup was made with the schema {manifest.last_migration}, and this version has {ours}.",
            "Restore it with the version of Palomar that made it; then take this one, and run ./palomar migrate.",
        )
    with psycopg.connect(url, autocommit=True) as owner:
        server = archives.major(owner)
        _refuse(owner, manifest, server)
        for name in CLUSTER:
            owner.execute((MIGRATIONS / f"{name}.sql").read_bytes())
        archives.load(url, folder, server, jobs)
        aside = connections.run(_open(settings, manifest, archives.rights(url, folder, server)))
        owner.execute("ANALYZE")
    return manifest, aside


def _refuse(owner: archives.Connection, manifest: Manifest, server: int) -> None:
    """Raises Problem where the database is not one to restore into."""
    if server < manifest.postgresql:
        raise Problem(
            f"The backup is of PostgreSQL {manifest.postgresql}, and this server is {server}.",
            "Restore it into a server of the same or a later version.",
        )
    row = owner.execute(_FULL.encode()).fetchone()
    if row is None or row[0]:
        raise Problem(
            "The database that DATABASE_URL names is not empty.",
            "Make a new one (createdb --owner=… NAME) and name that: a restore replaces nothing.",
        )


async def _open(settings: Settings, manifest: Manifest, rights: str) -> Suspended:
    """Give everybody their rights, if every row is there, in the transaction that puts aside what may have left."""
    connection = await database.connect(settings, process="restore")
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL ROLE NONE")  # the owner gives the rights
            await connection.execute(rights, timeout=LONG)
            await connection.execute("RESET ALL")  # pg_restore's script has set a search_path and more
            await connection.execute("SET LOCAL ROLE palomar_worker")
            found = {
                table: await connection.fetchval(f"SELECT count(*) FROM {table}", timeout=LONG)
                for table in manifest.rows
            }
            if wrong := archives.differences(manifest.rows, found):
                raise Problem(
                    f"Not every row was restored: {'; '.join(wrong)}. No process of Palomar's may read this database.",
                    "Drop it, and restore into a new one.",
                )
            await partitions.make(connection, PARTITIONS_AHEAD)
            return await _put_aside(connection, settings)
    finally:
        await connection.close(timeout=5)


def fail_over(settings: Settings) -> Suspended:
    """The same for a database that was promoted, or restored by other means. Raises Problem."""
    return connections.run(_fail_over(settings))


async def _fail_over(settings: Settings) -> Suspended:
    async with connections.database(settings, "failover"):  # tells why it can't be reached, or is none of ours
        pass
    connection = await database.connect(settings, process="failover")
    try:
        named = [row["application_name"] for row in await connection.fetch(_CONNECTED)]
        if at_work := [name for name in named if is_worker(name)]:
            raise Problem(
                f"Processes work on this database: {', '.join(at_work)}. They may be sending right now.",
                "Stop them (receive may go on), then run this again.",
            )
        async with connection.transaction():
            return await _put_aside(connection, settings)
    finally:
        await connection.close(timeout=5)


def is_worker(application: str) -> bool:
    """Whether a connection of this name is a worker's, such as `palomar window send.twilio 4711`."""
    names = {"all", *(module.name for module in pkgutil.iter_modules(workers.__path__))}
    return any(word.partition(".")[0] in names for word in application.split()[1:-1])


async def _put_aside(connection: database.Connection, settings: Settings) -> Suspended:
    await restored.adopt_events(connection)
    await restored.begin_epoch(connection)
    # A receipt that waited for its message may make another one, which is then put aside too.
    handoff = timedelta(seconds=settings.handoff_lease)
    while (await delivery_receipts.apply_parked(connection, RECEIPTS_AT_ONCE, handoff))[0]:
        pass
    return await restored.suspend(connection)


def summary(aside: Suspended) -> str:
    """What was put aside and what to do about it, in sentences."""
    lines = [
        f"{aside.messages} messages may have left already, and are unknown now.",
        f"{aside.replies} replies were owed, and are put aside.",
        f"{aside.reports} reports to Kommo about agents' messages are not made.",
        f"{aside.campaigns} campaigns are paused.",
        f"{aside.deliveries} deliveries to webhooks are failed.",
    ]
    if aside.messages or aside.replies:
        lines.append("Decide about messages and replies: ./palomar unknown list")
    return "\n".join(lines)
