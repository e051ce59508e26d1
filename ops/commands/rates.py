"""palomar rates: what providers charge for a message: load your price list, list it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ops import connections, rate_file, terminal
from ops.errors import Problem
from shared.database import Connection
from shared.domain.campaigns.prices import Rate
from shared.settings import settings
from shared.store import message_rates

MOST_SHOWN = 20  # mistakes or changes that are printed

app = typer.Typer(no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class _Changes:
    """What a file changes in the price list."""

    added: list[Rate]
    changed: list[tuple[Rate, Rate]]  # before, after
    removed: list[Rate]
    unchanged: int


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="CSV, as docs/costs.md describes it", metavar="FILE", dir_okay=False)],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="remove the prices of the file's providers and channels that are not in it"),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would change, and change nothing")] = False,
) -> None:
    """Load prices: all of the file, or none where a line is wrong. A price for the same of the same day is replaced.

    Messages that have their cost keep it.
    """
    try:
        rates = rate_file.read(file.read_bytes())
    except OSError as error:
        raise Problem(f"{file} can't be read: {error.strerror}.", "Give the path of a CSV file.") from None
    except rate_file.FileRefused as refused:
        shown = [str(one) for one in refused.mistakes[:MOST_SHOWN]]
        more = len(refused.mistakes) - len(shown)
        rest = [f"and {more} more"] if more else []
        raise Problem("\n".join((*shown, *rest)), "Nothing is loaded. Correct the file, and run this again.") from None

    async def session() -> _Changes:
        async with connections.database(settings(), "rates") as pool, connections.transaction(pool) as connection:
            return await _load(connection, rates, replace=replace, dry_run=dry_run)

    _show(connections.run(session()), dry_run=dry_run)


@app.command("list")
def list_(
    provider: Annotated[str | None, typer.Option(help="of this provider alone")] = None,
    market: Annotated[str | None, typer.Option(help="of this market alone: MX, +1787, *")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="as a file that load reads")] = False,
) -> None:
    """List the prices, also those of days to come."""

    async def session() -> list[Rate]:
        async with connections.database(settings(), "rates") as pool, pool.acquire() as connection:
            return await message_rates.every(connection)

    rates = [
        one
        for one in connections.run(session())
        if provider in (None, one.provider) and (market is None or market.upper() == one.market)
    ]
    if as_csv:
        typer.echo(rate_file.written(rates), nl=False)
        return
    if not rates:
        typer.echo("No prices are loaded. Without them costs are counted, and have no amount: docs/costs.md.")
        return
    table = Table()
    for heading in ("provider", "channel", "market", "category", "price", "currency", "valid from"):
        table.add_column(heading, overflow="fold")
    for one in rates:
        table.add_row(
            terminal.plain(one.provider),
            one.kind,
            one.market,
            one.category,
            f"{one.price:f}",
            one.currency,
            f"{one.valid_from}",
        )
    terminal.console().print(table)


async def _load(connection: Connection, rates: Sequence[Rate], *, replace: bool, dry_run: bool) -> _Changes:
    """Write the prices, or only compare them. Raises Problem where a provider's would be in two currencies."""
    await message_rates.lock(connection)
    before = {rate_file.key(one): one for one in await message_rates.every(connection)}
    after = {rate_file.key(one): one for one in rates}
    listed = {(one.provider, one.kind) for one in rates}
    gone = [one for key, one in before.items() if replace and key not in after and (one.provider, one.kind) in listed]
    left = {key: one for key, one in before.items() if one not in gone}
    if (reason := rate_file.one_currency(list({**left, **after}.values()))) is not None:
        raise Problem(reason, "Write all of them in one currency. To change it, load the whole list with --replace.")
    changes = _Changes(
        added=[one for key, one in after.items() if key not in before],
        changed=[(before[key], one) for key, one in after.items() if key in before and before[key] != one],
        removed=gone,
        unchanged=sum(1 for key, one in after.items() if before.get(key) == one),
    )
    if not dry_run:
        await message_rates.delete(connection, gone)
        await message_rates.write(connection, [*changes.added, *(now for _, now in changes.changed)])
    return changes


def _show(changes: _Changes, *, dry_run: bool) -> None:
    lines = [
        *(f"+ {_named(one)}: {_priced(one)}" for one in changes.added),
        *(f"~ {_named(now)}: {_priced(before)} → {_priced(now)}" for before, now in changes.changed),
        *(f"- {_named(one)}: {_priced(one)}" for one in changes.removed),
    ]
    for line in lines[:MOST_SHOWN]:
        typer.echo(line)
    if len(lines) > MOST_SHOWN:
        typer.echo(f"… and {len(lines) - MOST_SHOWN} more")
    counts = f"{len(changes.added)} added, {len(changes.changed)} changed, {len(changes.removed)} removed"
    typer.echo(f"{'Would be' if dry_run else 'Loaded'}: {counts}, {changes.unchanged} as before.")


def _named(rate: Rate) -> str:
    return f"{rate.provider} {rate.kind} {rate.market} {rate.category} from {rate.valid_from}"


def _priced(rate: Rate) -> str:
    return f"{rate.price:f} {rate.currency}"
