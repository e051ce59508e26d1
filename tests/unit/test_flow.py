"""The graph of queues and messages: one-directional, complete, and drawn from the declarations alone."""

import inspect
import subprocess
import sys
from graphlib import CycleError
from pathlib import Path

import pytest

from ops.flow import INGRESS, WIDTH, Stage, as_json, dot, draw, graph, graph_of, stages
from ops.local.supervisor import read_procfile
from shared.queue import jobs, topology
from shared.queue.jobs import Job, ReplyWanted, SendAdmitted, SendRequested, WebhookReceived
from shared.queue.worker import Worker
from workers.__main__ import declared

ROOT = Path(__file__).resolve().parents[2]


def test_messages_flow_one_way() -> None:
    shown = graph()
    place = {stage.name: number for number, stage in enumerate(shown.stages)}
    assert shown.edges
    assert all(place[edge.source] < place[edge.target] for edge in shown.edges)


def test_only_the_clock_puts_work_into_queues_beside_the_flow() -> None:
    shown = graph()
    assert {edge.source for edge in shown.nudges} == {"clock"}
    assert {source for source, _ in shown.told} == {"relay"}


def test_each_queue_is_consumed_by_one_worker() -> None:
    consumers = {queue.name: [s.name for s in stages() if queue.name in s.queues] for queue in topology.QUEUES}
    assert {queue: len(names) for queue, names in consumers.items()} == dict.fromkeys(consumers, 1)


def test_each_message_is_published_and_consumed_by_somebody() -> None:
    every = {m for _, m in inspect.getmembers(jobs, inspect.isclass) if issubclass(m, Job)}
    every.discard(Job)
    published = {message for stage in stages() for message in stage.publishes}
    consumed = {stage.consumes for stage in stages() if stage.consumes}
    assert published == every
    assert {message for message in every if message.exchange == topology.WORK} == consumed


def test_a_worker_declares_every_message_its_module_handles() -> None:
    for name, worker in declared().items():
        module = sys.modules[f"workers.{name}"]
        handled = {m for m in vars(module).values() if inspect.isclass(m) and issubclass(m, Job)}
        told = {*worker.publishes, *((worker.consumes,) if isinstance(worker, Worker) else ())}
        assert handled - {Job} <= told, name


def test_the_procfile_starts_each_worker_once() -> None:
    workers = {name: f"python -m workers {name}" for name in declared()}
    assert read_procfile(ROOT / "Procfile") == {INGRESS: f"python -m ingress {INGRESS}", **workers}


@pytest.mark.parametrize(
    ("publishes", "why"),
    [
        ((WebhookReceived,), "upstream of itself"),
        ((SendAdmitted,), "to itself"),
        ((SendRequested,), "one step back"),
    ],
)
def test_a_worker_that_publishes_upstream_is_refused(publishes: tuple[type[Job], ...], why: str) -> None:
    others = [stage for stage in stages() if stage.name != "send"]
    (send,) = (stage for stage in stages() if stage.name == "send")
    with pytest.raises(CycleError):
        graph_of([*others, Stage(send.name, send.queues, send.consumes, publishes)])


def test_a_message_that_nobody_takes_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"receive publishes WebhookReceived to persist, persist\.receipts, persist\.large, where"
    ):
        graph_of([Stage(INGRESS, publishes=(WebhookReceived,))])
    with pytest.raises(ValueError, match=r"publishes ReplyWanted to reply, reply\.llm, where nobody takes it"):
        graph_of([Stage("persist", publishes=(ReplyWanted,)), Stage("reply", ("reply", "reply.llm"), SendRequested)])


def test_the_drawing_shows_every_process_queue_and_message_and_is_always_the_same() -> None:
    drawn = draw(graph())
    assert drawn == draw(graph())
    assert max(map(len, drawn.splitlines())) <= WIDTH
    shown = {*declared(), INGRESS, *(f"[{queue.name}]" for queue in topology.QUEUES)}
    shown |= {message.__name__ for stage in stages() for message in stage.publishes}
    shown |= {step.name for step in topology.retry_schedule((1, 5, 30, 120, 600))}
    assert {word for word in shown if word not in drawn} == set()


def test_a_line_past_a_box_runs_beside_it() -> None:
    a = Stage("a", publishes=(ReplyWanted, SendRequested))
    b = Stage("b", ("reply", "reply.llm"), ReplyWanted)
    c = Stage("c", ("window",), SendRequested)
    assert draw(graph_of([a, b, c])).splitlines()[:11] == [
        "┌────────────────────────┐",
        "│ a  HTTP                ├──┐",
        "└───┬────────────────────┘  │ SendRequested",
        "    │ ReplyWanted           │",
        "┌───▼────────────────────┐  │",
        "│ b  [reply] [reply.llm] │  │",
        "└────────────────────────┘  │",
        "                            │",
        "┌────────────────────────┐  │",
        "│ c  [window]            │◀─┘",
        "└────────────────────────┘",
    ]


def test_programs_get_the_same_graph() -> None:
    shown = graph()
    edges = as_json(shown)["edges"]
    assert isinstance(edges, list)
    assert {(edge["source"], edge["target"]) for edge in edges} == {(e.source, e.target) for e in shown.edges}
    drawn = dot(shown)
    assert drawn.count("{") == drawn.count("}") == 1
    assert '"clock" -> "[reply]" [label="ReplyWanted", style=dashed];' in drawn


def test_what_ingress_publishes_is_known_without_a_database_driver() -> None:
    probe = "import sys, ingress.receive.app; sys.exit('asyncpg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=False).returncode == 0
