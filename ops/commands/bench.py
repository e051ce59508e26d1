"""palomar bench: how fast we are, as ratios to the bare floor measured in the same run.

Rows: `ingress` (signed webhooks/s acknowledged), `persist` (webhooks/s committed), `path` (webhook in → provider call
out), `isolation` (sends through one provider while every call of another one hangs), `api` (calls of the management
API/s), `live` (events/s to 2,000 WebSockets), `webhooks` (deliveries/s to 200 tenants' webhooks, and while a fifth of
them hang) and, asked for by name because they take long, `import` (contacts of a
file a second), `growth` (ten million messages stored, against an empty database), `lists` (pages of the API's lists
of a million contacts and ten million messages, against those of a thousand), `campaign` (freezing its recipients,
how exactly it keeps its channel's rate, and what the replies beside it wait) and `peers` (whole conversations against
the same job built with FastStream, and in one handler; and what becomes of webhooks while processes are killed).
Floor and ours run in turn, each ratio is the median of the rounds', and the goals are DESIGN.md's. The programs are in
tests/bench; they run on a broker and a database of their own in `.palomar/bench`.
"""

from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.table import Table

from ops import terminal
from ops.errors import Problem
from tests.bench import driver, figures

ROWS = ", ".join(driver.ROWS)


def bench(
    rows: Annotated[
        list[str] | None,
        typer.Argument(help=f"{ROWS}; all but {', '.join(driver.BY_NAME_ONLY)} where left out", metavar="[ROW]..."),
    ] = None,
    file: Annotated[Path, typer.Option("--json", help="everything that was measured, every round")] = Path(
        ".palomar/bench.json"
    ),
    rounds: Annotated[
        int | None, typer.Option(min=1, help="of each row, after one to warm up", show_default="5, of peers 3")
    ] = None,
) -> None:
    """Measure, print and write; exit code 1 where a goal is not reached. Takes about two minutes a row."""
    unknown = [row for row in rows or () if row not in driver.ROWS]
    if unknown:
        raise Problem(f"There is no row {unknown[0]!r}.", f"There are: {ROWS}.")
    with terminal.progress() as bar:

        def begin(row: str, rounds: int) -> figures.Advance:
            task = bar.add_task(row, total=rounds + 1)
            return lambda: bar.advance(task)

        report = driver.run(rows or [row for row in driver.ROWS if row not in driver.BY_NAME_ONLY], rounds, begin)
    report.write(file)
    tell = terminal.console().print
    tell(_figures(report))
    if any(result.peaks for result in report.results):
        tell(_memory(report))
    for result in report.results:
        for table in result.tables:
            tell(_shown_table(table))
        tell(f"{result.row}: {result.how}")
    tell(f"{report.machine['cores']} cores, load {report.machine['load']} at the start. Every round: {file}")
    if report.missed:
        raise Problem("\n".join(["Not reached:", *report.missed]), "On a busy machine measure again; else it is us.")


def _figures(report: driver.Report) -> Table:
    table = Table(title="ours against the floor, medians of the rounds", title_justify="left")
    for heading in ("row", "figure", "floor", "ours", "ratio", "goal", "reached"):
        table.add_column(heading, justify="right" if heading in ("floor", "ours", "ratio") else "left")
    for result in report.results:
        for one in result.measures:
            table.add_row(
                one.row,
                one.name,
                _shown(median(one.floor), one.unit),
                _shown(median(one.ours), one.unit),
                f"{one.ratio:.2f}",
                str(one.goal),
                _verdict(one.reached),
            )
    return table


def _memory(report: driver.Report) -> Table:
    goal = figures.MEMORY_GOAL // 1024**2
    table = Table(title=f"peak memory of each process, goal {goal} MB", title_justify="left")
    for heading in ("row", "process", "MB", "reached"):
        table.add_column(heading, justify="right" if heading == "MB" else "left")
    for result in report.results:
        for peak in result.peaks:
            if peak.ours:
                shown = "not known" if peak.bytes is None else f"{peak.bytes / 1024**2:.0f}"
                table.add_row(peak.row, peak.process, shown, _verdict(peak.reached))
    return table


def _shown_table(given: figures.Table) -> Table:
    table = Table(title=given.title, title_justify="left")
    for column in given.columns:
        table.add_column(column)
    for row in given.rows:
        table.add_row(*row)
    return table


def _shown(value: float, unit: str) -> str:
    return f"{value:,.0f}/s" if unit == "/s" else f"{value:.1f} {unit}"


def _verdict(reached: bool) -> str:
    return "yes" if reached else "NO"
