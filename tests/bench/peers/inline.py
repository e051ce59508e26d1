"""The inline peer: one handler stores, answers and sends, then acknowledges. `python -m tests.bench.peers.inline`."""

import uvloop

from tests.bench.peers.job import Inbound, Twilio, database, store_and_answer
from tests.bench.peers.web import serve


async def main() -> None:
    """Serve until SIGTERM."""
    async with database() as pool, Twilio.opened() as twilio:

        async def take(message: Inbound) -> None:
            answer = await store_and_answer(pool, message)
            if answer is not None:
                await twilio.send(pool, answer)

        await serve(take)


if __name__ == "__main__":
    uvloop.run(main())
