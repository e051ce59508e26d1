"""Files of contacts for the API's tests: sends them, and says what they led to."""

from typing import Any

from tests.support.api import Answer, ApiStage, Tenant

PATH = "/v1/contacts/import"
OUTCOMES = ("created", "updated", "unchanged", "refused")


async def send(api: ApiStage, whose: Tenant, file: bytes, kind: str = "text/csv", **rest: Any) -> Answer:
    """Send a file; `rest` is what is asked in the query, and `headers`."""
    headers = rest.pop("headers", {})
    return await api.request("POST", PATH, whose, data=file, params=rest, Content_Type=kind, **headers)


async def done(api: ApiStage, whose: Tenant, file: bytes, kind: str = "text/csv", **rest: Any) -> dict[str, Any]:
    """The import that this file led to."""
    answer = await send(api, whose, file, kind, **rest)
    assert answer.status == 200, answer.body
    imported: dict[str, Any] = answer.body["import"]
    assert imported["status"] == "completed"
    return imported


def many(rows: int, begin: int = 0) -> bytes:
    """A file of so many different people."""
    lines = (f"+3460{n:07},Person {n},person{n}@example.com\n" for n in range(begin, begin + rows))
    return b"phone,name,email\n" + "".join(lines).encode()


def counted(imported: dict[str, Any], *names: str) -> tuple[int, ...]:
    """These counts of an import."""
    return tuple(imported["counts"][name] for name in names)
