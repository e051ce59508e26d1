"""palomar openapi: the OpenAPI 3.1 document of the management API, as /openapi.json serves it."""

from pathlib import Path
from typing import Annotated

import orjson
import typer

from ingress.api.declaration import registry
from ingress.api.reference.openapi import document
from ops.errors import Problem


def openapi(
    file: Annotated[Path | None, typer.Argument(help="where to write it; printed where left out")] = None,
) -> None:
    """Write the document. Nothing needs to run: it comes from the procedures' declarations."""
    text = orjson.dumps(document(registry().values()), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        file.write_bytes(text)
    except OSError as error:
        raise Problem(f"{file} can't be written: {error.strerror}.", "Name a file in a folder that is there.") from None
    typer.echo(f"Wrote {file}.")
