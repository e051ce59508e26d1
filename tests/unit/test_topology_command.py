"""The graph of queues and messages: one-directional, complete, and drawn from the declarations alone."""

import inspect
import subprocess
import sys
from graphlib import CycleError
from pathlib import Path

import pytest

from ops.local.supervisor import read_procfile
from ops.topology import INGRESS, WIDTH, Stage, as_json, graph, graph_of, listed, mermaid, stages
from shared.queue import jobs, topology
from shared.queue.jobs import Job, ReplyWanted, SendReady, SendRequested, WebhookReceived
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
    assert {source for source, _ in shown.events} == {"relay"}


def test_each_queue_is_consumed_by_one_worker() -> None:
    consumers = {queue.name: [s.name for s in stages() if queue.name in s.queues] for queue in topology.QUEUES}
    assert {queue: len(names) for queue, names in consumers.items()} == dict.fromkeys(consumers, 1)


def test_each_message_is_published_and_consumed_by_somebody() -> None:
    every = {m for _, m in inspect.getmembers(jobs, inspect.isclass) if issubclass(m, Job)}
    every = {m for m in every if "type" in vars(m)}  # not the bases
    published = {message for stage in stages() for message in stage.publishes}
    consumed = {message for stage in stages() for message in stage.consumes}
    assert published == every
    assert {message for message in every if message.exchange == topology.WORK} == consumed


def test_a_worker_declares_every_message_its_module_handles() -> None:
    for name, worker in declared().items():
        modules = [
            m for path, m in sys.modules.items() if path == f"workers.{name}" or path.startswith(f"workers.{name}.")
        ]
        values = [value for module in modules for value in vars(module).values()]
        handled = {m for m in values if inspect.isclass(m) and issubclass(m, Job)}
        named = {*worker.publishes, *(worker.consumes if isinstance(worker, Worker) else ())}
        assert {m for m in handled if "type" in vars(m)} <= named, name


def test_the_procfile_starts_each_worker_once() -> None:
    workers = {name: f"python -m workers {name}" for name in declared()}
    ingress = {name: f"python -m ingress {name}" for name in (INGRESS, "api")}
    assert read_procfile(ROOT / "Procfile") == {**ingress, **workers}


@pytest.mark.parametrize(
    ("publishes", "why"),
    [
        ((WebhookReceived,), "upstream of itself"),
        ((SendReady,), "to itself"),
        ((SendRequested,), "one step back"),
    ],
)
def test_a_worker_that_publishes_upstream_is_refused(publishes: tuple[type[Job], ...], why: str) -> None:
    others = [stage for stage in stages() if stage.name != "send"]
    (send,) = (stage for stage in stages() if stage.name == "send")
    with pytest.raises(CycleError):
        graph_of([*others, Stage(send.name, send.queues, send.consumes, publishes)])


def test_a_job_without_a_consumer_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"receive publishes WebhookReceived to persist, persist\.receipts, persist\.large: no worker"
    ):
        graph_of([Stage(INGRESS, publishes=(WebhookReceived,))])
    with pytest.raises(ValueError, match=r"publishes ReplyWanted to reply, reply\.llm: no worker consumes it"):
        graph_of([Stage("persist", publishes=(ReplyWanted,)), Stage("reply", ("reply", "reply.llm"), (SendRequested,))])


def test_the_list_shows_every_process_queue_and_message_and_is_always_the_same() -> None:
    text = listed(graph())
    assert text == listed(graph())
    assert max(map(len, text.splitlines())) <= WIDTH
    shown = {*declared(), INGRESS, *(f"[{queue.name}]" for queue in topology.QUEUES)}
    shown |= {message.__name__ for stage in stages() for message in stage.publishes}
    shown |= {step.name for step in topology.retry_schedule((1, 5, 30, 120, 600))}
    assert {word for word in shown if word not in text} == set()


def test_a_process_is_followed_by_what_it_publishes() -> None:
    a = Stage("a", publishes=(ReplyWanted, SendRequested))
    b = Stage("b", ("reply", "reply.llm"), (ReplyWanted,))
    c = Stage("c", ("window",), (SendRequested,))
    assert listed(graph_of([a, b, c])).splitlines()[:5] == [
        "a         HTTP",
        "          → b: ReplyWanted to [reply] [reply.llm]",
        "          → c: SendRequested to [window]",
        "b         [reply] [reply.llm]",
        "c         [window]",
    ]


def test_programs_and_mermaid_get_the_same_graph() -> None:
    shown = graph()
    edges = as_json(shown)["edges"]
    assert isinstance(edges, list)
    assert {(edge["source"], edge["target"]) for edge in edges} == {(e.source, e.target) for e in shown.edges}
    chart = mermaid(shown).splitlines()
    assert all(f"    {edge.source} -- {edge.message} --> {edge.target}" in chart for edge in shown.edges)
    assert "    clock -. ReplyWanted .-> reply" in chart


def test_what_ingress_publishes_is_known_without_a_database_driver() -> None:
    probe = "import sys, ingress.receive.app; sys.exit('asyncpg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=False).returncode == 0
