"""A worker process whose handler does what its jobs say; `python -m tests.support.runner_process test`.

It is `python -m workers` with another worker in it. JOBS is how many jobs it handles at once.
"""

import asyncio
import os
import sys

from shared.queue.outcomes import DeadLetter
from shared.queue.worker import Context, Worker
from tests.support.runner_stage import QUEUE, SampleJob
from workers import __main__ as workers
from workers import _process

worker: Worker[SampleJob, None] = Worker("test", (QUEUE,), (SampleJob,), concurrency=int(os.environ.get("JOBS", "10")))


@worker.handle
async def handle(job: SampleJob, ctx: Context[None]) -> None:
    """Count the job in `effects` once its act is through.

    `do`, `exit` (the whole process, at once), `wait SECONDS`, or `die NAME`: hopeless until NAME is done.
    """
    act, _, argument = job.act.partition(" ")
    if act == "exit":
        os._exit(1)
    if act == "wait":
        await asyncio.sleep(float(argument))
    if act == "die" and not await ctx.pool.fetchval("SELECT count(*) FROM effects WHERE name = $1", argument):
        raise DeadLetter("nothing works")
    await ctx.pool.execute(
        "INSERT INTO effects AS e (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET count = e.count + 1", job.name
    )


if __name__ == "__main__":
    _process._paths = lambda: {"test": "tests.support.runner_process"}
    sys.exit(workers.main(sys.argv[1:]))
