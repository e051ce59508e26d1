"""`palomar test`: when the tests run in several processes."""

import pytest

from ops.commands.test import PROCESSES, beside

SEVERAL = ["--numprocesses", str(PROCESSES), "--dist", "worksteal"]


@pytest.mark.parametrize("arguments", ["", "tests/workers", "tests/flow tests/unit -k window", "-x --durations=5 -q"])
def test_folders_run_in_several_processes(arguments: str) -> None:
    assert beside(arguments.split()) == SEVERAL


@pytest.mark.parametrize(
    "arguments",
    ["tests/unit/test_a.py", "tests/test_a.py::test_x -q", "tests/a.py tests/b.py", "--pdb", "-n 0", "-n2", "-s tests"],
)  # fmt: skip
def test_named_files_and_whoever_decides_it_run_as_asked(arguments: str) -> None:
    assert beside(arguments.split()) == []
