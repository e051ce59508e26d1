"""The bases of all inputs and outputs, and the types of their fields: camelCase, strict, bounded.

An input takes JSON's own types and nothing that merely looks like one; a field that it does not know is refused. The
same models give OpenAPI, the reference page and the TypeScript types.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from shared.domain import addresses

MOST_ROWS: Final = 200  # of one page

_SHARED: Final = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True)


class Input(BaseModel):
    """What a procedure is given. Operators' procedures take this one, all others a TenantInput."""

    model_config = ConfigDict(**_SHARED, strict=True)


class TenantInput(Input):
    """What a tenant's procedure is given."""

    tenant_id: UUID | None = Field(
        default=None,
        description="The tenant; may be left out, for the key says it. Another tenant's is answered NOT_FOUND. "
        "An operator's key names the tenant here.",
    )


class PageInput(Input):
    """Which page of a list. An operator's procedure that lists takes this one, all others a ListInput."""

    limit: int = Field(default=50, ge=1, le=MOST_ROWS, description="The most rows of the page.")
    cursor: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="The `nextCursor` of the page before, with the same filters. Left out: the first page.",
    )


class ListInput(PageInput, TenantInput):
    """What a procedure that lists is given: which page, and in a class of its own the filters."""


class Part(BaseModel):
    """An object within an output, such as a contact."""

    CHANGE_APART: ClassVar[tuple[str, ...]] = ()  # members that change without `updated_at`: see answers.py

    model_config = ConfigDict(**_SHARED, validate_by_name=True, validate_by_alias=True)


class Output(Part):
    """What a procedure answers: an object with named members."""


class Tracked(Output):
    """An item of a subscription that a client may resume after. Its subclass adds the member `data`."""

    id: str = Field(min_length=1, description="Give it as `lastEventId` to go on after this item.")


class Page(Output):
    """A page of a list. Its other member holds the rows."""

    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null: this was the last one.")


def as_object(stored: object) -> dict[str, Any]:
    """A JSON object from a row; an empty one where a tenant's SQL session wrote another kind of value."""
    return dict(stored) if isinstance(stored, Mapping) else {}


def _is_phone_number(given: str) -> str:
    found = addresses.phone(given)
    if found is None or not found.given.startswith("+"):
        raise PydanticCustomError(
            "phone_number", "It is no phone number", {"remedy": "Write it in international form: +14155238886."}
        )
    return found.given


def _is_storable(given: datetime) -> datetime:
    if not 2 <= given.year <= 9998:
        raise PydanticCustomError("moment", "The year is out of bounds", {"remedy": "Give a year from 2 to 9998."})
    return given.astimezone(UTC)


PhoneNumber = Annotated[
    str,
    StringConstraints(min_length=3, max_length=64),
    AfterValidator(_is_phone_number),
    Field(description="In international form; stored in E.164.", examples=["+14155238886"]),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Moment = Annotated[AwareDatetime, AfterValidator(_is_storable), Field(examples=["2026-11-28T16:00:00Z"])]
