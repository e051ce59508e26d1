"""A tenant's people at work with SQL, as the replaced systems' users are used to."""

import pytest

from tests.schema.office import Office


@pytest.fixture
def office(database_url: str) -> Office:
    """A tenant with no channel yet."""
    return Office(database_url)
