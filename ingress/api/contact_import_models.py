"""What contacts.import and the procedures around it take and answer."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from ingress.api.models import Name, Output, Page, Part, TenantInput
from shared.domain.contact_files.defects import KINDS, Defect
from shared.domain.contact_files.merge import Existing
from shared.domain.contact_files.people import COUNTRIES
from shared.domain.contact_files.rows import Format
from shared.store import contact_imports as store


def _is_country(given: str) -> str:
    if given not in COUNTRIES:
        raise PydanticCustomError(
            "country", "It is no country", {"remedy": "Give the two letters of ISO 3166, such as MX."}
        )
    return given


Country = Annotated[str, StringConstraints(pattern="^[A-Z]{2}$"), AfterValidator(_is_country)]


class ImportCounts(Part):
    rows: int = Field(description="Of the file that are done; created, updated, unchanged and refused together.")
    created: int
    updated: int
    unchanged: int = Field(description="The contact was there, and had all that the row has.")
    refused: int
    defects: int = Field(description="What contacts.importErrors lists: of refused rows, and of others.")
    memberships: int = Field(description="Contacts that got into groups, once for each.")
    groups_created: int


class ContactImport(Part):
    """A file of contacts, and how far it is."""

    id: UUID
    tenant_id: UUID
    status: Literal["running", "completed"] = Field(
        description="running: or broken off. Send the file again, and it goes on."
    )
    format: Format
    default_country: str | None
    existing: Existing
    group_ids: list[UUID] = Field(description="Every contact of the file gets into these.")
    lines: int = Field(description="Of the file that are done.")
    counts: ImportCounts
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None

    @classmethod
    def of(cls, stored: store.ContactImport) -> "ContactImport":
        """The import of a row."""
        counts = stored.counts
        return cls(
            id=stored.id,
            tenant_id=stored.tenant_id,
            status="completed" if stored.status == "completed" else "running",
            format=stored.options.format,
            default_country=stored.options.default_country,
            existing=stored.options.existing,
            group_ids=list(stored.options.group_ids),
            lines=stored.lines,
            counts=ImportCounts(
                rows=counts.rows,
                created=counts.created,
                updated=counts.updated,
                unchanged=counts.unchanged,
                refused=counts.refused,
                defects=counts.defects,
                memberships=counts.memberships,
                groups_created=counts.groups_created,
            ),
            created_at=stored.created_at,
            updated_at=stored.updated_at,
            completed_at=stored.completed_at,
        )


class ContactImportAnswer(Output):
    contact_import: ContactImport = Field(alias="import")


class ContactImported(ContactImportAnswer):
    ignored_columns: list[str] = Field(description="Columns of the file that are no field of a contact.")


class ContactImportPage(Page):
    imports: list[ContactImport]


class ImportDefect(Output):
    """What is wrong with a line. It holds no value: the file has it."""

    line: int = Field(description="Of the file, from 1; the header is a line.")
    field: str | None = Field(description="null: the whole line.")
    code: str
    detail: str
    remedy: str
    refused: bool = Field(description="false: the rest of the line was imported.")

    @classmethod
    def of(cls, defect: Defect) -> "ImportDefect":
        kind = KINDS[defect.code]
        return cls(
            line=defect.line,
            field=defect.field,
            code=defect.code,
            detail=kind.detail,
            remedy=kind.remedy,
            refused=not kind.keeps_line,
        )


class ImportContacts(TenantInput):
    default_country: Country | None = Field(
        default=None, description="Of phone numbers without a country code, as ISO 3166 writes it.", examples=["MX"]
    )
    existing: Existing = Field(
        default="update",
        description="What becomes of contacts that are there. update: what a row has replaces what they have; fill: "
        "they get only what they lack; keep: they stay as they are.",
    )
    groups: list[Name] = Field(
        default_factory=list,
        max_length=20,
        description="Names of groups that every contact of the file gets into; made where none has the name.",
    )
    import_id: UUID | None = Field(
        default=None, description="Go on with this import. Send the same file; what else was asked of it holds."
    )


class ImportId(TenantInput):
    import_id: UUID
