"""The README's picture is what the command prints."""

from pathlib import Path

from ops import topology

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readme_shows_the_graph_as_the_command_prints_it() -> None:
    chart = topology.mermaid(topology.graph())
    assert f"```mermaid\n{chart}\n```" in README.read_text(), "paste `palomar topology --mermaid` into the README"
