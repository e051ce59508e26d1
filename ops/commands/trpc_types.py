"""palomar trpc-types: write router.d.ts, the types of the management API for tRPC's client."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from ingress.api.declaration import registry
from ingress.api.trpc.router_types import FILE, Version, router_types
from ops.errors import Problem

VERSIONS: Final[Mapping[int, Version]] = {10: 10, 11: 11}


def trpc_types(
    file: Annotated[Path, typer.Argument(help="where to; - prints it", allow_dash=True)] = Path(FILE),
    version: Annotated[int, typer.Option(help="of your @trpc/client: 10 or 11")] = 11,
) -> None:
    """Write the type AppRouter of all procedures: import it in TypeScript, and give it to createTRPCClient."""
    known = VERSIONS.get(version)
    if known is None:
        raise Problem(f"There are no types for version {version} of tRPC's client.", "Give --version 10 or 11.")
    text = router_types(registry(), known)
    if str(file) == "-":
        typer.echo(text, nl=False)
        return
    file.write_text(text, encoding="utf-8")
    typer.echo(f"Wrote {file}.")
