"""The README's picture is what the command prints."""

from pathlib import Path

from ops import flow

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readme_shows_the_graph_as_the_command_draws_it() -> None:
    drawn = "\n".join(line.rstrip() for line in flow.draw(flow.graph()).splitlines())
    assert drawn in README.read_text(), "paste the output of `palomar flow` into the README"
