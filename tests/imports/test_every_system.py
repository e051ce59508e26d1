"""What holds for an import of any system: once is enough, twice is harmless, killed is not lost, the source is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest

from ops.local.stack import Stack
from tests.imports import layouts
from tests.imports.importing import (
    Ours,
    SourceDatabase,
    another_database,
    counts,
    furnish,
    killed_midway,
    moved,
    source_database,
)

Counts = dict[str, tuple[int, int, int, int, int]]


@dataclass(frozen=True)
class Case:
    """A system with a source of its kind. `counts` by table: source, ours, new, already there, skipped."""

    name: str
    statements: str
    counts: Counts
    row: UUID  # of messages, about in the middle
    to_shop: bool = True

    def arguments(self, source: SourceDatabase) -> tuple[str, ...]:
        return (self.name, "--from", source.url, "--batch", "50", *(("--tenant", "Shop") if self.to_shop else ()))


_KOMMO: Counts = {"kommo_conversations": (116, 115, 114, 1, 1), "kommo_messages": (448, 445, 445, 0, 3)}
_KOMMO_ROW = UUID("00000000-0000-4000-9000-000000000552")
CASES = (
    Case("kommo", layouts.KOMMO, _KOMMO, _KOMMO_ROW),
    Case("kommo-twilio", layouts.KOMMO, _KOMMO, _KOMMO_ROW),
    Case(
        "distributors",
        layouts.DISTRIBUTORS,
        {
            "distributors": (2, 2, 2, 0, 0),
            "customers": (123, 122, 121, 1, 1),
            "conversations": (123, 122, 122, 0, 1),
            "messages": (365, 364, 363, 1, 1),
        },
        UUID("00000000-0000-4000-9000-000000000602"),
        to_shop=False,
    ),
    Case(
        "whatsapp-module",
        layouts.WHATSAPP_MODULE,
        {
            "whatsapp_settings": (2, 2, 2, 0, 0),
            "whatsapp_sessions": (92, 92, 91, 1, 0),
            "whatsapp_messages": (363, 363, 363, 0, 0),
        },
        UUID("00000000-0000-4000-9000-000000000452"),
    ),
    Case(
        "campaigns",
        layouts.CAMPAIGNS,
        {
            "contacts": (103, 103, 102, 1, 0),
            "groups": (2, 2, 2, 0, 0),
            "group_contacts": (103, 102, 101, 1, 1),
            "message_templates": (1, 1, 1, 0, 0),
            "campaigns": (3, 3, 3, 0, 0),
            "campaign_recipients": (152, 151, 150, 1, 1),
            "messages_history": (304, 302, 301, 1, 2),
            "webhooks": (2, 1, 1, 0, 1),
            "webhook_logs": (40, 20, 20, 0, 20),
        },
        UUID("b0000000-0000-4000-8000-000000000502"),
        to_shop=False,
    ),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture
def source(stack: Stack, case: Case) -> Iterator[SourceDatabase]:
    with source_database(stack, case.statements) as made:
        yield made


def test_all_of_it_arrives_once_and_again_changes_nothing(
    environment: dict[str, str], source: SourceDatabase, case: Case
) -> None:
    furnish(environment)
    ours = Ours(environment)
    bystander, there = ours.of_bystander(), source.checksum()

    output = moved(environment, *case.arguments(source))

    assert counts(output) == case.counts
    assert "✗" not in output
    stored = ours.everything()
    again = counts(moved(environment, *case.arguments(source)))
    assert again == {table: (of, here, 0, here, skipped) for table, (of, here, _, _, skipped) in case.counts.items()}
    assert ours.everything() == stored
    assert ours.of_bystander() == bystander
    assert source.checksum() == there, "the source was only read"
    assert ours.rows("SELECT * FROM import_progress") == [], "nothing is left to go on with"


def test_nothing_that_was_imported_is_ever_due(environment: dict[str, str], source: SourceDatabase, case: Case) -> None:
    furnish(environment)
    moved(environment, *case.arguments(source))

    ours = Ours(environment)
    due = "messages WHERE due_at IS NOT NULL OR status NOT IN ('received', 'sent', 'delivered', 'read', 'failed')"
    assert ours.value(f"SELECT count(*) FROM {due}") == 0
    owed = "conversations WHERE reply_due_at IS NOT NULL OR answered_count <> user_message_count"
    assert ours.value(f"SELECT count(*) FROM {owed}") == 0
    assert (
        ours.value("SELECT count(*) FROM campaigns WHERE due_at IS NOT NULL OR status IN ('scheduled', 'running')") == 0
    )
    assert ours.value("SELECT count(*) FROM webhook_logs WHERE due_at IS NOT NULL OR success IS NULL") == 0
    assert ours.value("SELECT count(*) FROM events") == 0, "what happened long ago is no event"


def test_killed_in_the_middle_it_goes_on_to_the_same_end(
    stack: Stack, template: str, environment: dict[str, str], source: SourceDatabase, case: Case
) -> None:
    furnish(environment)
    killed_midway(environment, *case.arguments(source), table="messages", row=case.row)
    ours = Ours(environment)
    before = ours.value("SELECT count(*) FROM messages")
    assert 0 < before < sum(row[2] for row in case.counts.values())

    output = moved(environment, *case.arguments(source))

    assert "going on at" in output
    assert counts(output) == case.counts, "counted as if nothing had happened"
    with another_database(stack, template, environment) as undisturbed:
        furnish(undisturbed)
        moved(undisturbed, *case.arguments(source))
        assert ours.essence() == Ours(undisturbed).essence()
