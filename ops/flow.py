"""The graph of queues and messages, built from what processes declare. Pure: it asks neither broker nor database.

Messages flow one way. Only a loop without a queue of its own (`clock`) may put work into any queue: its nudges stand
beside the flow, and so does what the relay tells the world.
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

import ingress
from ops.canvas import Canvas
from shared.queue import topology
from shared.queue.jobs import Job
from shared.queue.worker import Worker
from shared.settings import Settings
from workers.__main__ import declared

INGRESS = "receive"
WIDTH = 100  # columns of the drawing, at most
_QUEUES_WIDTH = 56  # of the queues in a box; beside it run the lines that pass it by
_Message = type[Job]


@dataclass(frozen=True, slots=True)
class Stage:
    """One process as it declares itself. Without `consumes` it takes from no queue."""

    name: str
    queues: tuple[str, ...] = ()
    consumes: _Message | None = None
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
    told: tuple[tuple[str, str], ...]  # (who, message) to the exchange of events
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
        told=tuple(
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
            if queues and target.consumes is message:
                found.append(Edge(source.name, message.__name__, queues, target.name))
                reached.update(queues)
        if lost := [queue for queue in message.queues if queue not in reached]:
            raise ValueError(f"{source.name} publishes {message.__name__} to {', '.join(lost)}, where nobody takes it")
    return found


def _in_order(flow: Sequence[Stage], edges: Iterable[Edge]) -> list[Stage]:
    """Whoever publishes before whoever consumes, so that most lines are short: behind each the one it feeds, first of
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


def draw(shown: Graph) -> str:
    """The graph as text of at most WIDTH columns: a box per process with the queues it consumes, a line per message."""
    lines = _draw_flow(shown)
    lines.append("")
    for stage in dict.fromkeys(edge.source for edge in shown.nudges):
        nudges = [edge for edge in shown.nudges if edge.source == stage]
        queues = dict.fromkeys(queue for edge in nudges for queue in edge.queues)
        messages = dict.fromkeys(edge.message for edge in nudges)
        lines += _note(stage, f"puts what is due into {_named(queues)} ({', '.join(messages)})")
    for source, message in shown.told:
        lines += _note(source, f"tells the exchange `{topology.EVENTS}` what happened ({message}), for whoever listens")
    if shown.retries:
        lines += _note("failed", f"waits in {', '.join(shown.retries)}; then comes back to its queue")
    if shown.dead:
        lines += _note("given up", f"lies beside its queue, in [{shown.dead[0]}] for instance: palomar dead list")
    return "\n".join(lines)


def _named(queues: Iterable[str]) -> str:
    return " ".join(f"[{queue}]" for queue in queues)


def _note(who: str, what: str) -> list[str]:
    return textwrap.wrap(
        what,
        WIDTH,
        initial_indent=f"{who:10}",
        subsequent_indent=" " * 10,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _draw_flow(shown: Graph) -> list[str]:
    """Boxes below each other. A line to the next box runs between them, one that passes boxes by runs beside them."""
    label = max(len(stage.name) for stage in shown.stages) + 2
    texts = {stage.name: _in_box(stage, label) for stage in shown.stages}
    widest = max(len(text) for lines in texts.values() for text in lines)
    inner = max(widest + 2, *(len(edge.message) + 6 for edge in shown.edges))
    canvas = Canvas()
    row: dict[str, int] = {}  # of each box's first line of text
    below: dict[str, int] = {}  # each box's lower edge
    top = 0
    for name, lines in texts.items():
        canvas.box(0, top, inner, lines)
        row[name], below[name] = top + 1, top + len(lines) + 1
        top = below[name] + 2
    column = inner + 4
    for edge in shown.edges:
        start, end = row[edge.source], row[edge.target]
        if end - 1 == below[edge.source] + 2:
            canvas.down(4, below[edge.source], end - 1)
            canvas.text(6, below[edge.source] + 1, edge.message)
        else:
            canvas.around(inner + 1, column, start, end)
            canvas.text(column + 2, start + 1, edge.message)
            column += len(edge.message) + 4
    return canvas.lines()


def _in_box(stage: Stage, label: int) -> list[str]:
    """A process with its queues, as many lines as they take."""
    queues = [f"[{queue}]" for queue in stage.queues] or ["HTTP"]
    lines = textwrap.wrap(" ".join(queues), _QUEUES_WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"{stage.name if number == 0 else '':{label}}{line}" for number, line in enumerate(lines)]


def dot(shown: Graph) -> str:
    """The graph for Graphviz: `palomar flow --dot | dot -Tsvg`. Nudges are dashed."""
    lines = ["digraph palomar {", "  rankdir=LR;", "  node [fontname=Helvetica]; edge [fontname=Helvetica];"]
    for stage in shown.stages:
        lines.append(f'  "{stage.name}" [shape=box];')
        lines += [f'  "[{queue}]" [shape=cds]; "[{queue}]" -> "{stage.name}";' for queue in stage.queues]
    for name in dict.fromkeys([*(edge.source for edge in shown.nudges), *(source for source, _ in shown.told)]):
        lines.append(f'  "{name}" [shape=box, style=dashed];')
    for edges, style in ((shown.edges, "solid"), (shown.nudges, "dashed")):
        for edge in edges:
            lines += [
                f'  "{edge.source}" -> "[{queue}]" [label="{edge.message}", style={style}];' for queue in edge.queues
            ]
    lines += [f'  "{source}" -> "{topology.EVENTS}" [label="{message}"];' for source, message in shown.told]
    return "\n".join([*lines, "}"])


def as_json(shown: Graph) -> dict[str, object]:
    """The graph as JSON values."""
    return {
        "stages": [
            {
                "name": stage.name,
                "queues": list(stage.queues),
                "consumes": stage.consumes.__name__ if stage.consumes else None,
                "publishes": [message.__name__ for message in stage.publishes],
            }
            for stage in shown.stages
        ],
        "edges": [_edge_as_json(edge) for edge in shown.edges],
        "nudges": [_edge_as_json(edge) for edge in shown.nudges],
        "events": [{"source": source, "message": message} for source, message in shown.told],
        "retries": list(shown.retries),
        "dead": list(shown.dead),
    }


def _edge_as_json(edge: Edge) -> dict[str, object]:
    return {"source": edge.source, "message": edge.message, "queues": list(edge.queues), "target": edge.target}
