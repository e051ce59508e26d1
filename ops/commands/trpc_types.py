"""palomar trpc-types: write router.d.ts, the types of the management API for tRPC's client."""

from pathlib import Path
from typing import Annotated

import typer

from ingress.api.declaration import registry
from ingress.api.trpc.router_types import FILE, router_types


def trpc_types(
    file: Annotated[Path, typer.Argument(help="where to; - prints it", allow_dash=True)] = Path(FILE),
) -> None:
    """Write the type AppRouter of all procedures: import it in TypeScript, and give it to createTRPCClient."""
    text = router_types(registry())
    if str(file) == "-":
        typer.echo(text, nl=False)
        return
    file.write_text(text, encoding="utf-8")
    typer.echo(f"Wrote {file}.")
