"""Which column of a file is what, by the names that people and other systems give them. No I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.domain.contact_files.defects import FIELDS, MOST_COLUMNS, Field, FileRefused

# Without case, spaces and punctuation. What other systems call tags, labels or lists are groups here.
_NAMES: Final[Mapping[Field, tuple[str, ...]]] = {
    "phoneNumber": (
        "phonenumber", "phone", "mobile", "mobilephone", "cellphone", "cell", "telephone", "tel", "whatsapp",
        "whatsappnumber", "teléfono", "telefono", "celular", "móvil", "movil", "número", "numero", "number",
    ),
    "email": ("email", "emailaddress", "mail", "correo", "correoelectrónico", "correoelectronico"),
    "name": ("name", "fullname", "contactname", "displayname", "nombre", "nombrecompleto"),
    "isActive": ("isactive", "active", "activo"),
    "groups": ("groups", "group", "tags", "tag", "labels", "lists", "grupos", "grupo", "etiquetas"),
}  # fmt: skip
_FIELD_OF: Final[Mapping[str, Field]] = {name: field for field in FIELDS for name in _NAMES[field]}
_PUNCTUATION: Final = re.compile(r"[\s_.\-]+")


def field_of(name: str) -> Field | None:
    """The field that a column of this name holds; None for one that is not imported."""
    return _FIELD_OF.get(_PUNCTUATION.sub("", name.casefold())) if len(name) <= 100 else None


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file of CSV, in their order; None for one that is not imported."""

    fields: tuple[Field | None, ...]
    ignored: tuple[str, ...]  # the names of those

    @classmethod
    def of(cls, header: Sequence[str]) -> "Columns":
        """The columns that a header names. Raises FileRefused."""
        if len(header) > MOST_COLUMNS:
            raise FileRefused(f"The header has {len(header)} columns.", f"Leave at most {MOST_COLUMNS}.")
        fields = tuple(field_of(name) for name in header)
        for field in FIELDS:
            named = [name for name, one in zip(header, fields, strict=True) if one == field]
            if len(named) > 1:
                raise FileRefused(
                    f"The columns {' and '.join(named)} both hold {field}.",
                    "Rename the one that is not to be imported.",
                )
        if not {"phoneNumber", "email"} & set(fields):
            raise FileRefused(
                "No column is called phoneNumber or email.",
                "Begin the file with a line that names its columns, such as: phoneNumber,email,name,isActive,groups",
            )
        ignored = (name[:100] for name, field in zip(header, fields, strict=True) if field is None and name)
        return cls(fields, tuple(dict.fromkeys(ignored)))
