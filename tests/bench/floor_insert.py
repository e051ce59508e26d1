"""Floor of persist, other half: one row for each webhook, its raw body in a plain table, 200 of them a statement.

DATABASE_URL; arguments: how many rows, file for the result. Two connections at once, as many as persist works on.
"""

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import uvloop

from tests.bench.webhooks import bodies

BATCH = 200
CONNECTIONS = 2


async def main(count: int) -> list[tuple[int, float]]:
    """Insert `count` rows; returns when each statement was committed, as (rows so far, seconds)."""
    rows = [(hashlib.sha256(body).digest(), body) for body in bodies(count)]
    batches = (rows[start : start + BATCH] for start in range(0, count, BATCH))
    progress: list[tuple[int, float]] = []
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute("CREATE TABLE floor (id bytea PRIMARY KEY, body bytea NOT NULL)")

        async def insert(waiting: Iterator[list[tuple[bytes, bytes]]]) -> None:
            for batch in waiting:  # one iterator for all connections: each takes the next
                await pool.execute(
                    "INSERT INTO floor SELECT * FROM unnest($1::bytea[], $2::bytea[])",
                    [row[0] for row in batch],
                    [row[1] for row in batch],
                )
                progress.append((len(batch) + (progress[-1][0] if progress else 0), time.monotonic()))

        await asyncio.gather(*(insert(batches) for _ in range(CONNECTIONS)))
        kept = await pool.fetchval("SELECT count(*) FROM floor")
        await pool.execute("DROP TABLE floor")
    if kept != count:
        raise SystemExit(f"{kept} rows were kept, not {count}")
    return progress


if __name__ == "__main__":
    count, result = sys.argv[1:]
    Path(result).write_text(json.dumps(uvloop.run(main(int(count)))))
