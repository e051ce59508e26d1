"""The sides that `palomar bench peers` compares: Palomar and its peers, each started alone on the same servers."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import asyncpg

from ops.demo.twilio import DEMO
from ops.local.supervisor import read_procfile
from shared import database
from shared.store import channels
from tests.bench import queues
from tests.bench.arena import CHECKOUT, EMPTY, Arena, Process

PALOMAR: Final = "Palomar"
FASTSTREAM: Final = "FastStream"
INLINE: Final = "inline"
NOT_SENT: Final = "direction = 'outbound' AND status NOT IN ('sent', 'delivered', 'read')"
PEERS_NOT_SENT: Final = "role = 'assistant' AND provider_sid IS NULL"
FASTEST: Final = 1000.0  # messages a second: the most that a channel's rate may be, so that no side waits for it


@dataclass(frozen=True, slots=True)
class Side:
    """One of them, running. `sender` is the process that calls the provider, which the fault run kills."""

    name: str
    entrance: str
    processes: Sequence[Process]
    sender: Process
    database_url: str = field(repr=False)
    not_sent: str  # the messages of ours, by SQL, that its own database does not have as sent

    async def unfinished(self) -> int:
        """How many these are."""
        connection = await asyncpg.connect(self.database_url)
        try:
            if self.name == PALOMAR:
                await connection.execute("SET ROLE palomar_worker")  # the owner sees no tenant's rows
            return int(await connection.fetchval(f"SELECT count(*) FROM messages WHERE {self.not_sent}"))
        finally:
            await connection.close()

    @property
    def webhook_url(self) -> str:
        return DEMO.webhook_url(self.entrance)

    def with_sender(self, sender: Process) -> "Side":
        """The same side after its sender was started again."""
        kept = [process for process in self.processes if process.name != sender.name]
        return replace(self, processes=[*kept, sender], sender=sender)


async def palomar(arena: Arena, sandbox: Process) -> Side:
    """The whole Procfile, with the rules engine and the channel's rate lifted."""
    variables = {
        "AMQP_URL": arena.vhost("peers-palomar"),
        "DATABASE_URL": arena.database("peers_palomar"),
        "PALOMAR_TWILIO_API_URL": sandbox.url,
    }
    connection = await database.connect(arena.settings(database_url=variables["DATABASE_URL"]), process="bench")
    assert await channels.set_settings(connection, DEMO.tenant_id, DEMO.channel_id, {**DEMO.settings, "rate": FASTEST})
    await connection.close()
    commands = read_procfile(CHECKOUT / "Procfile")
    receive = arena.spawn("receive", commands.pop("receive").split()[1:], variables, serves=True)
    variables["PALOMAR_PUBLIC_URL"] = receive.url
    workers = {name: arena.spawn(name, line.split()[1:], variables, serves=True) for name, line in commands.items()}
    await arena.ready(receive, *workers.values())
    return Side(
        PALOMAR, receive.url, [receive, *workers.values()], workers["send"], variables["DATABASE_URL"], NOT_SENT
    )


async def faststream(arena: Arena, sandbox: Process) -> Side:
    """A process that receives, and one that works."""
    variables = {
        "AMQP_URL": arena.vhost("peers-faststream"),
        "DATABASE_URL": arena.database("peers_faststream", template=EMPTY),
        "TWILIO_API_URL": sandbox.url,
    }
    module = "tests.bench.peers.with_faststream"
    receive = arena.spawn("faststream-receive", ["-m", module, "receive"], variables, serves=True)
    work = arena.spawn("faststream-work", ["-m", module, "work"], variables)
    await arena.ready(receive)
    await queues.until_consumed(variables["AMQP_URL"], "inbound", "outbound")
    return Side(FASTSTREAM, receive.url, [receive, work], work, variables["DATABASE_URL"], PEERS_NOT_SENT)


async def inline(arena: Arena, sandbox: Process) -> Side:
    """Two processes that serve one port: on two cores they were a fifth faster than one."""
    variables = {"DATABASE_URL": arena.database("peers_inline", template=EMPTY), "TWILIO_API_URL": sandbox.url}
    command = ["-m", "tests.bench.peers.inline"]
    first = arena.spawn("inline-1", command, variables, serves=True)
    shared = {"PORT": str(first.port), "PALOMAR_PUBLIC_URL": first.url}
    second = arena.spawn("inline-2", command, {**variables, **shared}, serves=True)
    await arena.ready(first, second)
    return Side(INLINE, first.url, [first, second], second, variables["DATABASE_URL"], PEERS_NOT_SENT)


Start = Callable[[Arena, Process], Awaitable[Side]]
ALL: Final[dict[str, Start]] = {PALOMAR: palomar, FASTSTREAM: faststream, INLINE: inline}
