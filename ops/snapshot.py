"""The state of the system at a moment, and what a person should do about it."""

from dataclasses import asdict, dataclass

from ops.local.processes import Process
from shared.store.counts import Rows

MOST_NAMED = 5  # webhooks that fail, or are disabled
STILL = 10.0  # seconds without a tick, or of relay lag, that are worth a word


@dataclass(frozen=True, slots=True)
class Queue:
    """A work queue. `items`, its jobs, is exact where every job has a row; else `at_least`: an envelope holds some."""

    name: str
    worker: str
    envelopes: int  # ready in the broker
    consumers: int
    dead: int
    items: int | None  # None: neither broker nor database could be asked
    at_least: bool
    in_hand: int  # jobs that processes of this machine hold


@dataclass(frozen=True, slots=True)
class Spool:
    """Acknowledged webhooks that wait on this machine's disk for the broker."""

    webhooks: int = 0
    bytes: int = 0
    unreadable: int = 0  # files
    trouble: str | None = None  # why it takes no more


@dataclass(frozen=True, slots=True)
class Snapshot:
    queues: tuple[Queue, ...] | None  # None: the broker does not answer
    retrying: int  # envelopes on the retry schedule
    rows: Rows | None  # None: the database does not answer
    spool: Spool
    processes: tuple[Process, ...]  # of this machine
    looked: bool  # for processes; False where the extra `local` is not installed
    missing: tuple[str, ...]  # of the Procfile, not running on this machine
    clock_tick_age: float | None  # seconds; None: no clock of this machine tells
    away: tuple[tuple[str, str], ...]  # (what is wrong, what to do)

    @property
    def advice(self) -> list[str]:
        """What is wrong and what to do next, most urgent first; empty where all is well."""
        return _advice(self)

    @property
    def answers(self) -> bool:
        """Whether broker and database do."""
        return not self.away

    def as_json(self) -> dict[str, object]:
        return {
            **asdict(self),
            "processes": [{**asdict(one), "ready": one.ready} for one in self.processes],
            "answers": self.answers,
            "advice": self.advice,
        }


def _advice(taken: Snapshot) -> list[str]:
    said = [f"{what} {remedy}" for what, remedy in taken.away]
    for queue in taken.queues or ():
        if not queue.consumers:
            said.append(f"No process consumes {queue.name}. Start its worker: python -m workers {queue.worker}")
        if queue.dead:
            said.append(f"{queue.name}.dead holds {queue.dead}. See why: ./palomar dead show {queue.name}")
    for one in taken.processes:
        for what, why in one.missing.items():
            said.append(f"{one.name} (process {one.pid}) is not ready: {what}: {why}")
        for what, why in one.warnings.items():
            said.append(f"{one.name} (process {one.pid}) warns: {what}: {why}")
    rows = taken.rows
    if rows is not None:
        if rows.overdue:
            said.append(f"{rows.overdue} rows are overdue. Is a clock running? python -m workers clock")
        if rows.set_aside:
            said.append(
                f"{rows.set_aside} rows are parked: their jobs are dead letters. See why: ./palomar dead list. "
                "Mend it, then: ./palomar dead replay NAME --all"
            )
        if rows.restored:
            said.append(
                f"{rows.restored} messages and replies may have left before the database was restored. "
                "Decide: ./palomar unknown list"
            )
        if rows.relay_lag > STILL:
            said.append(
                f"Events wait for {rows.relay_lag:.0f} s. Is a relay running (python -m workers relay), or is a "
                "transaction open that has written (pg_stat_activity)?"
            )
        if rows.webhooks.overdue:
            said.append(
                f"{rows.webhooks.overdue} tenants' webhooks are overdue. Is their worker running? "
                "python -m workers webhook"
            )
        said += _of_webhooks("fails", rows.webhooks.failing, "See its log: ./palomar webhooks logs")
        said += _of_webhooks("is disabled", rows.webhooks.disabled, "Once it answers: ./palomar webhooks enable")
        for channel in rows.stopped_channels:
            said.append(f"Channel {channel} is stopped. Try it: ./palomar channels test {channel}")
    if taken.clock_tick_age is not None and taken.clock_tick_age > STILL:
        said.append(f"The clock last ticked {taken.clock_tick_age:.0f} s ago. See its log.")
    if taken.spool.trouble:
        said.append(
            f"Webhooks are refused while the broker is away: {taken.spool.trouble}. "
            "Make room on the disk, or raise PALOMAR_SPOOL_LIMIT."
        )
    if taken.spool.unreadable:
        said.append(f"{taken.spool.unreadable} spool files can't be read. See ingress's log; nothing removes them.")
    return said


def _of_webhooks(how: str, ids: tuple[str, ...], remedy: str) -> list[str]:
    """A line for each of these webhooks of tenants; the rest of many by their number."""
    said = [f"Webhook {webhook} {how}. {remedy} {webhook}" for webhook in ids[:MOST_NAMED]]
    rest = len(ids) - MOST_NAMED
    return [*said, f"The same holds of {rest} more webhooks. See ./palomar webhooks list"] if rest > 0 else said
