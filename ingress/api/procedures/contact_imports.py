"""contacts.import: a file of contacts, in CSV or NDJSON; how far it is, and which of its lines are wrong."""

from collections.abc import AsyncIterator
from typing import Any, Final

from pydantic import TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call, SentFile
from ingress.api.contact_import_models import (
    ContactImport,
    ContactImportAnswer,
    ContactImported,
    ContactImportPage,
    ImportContacts,
    ImportDefect,
    ImportId,
)
from ingress.api.declaration import Example, query, subscription, upload
from ingress.api.models import ListInput
from ingress.api.problems import (
    IDEMPOTENCY_MISMATCH,
    INVALID_INPUT,
    FieldError,
    Problem,
    invalid,
    not_found,
    pointer,
)
from ingress.api.procedures.contacts import EXAMPLE as ANA
from ingress.api.procedures.contacts import READ, WRITE
from ingress.api.procedures.groups import WRITE as GROUPS_WRITE
from shared.actions import contact_imports as imports
from shared.actions.contact_imports import Asked
from shared.actions.contact_uploads import Upload
from shared.domain import api_keys
from shared.domain.contact_files.defects import KINDS, Defect, FileRefused
from shared.domain.contact_files.rows import Format
from shared.store import contact_imports as store
from shared.store.newest_first import Position

FORMATS: Final[dict[str, Format]] = {
    "text/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
}
AT_ONCE: Final = 1_000  # lines of a report that are read together
_POSITION: Final = TypeAdapter(Position)

_ID: Final = "019ac2f0-9c3e-7d11-8a2b-6e5f4d3c2b1a"
_DONE: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": ANA["tenantId"],
    "status": "completed",
    "format": "csv",
    "defaultCountry": "MX",
    "existing": "update",
    "groupIds": ["019ac2f0-8a10-7b21-8f3e-5d1c2b3a4f5e"],
    "lines": 1001,
    "counts": {
        "rows": 1000,
        "created": 900,
        "updated": 80,
        "unchanged": 18,
        "refused": 2,
        "defects": 3,
        "memberships": 990,
        "groupsCreated": 1,
    },
    "createdAt": "2026-11-28T16:00:00Z",
    "updatedAt": "2026-11-28T16:00:02Z",
    "completedAt": "2026-11-28T16:00:02Z",
}


@upload(
    "contacts.import",
    scope=WRITE,
    takes=list(FORMATS),
    examples=[
        Example({"defaultCountry": "MX", "groups": ["Marketing List"]}, {"import": _DONE, "ignoredColumns": ["city"]})
    ],
)
async def import_(call: Call, given: ImportContacts, file: SentFile) -> ContactImported:
    """Import a file of contacts: CSV with a header, or NDJSON, of up to 1,000,000 rows. Only over REST.

    Columns, or members, are `phoneNumber`, `email`, `name`, `isActive` and `groups` (names, with `;` between them; in
    NDJSON a list); a row has a number, an e-mail address or both. Groups that are named are made, with a key that has
    the scope `groups:write`. The file is UTF-8; in CSV the delimiter is a comma, a semicolon or a tab.

    A row is of the contact that has its number, else its e-mail address. A deleted contact is restored. A row that is
    wrong costs no other row anything: contacts.importErrors lists them.

    An import that broke off goes on when the file is sent again, with the same Idempotency-Key or with `importId`: rows
    that are done have no second effect. contacts.importStatus says how far it is. Contacts are there from the moment
    that their rows are done, and each has its event.
    """
    format_ = FORMATS[file.content_type]
    asked = Asked(format_, given.default_country, given.existing, tuple(given.groups))
    may_group = api_keys.allows(call.caller.scopes, GROUPS_WRITE)
    if given.groups:
        call.caller.require(GROUPS_WRITE, operator=False)
    found = await _found(call, given, asked)
    if found is not None and found.status == "completed":
        return ContactImported(contact_import=ContactImport.of(found), ignored_columns=[])

    async def find() -> store.ContactImport:
        if found is not None:
            return found
        async with call.transaction() as connection:
            begun, is_new = await imports.begin(connection, call.tenant_id, asked, call.idempotency_key)
        if not is_new:
            _check_same(begun, asked)
        return begun

    running = Upload(format_, call.transaction, find, may_group=may_group)
    try:
        done = await running.run(file.chunks)
    except FileRefused as refused:
        error = FieldError(pointer("file"), refused.detail, refused.remedy)
        raise Problem(INVALID_INPUT, refused.detail, errors=[error]) from None
    return ContactImported(contact_import=ContactImport.of(done), ignored_columns=running.ignored)


@query("contacts.imports", scope=READ, examples=[Example({"limit": 1}, {"imports": [_DONE], "nextCursor": None})])
async def list_(call: Call, given: ListInput) -> ContactImportPage:
    """List imports, newest first."""
    after = cursors.position(call, given, _POSITION)
    rows = await store.page(call.connection, call.tenant_id, after, given.limit + 1)
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id))
    return ContactImportPage(imports=[ContactImport.of(row) for row in shown], next_cursor=next_cursor)


@query("contacts.importStatus", scope=READ, examples=[Example({"importId": _ID}, {"import": _DONE})])
async def status(call: Call, given: ImportId) -> ContactImportAnswer:
    """Say how far an import is, and what its rows have led to."""
    found = await store.get(call.connection, call.tenant_id, given.import_id)
    if found is None:
        raise not_found("import", "importId")
    return ContactImportAnswer(contact_import=ContactImport.of(found))


@subscription(
    "contacts.importErrors",
    scope=READ,
    examples=[
        Example(
            {"importId": _ID},
            {
                "line": 17,
                "field": "phoneNumber",
                "code": "phone_number",
                "detail": KINDS["phone_number"].detail,
                "remedy": KINDS["phone_number"].remedy,
                "refused": True,
            },
        )
    ],
    is_file=True,
)
async def errors(call: Call, given: ImportId) -> AsyncIterator[ImportDefect]:
    """List what is wrong with an import's lines, in the order of the file; at most 100,000, counts has how many.

    REST answers it as a file: GET `/v1/contacts/import-errors.csv` or `import-errors.ndjson`.
    """
    async with call.transaction() as connection:
        if await store.get(connection, call.tenant_id, given.import_id) is None:
            raise not_found("import", "importId")
    after: Defect | None = None
    while True:
        async with call.transaction() as connection:
            page = await store.defects(connection, call.tenant_id, given.import_id, after, AT_ONCE)
        for after in page:
            yield ImportDefect.of(after)
        if len(page) < AT_ONCE:
            return


async def _found(call: Call, given: ImportContacts, asked: Asked) -> store.ContactImport | None:
    """The import that this request goes on with; None: it begins one."""
    async with call.transaction() as connection:
        if given.import_id is None:
            key = call.idempotency_key
            found = None if key is None else await imports.with_key(connection, call.tenant_id, key)
            if found is not None:
                _check_same(found, asked)
            return found
        found = await store.get(connection, call.tenant_id, given.import_id)
    if found is None:
        raise not_found("import", "importId")
    for name, alias in (("default_country", "defaultCountry"), ("existing", "existing"), ("groups", "groups")):
        if name in given.model_fields_set:
            raise invalid(alias, "What was asked of the import holds.", "Leave it out where importId is given.")
    if found.options.format != asked.format:
        raise invalid("importId", f"This import is of {found.options.format}.", "Send the file as the first time.")
    return found


def _check_same(found: store.ContactImport, asked: Asked) -> None:
    if found.request_hash != asked.hash:
        raise Problem(IDEMPOTENCY_MISMATCH, "This Idempotency-Key came with other options. Take a new one.")
