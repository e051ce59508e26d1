"""palomar flow: the graph of queues and messages, drawn from what the processes declare."""

from typing import Annotated

import orjson
import typer

from ops import flow as graphs
from ops.errors import Problem
from shared.settings import settings


def flow(
    dot: Annotated[bool, typer.Option("--dot", help="for Graphviz: palomar flow --dot | dot -Tsvg > flow.svg")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="for a program")] = False,
) -> None:
    """Draw how messages flow. Nothing needs to run: the picture comes from the declarations, not from the broker."""
    if dot and as_json:
        raise Problem("--dot and --json are two answers to one question.", "Ask for one of them.")
    graph = graphs.graph(settings().retry_delays)
    if as_json:
        typer.echo(orjson.dumps(graphs.as_json(graph), option=orjson.OPT_INDENT_2))
    else:
        typer.echo(graphs.dot(graph) if dot else graphs.draw(graph))
