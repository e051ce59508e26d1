"""The graph of queues and messages, built from what processes declare. It asks neither broker nor database.

Messages flow one way. Only a loop without a queue of its own (`clock`) may publish to any queue: what it publishes
stands beside the flow, and so do the relay's events.
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

import ingress
from shared.queue import topology
from shared.queue.jobs import Job
from shared.queue.worker import Worker
from shared.settings import Settings
from workers.__main__ import declared

INGRESS = "receive"
WIDTH = 100  # columns of the list, at most
_Message = type[Job]


@dataclass(frozen=True, slots=True)
class Stage:
    """One process as it declares itself. Without `consumes` it takes from no queue."""

    name: str
    queues: tuple[str, ...] = ()
    consumes: tuple[_Message, ...] = ()
    publishes: tuple[_Message, ...] = ()
    nudges: bool = False  # runs beside the flow and may put work into any queue


@dataclass(frozen=True, slots=True)
class Edge:
    """Messages of one class that go from one stage to another, through these queues."""

    source: str
    message: str
    queues: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class Graph:
    """`stages` are the flow in an order in which every edge points forward; `nudges` point anywhere."""

    stages: tuple[Stage, ...]
    edges: tuple[Edge, ...]
    nudges: tuple[Edge, ...]
    events: tuple[tuple[str, str], ...]  # (who, message) to the exchange of events
    retries: tuple[str, ...]
    dead: tuple[str, ...]


def graph(retry_delays: Sequence[float] | None = None) -> Graph:
    """The graph of everything there is; the retry schedule is the default one where no delays (seconds) are given.

    Raises ValueError where the declarations don't make a flow.
    """
    delays = Settings.model_fields["retry_delays"].default if retry_delays is None else retry_delays
    return graph_of(stages(), [step.name for step in topology.retry_schedule(delays)])


def stages() -> list[Stage]:
    """What ingress and every worker declare."""
    found = [Stage(INGRESS, publishes=ingress.PUBLISHES)]
    for name, worker in declared().items():
        if isinstance(worker, Worker):
            queues = tuple(queue.name for queue in worker.queues)
            found.append(Stage(name, queues, worker.consumes, worker.publishes))
        else:
            found.append(Stage(name, publishes=worker.publishes, nudges=True))
    return found


def graph_of(declarations: Sequence[Stage], retries: Sequence[str] = ()) -> Graph:
    """Raises ValueError where a message leads nowhere, or in a circle (then its subclass graphlib.CycleError)."""
    every = [edge for stage in declarations for edge in _edges(stage, declarations)]
    beside = {stage.name for stage in declarations if stage.nudges}
    edges = tuple(edge for edge in every if edge.source not in beside)
    return Graph(
        stages=tuple(_in_order([stage for stage in declarations if not stage.nudges], edges)),
        edges=edges,
        nudges=tuple(edge for edge in every if edge.source in beside),
        events=tuple(
            (stage.name, message.__name__)
            for stage in declarations
            for message in stage.publishes
            if message.exchange == topology.EVENTS
        ),
        retries=tuple(retries),
        dead=tuple(topology.WorkQueue(queue).dead_letters for stage in declarations for queue in stage.queues),
    )


def _edges(source: Stage, declarations: Sequence[Stage]) -> list[Edge]:
    found: list[Edge] = []
    for message in source.publishes:
        if message.exchange == topology.EVENTS:
            continue
        reached: set[str] = set()
        for target in declarations:
            queues = tuple(queue for queue in target.queues if queue in message.queues)
            if queues and message in target.consumes:
                found.append(Edge(source.name, message.__name__, queues, target.name))
                reached.update(queues)
        if lost := [queue for queue in message.queues if queue not in reached]:
            raise ValueError(f"{source.name} publishes {message.__name__} to {', '.join(lost)}: no worker consumes it")
    return found


def _in_order(flow: Sequence[Stage], edges: Iterable[Edge]) -> list[Stage]:
    """Each publisher before its consumers, so that most lines are short: behind each the one it feeds, first of
    these one that feeds another. Raises graphlib.CycleError."""
    sorter: TopologicalSorter[str] = TopologicalSorter({stage.name: () for stage in flow})
    for edge in edges:
        sorter.add(edge.target, edge.source)
    sorter.prepare()
    place = {stage.name: number for number, stage in enumerate(flow)}
    leads_on = {edge.source for edge in edges}
    fed_at = dict.fromkeys(place, 0)  # where in the order the last that feeds it stands
    ordered: list[Stage] = []
    ready: set[str] = set(sorter.get_ready())
    while ready:
        name = min(ready, key=lambda name: (-fed_at[name], name not in leads_on, place[name]))
        ordered.append(flow[place[name]])
        fed_at |= {edge.target: len(ordered) for edge in edges if edge.source == name}
        sorter.done(name)
        ready = (ready - {name}) | set(sorter.get_ready())
    return ordered


# -- how it is shown ---------------------------------------------------------------------------------------------------


def listed(shown: Graph) -> str:
    """The graph as text: a paragraph per process with the queues it consumes, a line per message that it publishes."""
    width = max(len(name) for name in ("given up", *(stage.name for stage in shown.stages))) + 2
    lines: list[str] = []
    for stage in shown.stages:
        lines += _note(stage.name, _named(stage.queues) or "HTTP", width)
        for edge in shown.edges:
            if edge.source == stage.name:
                lines += _note("", f"→ {edge.target}: {edge.message} to {_named(edge.queues)}", width)
    lines.append("")
    for name in dict.fromkeys(edge.source for edge in shown.nudges):
        nudges = [edge for edge in shown.nudges if edge.source == name]
        queues = dict.fromkeys(queue for edge in nudges for queue in edge.queues)
        messages = dict.fromkeys(edge.message for edge in nudges)
        lines += _note(name, f"publishes what is due to {_named(queues)} ({', '.join(messages)})", width)
    for source, message in shown.events:
        lines += _note(source, f"publishes what happened to the exchange `{topology.EVENTS}` ({message})", width)
    if shown.retries:
        lines += _note("failed", f"waits in {_named(shown.retries)}, then comes back to its queue", width)
    if shown.dead:
        lines += _note("given up", f"lies beside its queue, as in [{shown.dead[0]}]: palomar dead list", width)
    return "\n".join(lines)


def _named(queues: Iterable[str]) -> str:
    return " ".join(f"[{queue}]" for queue in queues)


def _note(name: str, what: str, width: int) -> list[str]:
    return textwrap.wrap(
        what,
        WIDTH,
        initial_indent=f"{name:{width}}",
        subsequent_indent=" " * width,
        break_long_words=False,
        break_on_hyphens=False,
    )


def mermaid(shown: Graph) -> str:
    """The graph as a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html). What is due anyway is dotted."""
    lines = ["flowchart TD"]
    for stage in shown.stages:
        lines.append(f'    {stage.name}["<b>{stage.name}</b><br>{"<br>".join(stage.queues) or "HTTP"}"]')
    lines += [f"    {edge.source} -- {edge.message} --> {edge.target}" for edge in shown.edges]
    lines += [f"    {edge.source} -. {edge.message} .-> {edge.target}" for edge in shown.nudges]
    lines += [f"    {source} -- {message} --> {topology.EVENTS}([exchange events])" for source, message in shown.events]
    return "\n".join(lines)


def as_json(shown: Graph) -> dict[str, object]:
    """The graph as JSON values."""
    return {
        "stages": [
            {
                "name": stage.name,
                "queues": list(stage.queues),
                "consumes": [message.__name__ for message in stage.consumes],
                "publishes": [message.__name__ for message in stage.publishes],
            }
            for stage in shown.stages
        ],
        "edges": [_edge_as_json(edge) for edge in shown.edges],
        "nudges": [_edge_as_json(edge) for edge in shown.nudges],
        "events": [{"source": source, "message": message} for source, message in shown.events],
        "retries": list(shown.retries),
        "dead": list(shown.dead),
    }


def _edge_as_json(edge: Edge) -> dict[str, object]:
    return {"source": edge.source, "message": edge.message, "queues": list(edge.queues), "target": edge.target}
