"""Reads a channel's opened credentials."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from shared.domain.field_errors import field_errors

C = TypeVar("C", bound=BaseModel)


def read_credentials(kind: type[C], credentials: str, provider: str) -> C:
    """The credentials, from their JSON. Raises ValueError that names each wrong field, and none of their values."""
    try:
        return kind.model_validate_json(credentials)
    except ValidationError as error:
        raise ValueError(f"{provider} credentials: {field_errors(error, 'JSON')}") from None
