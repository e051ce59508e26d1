"""palomar topology: processes, queues and messages, from what the processes declare."""

from typing import Annotated

import orjson
import typer

from ops import topology as graphs
from ops.errors import Problem
from shared.settings import settings


def topology(
    mermaid: Annotated[bool, typer.Option("--mermaid", help="as a Mermaid flowchart, for Markdown")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="for a program")] = False,
) -> None:
    """Show how messages flow. Nothing needs to run: the graph comes from the declarations, not from the broker."""
    if mermaid and as_json:
        raise Problem("--mermaid and --json are two answers to one question.", "Ask for one of them.")
    graph = graphs.graph(settings().retry_delays)
    if as_json:
        typer.echo(orjson.dumps(graphs.as_json(graph), option=orjson.OPT_INDENT_2))
    else:
        typer.echo(graphs.mermaid(graph) if mermaid else graphs.listed(graph))
