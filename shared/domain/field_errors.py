"""Says what is wrong with data that pydantic refused: each wrong field and what it takes, without its value."""

from typing import Final

from pydantic import ValidationError

MOST: Final = 5  # fields that a sentence names; a stranger's data may have thousands that are wrong


def field_errors(error: ValidationError, whole: str = "all") -> str:
    """`field: what it takes` of the first wrong fields. `whole` stands for a field where the data itself is wrong."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[:MOST]
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or whole}: {one['msg']}" for one in found)
