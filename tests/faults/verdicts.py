"""What must hold after the faults, asked from the database, the provider and the broker. Each says what is wrong.

`everything` is all of it. Our message id travels with every send (providers.py), so the chain webhook → customer's
message → answer (`reply:<id>`) → what the provider took is followed by ids, never by guessing.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final
from uuid import UUID

import orjson

from ops.sandbox.observations import Instant, SeenMessage
from shared.domain.statuses import RANK, meaning
from tests.faults.customers import Customers, Written, answer_to
from tests.faults.staging import System

TERMINAL_WITHIN: Final = 120.0  # seconds after the last fault
TAKEN: Final = ("sent", "delivered", "read")  # what becomes of a message that the provider took

_UNFINISHED = """
SELECT 'message' AS what, id, status AS state, due_at FROM messages
WHERE status IN ('queued', 'held', 'ready', 'sending', 'unknown')
UNION ALL SELECT 'reply', id, status, reply_due_at FROM conversations WHERE reply_due_at IS NOT NULL
UNION ALL SELECT 'parked receipt', id, status, received_at FROM message_statuses WHERE message_id IS NULL
"""


def _show(rows: Iterable[object], most: int = 10) -> str:
    every = list(rows)
    return f"{len(every)}: " + "; ".join(str(row) for row in every[:most])


async def terminal(system: System) -> float:
    """Wait until nothing is unfinished; returns the seconds it took. Raises AssertionError with what is left."""
    started = time.monotonic()

    async def unfinished() -> list[str]:
        return [str(dict(row)) for row in await system.rows(_UNFINISHED)]

    await system.until(unfinished, equals=[], within=TERMINAL_WITHIN, what="nothing unfinished")
    return time.monotonic() - started


async def all_kept(system: System, written: Sequence[Written]) -> None:
    """Every webhook that was answered 2xx is in inbound_log exactly once."""

    async def missing() -> list[str]:
        kept = {row["id"] for row in await system.rows("SELECT DISTINCT encode(id, 'hex') AS id FROM inbound_log")}
        return [w.sid for w in written if w.webhook and w.taken and w.webhook.inbound_id not in kept]

    await system.until(missing, equals=[], within=TERMINAL_WITHIN, what="no webhook missing in inbound_log")
    twice = await system.rows("SELECT encode(id, 'hex') AS id FROM inbound_log GROUP BY id HAVING count(*) > 1")
    assert not twice, f"more than once in inbound_log: {_show(row['id'] for row in twice)}"
    unread = await system.rows(
        "SELECT encode(id, 'hex') AS id, outcome, error FROM inbound_log WHERE error IS NOT NULL"
    )
    assert not unread, f"kept, but not read: {_show(dict(row) for row in unread)}"
    twice = await system.rows(
        "SELECT external_id FROM messages WHERE direction = 'inbound' GROUP BY external_id HAVING count(*) > 1"
    )
    assert not twice, f"one customer's message, two rows: {_show(row['external_id'] for row in twice)}"


async def receipts_kept(system: System, seen: Sequence[SeenMessage]) -> None:
    """Every receipt that was answered 2xx is in inbound_log exactly once, and moved its message as far as it tells.

    One whose answer was lost on its way, as ingress was killed, may have moved it further.
    """
    accepted: defaultdict[str, set[str]] = defaultdict(set)  # sid → statuses of its receipts that were answered 2xx
    tried: defaultdict[str, set[str]] = defaultdict(set)
    for message in seen:
        for receipt in message.statuses:
            tried[message.sid].add(receipt.status)
            if receipt.http_status is not None and 200 <= receipt.http_status < 300:
                accepted[message.sid].add(receipt.status)

    async def wrong() -> list[tuple[str, str, int]]:
        kept: Counter[tuple[str, str]] = Counter()
        for row in await system.rows("SELECT body FROM inbound_log WHERE receipts"):
            kept.update(system.provider.receipts(row["body"]))
        return [(sid, word, kept[sid, word]) for sid in accepted for word in accepted[sid] if kept[sid, word] != 1]

    await system.until(wrong, equals=[], within=TERMINAL_WITHIN, what="receipts not exactly once in inbound_log")
    rows = await system.rows("SELECT external_id, status FROM messages WHERE direction = 'outbound'")
    status = {row["external_id"]: row["status"] for row in rows}
    behind = []
    for sid, words in accepted.items():
        furthest = max((known for word in words if (known := meaning(word))), key=lambda known: RANK[known])
        further = {known for word in tried[sid] if (known := meaning(word)) and RANK[known] > RANK[furthest]}
        if status.get(sid) not in {furthest, *further}:
            behind.append((sid, sorted(words), status.get(sid)))
    assert not behind, f"messages that are not where their receipts say: {_show(behind)}"


async def sent_once(system: System, seen: Sequence[SeenMessage]) -> None:
    """The provider took nothing twice. What it took is recorded as sent, and only what was in flight at a kill is
    of unknown outcome: such a message was not taken, and failed as `unknown` where it could not be looked up."""
    our_id = system.provider.our_id
    taken = Counter(our_id(message) for message in seen if message.outcome == "accepted")
    twice = {str(message_id): count for message_id, count in taken.items() if count > 1}
    assert not twice, f"sent twice: {_show(twice.items())}"
    rows = {
        row["id"]: row
        for row in await system.rows(
            "SELECT id, status, error_code, error_message, dedupe_key FROM messages WHERE direction = 'outbound'"
        )
    }
    first: Counter[str] = Counter()  # by the message that was first of unknown outcome, however often it was sent anew
    for message_id in taken:
        first[_origin(rows[message_id]["dedupe_key"]) or str(message_id)] += 1
    anew = {origin: count for origin, count in first.items() if count > 1}
    assert not anew, f"sent anew though the provider had it: {_show(anew.items())}"
    lost = [dict(rows[message_id]) for message_id in taken if rows[message_id]["status"] not in TAKEN]
    assert not lost, f"the provider took them, and we say otherwise: {_show(lost)}"
    untaken = {message_id: row for message_id, row in rows.items() if message_id not in taken}
    given_up = (("failed", "unknown"), ("failed", "resent"))  # or sent anew, where the provider's list has it not
    wrong = [dict(row) for row in untaken.values() if (row["status"], row["error_code"]) not in given_up]
    assert not wrong, f"never at the provider, and not recorded as unknown: {_show(wrong)}"
    explained = system.in_flight | left_in_doubt(system, seen)
    unexplained = [dict(row) for message_id, row in untaken.items() if message_id not in explained]
    assert not unexplained, f"of unknown outcome, though not in flight at any kill: {_show(unexplained)}"


def _origin(dedupe_key: str) -> str | None:
    return dedupe_key.split(":")[1] if dedupe_key.startswith("resend:") else None


async def ever_unknown(system: System, seen: Sequence[SeenMessage]) -> set[UUID]:
    """Messages that were `unknown` for a time: each in flight at a kill, or dropped by the provider unanswered."""
    events = await system.rows("SELECT DISTINCT message_id FROM events WHERE name = 'message.unknown'")
    unknown = {row["message_id"] for row in events}
    unexplained = unknown - left_in_doubt(system, seen) - system.in_flight
    assert not unexplained, f"unknown without a reason: {_show(unexplained)}"
    return unknown


def left_in_doubt(system: System, seen: Sequence[SeenMessage]) -> set[UUID]:
    """Those whose call the provider never answered, taken or not."""
    our_id = system.provider.our_id
    return {our_id(message) for message in seen if message.outcome in ("accepted", "dropped") and not message.answered}


async def in_order(system: System, seen: Sequence[SeenMessage]) -> None:
    """In each conversation what the provider took came in the order of `out_seq`, one call after the other.

    A call ends with its answer, or with the first receipt if that comes earlier: it says as well that it was taken.
    """
    place = {
        row["id"]: (row["conversation_id"], row["out_seq"])
        for row in await system.rows("SELECT id, conversation_id, out_seq FROM messages WHERE direction = 'outbound'")
    }
    our_id = system.provider.our_id
    calls: defaultdict[UUID, list[SeenMessage]] = defaultdict(list)
    for message in seen:
        calls[place[our_id(message)][0]].append(message)
    for conversation, made in calls.items():
        made.sort(key=lambda call: call.received_at.monotonic)
        order = [place[our_id(call)][1] for call in made if call.outcome == "accepted"]
        assert order == sorted(order), f"conversation {conversation}: taken in the order {order}"
        overlapping = [
            f"{our_id(before)} {before.received_at}–{before.finished_at}, then {our_id(after)} {after.received_at}"
            for before, after in pairwise(made)
            if not _ended(before, after.received_at)
        ]
        assert not overlapping, f"conversation {conversation}: calls that overlap: {_show(overlapping)}"


def _ended(call: SeenMessage, by: Instant) -> bool:
    answered = call.finished_at is not None and call.finished_at.monotonic <= by.monotonic
    return answered or any(receipt.posted_at <= by.wall for receipt in call.statuses)


async def each_answered(system: System, customers: Customers) -> None:
    """Each message that was written alone has exactly one answer, its own; of several in a row each at most one, and
    the newest one exactly one. (Whether the provider took the answer is `sent_once`'s.)"""
    answers = await system.rows(
        """SELECT i.external_id AS sid, i.conversation_id, i.created_at, o.id AS answer, o.content
        FROM messages i LEFT JOIN messages o ON o.dedupe_key = 'reply:' || i.id AND o.tenant_id = i.tenant_id
        WHERE i.direction = 'inbound' ORDER BY i.created_at"""
    )
    by_sid = {row["sid"]: row for row in answers}
    assert len(by_sid) == len(answers), "one message has two answers"
    lost = [w.sid for w in customers.written if w.taken and w.sid not in by_sid]
    assert not lost, f"taken, and no message of it: {_show(lost)}"
    unanswered = [w for w in customers.written if w.alone and w.taken and by_sid[w.sid]["answer"] is None]
    assert not unanswered, f"not answered: {_show((w.customer, w.number, w.sid) for w in unanswered)}"
    wrong = [
        (w.number, by_sid[w.sid]["content"])
        for w in customers.written
        if w.taken and by_sid[w.sid]["answer"] is not None and by_sid[w.sid]["content"] != answer_to(w.number)
    ]
    assert not wrong, f"answered with another message's answer: {_show(wrong)}"
    newest = {row["conversation_id"]: row for row in answers}
    silent = [dict(row) for row in newest.values() if row["answer"] is None]
    assert not silent, f"conversations whose newest message has no answer: {_show(silent)}"
    others = await system.count(
        """messages o WHERE direction = 'outbound' AND dedupe_key NOT LIKE 'reply:%' AND NOT EXISTS (
            SELECT FROM messages first WHERE first.tenant_id = o.tenant_id AND first.dedupe_key LIKE 'reply:%'
                AND o.dedupe_key LIKE 'resend:' || first.id || ':%')"""
    )
    assert others == 0, f"{others} messages that answer nothing and are no answer sent anew"
    owing = await system.rows("SELECT id FROM conversations WHERE user_message_count <> answered_count")
    assert not owing, f"conversations that count an unanswered message: {_show(row['id'] for row in owing)}"


async def no_dead_letters(system: System, poison: Sequence[bytes] = ()) -> None:
    """No dead-letter queue holds anything but the poison, perhaps twice, if its worker was killed meanwhile."""
    dead_letters = await system.dead_letters()
    healthy = [(name, body[:300]) for name, bodies in dead_letters.items() for body in bodies if body not in poison]
    assert not healthy, f"dead letters: {_show(healthy)}"
    found = {body for bodies in dead_letters.values() for body in bodies}
    assert found == set(poison), f"poison that is nowhere: {_show(set(poison) - found)}"


async def all_relayed(system: System, queue: str) -> None:
    """Every event was relayed, first in the order of (xid, seq). `queue` is bound to all since the start."""
    wanted = {(int(row["xid"]), row["seq"]) for row in await system.rows("SELECT xid::text AS xid, seq FROM events")}
    relayed = system.relayed

    async def missing() -> int:
        for body in await system.take_all(queue):
            relayed.update(((item["xid"], item["seq"]), None) for item in orjson.loads(body)["items"])
        return len(wanted - relayed.keys())

    await system.until(missing, equals=0, within=TERMINAL_WITHIN, what="events not relayed")
    turned = [(a, b) for a, b in pairwise(relayed) if a > b]
    assert not turned, f"events relayed out of order: {_show(turned)}"


async def everything(system: System, customers: Customers, events_queue: str, poison: Sequence[bytes] = ()) -> str:
    """All of the above, once no customer writes any more; returns a line of figures."""
    took = await terminal(system)
    await all_kept(system, customers.written)
    await system.until(system.receipts_pending, equals=0, within=TERMINAL_WITHIN, what="receipts on their way")
    seen = await system.stage.sandbox.messages()
    await sent_once(system, seen)
    unknown = await ever_unknown(system, seen)
    await in_order(system, seen)
    await each_answered(system, customers)
    await receipts_kept(system, seen)
    await no_dead_letters(system, poison)
    await all_relayed(system, events_queue)
    system.all_alive()
    taken = sum(message.outcome == "accepted" for message in seen)
    failed = await system.count("messages WHERE status = 'failed'")
    return (
        f"{len(customers.written)} messages written, {sum(w.answers.total() for w in customers.webhooks)} webhooks, "
        f"{taken} answers at the provider, {len(unknown)} for a time unknown, {failed} of them never sent, "
        f"{len(system.in_flight)} in flight at a kill; terminal after {took:.1f} s; "
        f"slowest 2xx {customers.slowest:.2f} s"
    )
