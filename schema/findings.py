"""Formats the findings of `verify` as a table for the terminal."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from schema.verify import Finding


def as_table(findings: Iterable[Finding]) -> Table:
    """A line for each check: ✓, or ✗ with what is wrong and what to do."""
    table = Table("", "of", "check", "what is wrong", "what to do")
    group = ""
    for finding in findings:
        if finding.check.group != group:
            if group:
                table.add_section()
            group = finding.check.group
        mark = Text("✓", style="green") if finding.ok else Text("✗", style="bold red")
        remedy = "" if finding.ok else finding.check.remedy
        table.add_row(mark, Text(group), Text(finding.check.name), Text(finding.detail), Text(remedy))
    return table


def verdict(findings: list[Finding]) -> str:
    """The last line."""
    failed = sum(not finding.ok for finding in findings)
    return f"{failed} of {len(findings)} checks failed." if failed else f"All {len(findings)} checks passed."
