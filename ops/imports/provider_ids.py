"""Finds messages of a source that share a provider's id and are not one message: a source may write `unknown`
there, or the same number in every conversation. If they were joined, all of them but one would be lost."""

from collections.abc import Mapping

from shared.database import Connection
from shared.store.imports import joins
from shared.store.imports.joins import External, Message


async def of_others(connection: Connection, claims: Mapping[int, tuple[External, Message]]) -> list[int]:
    """Which of these, by their number, have an id that is another message's: of ours, or of one before them."""
    owners = await joins.by_external_id(connection, {external for external, _ in claims.values()})
    strangers = []
    for number in sorted(claims):
        external, message = claims[number]
        if not _is_one(owners.setdefault(external, message), message):
            strangers.append(number)
    return strangers


def _is_one(one: Message, other: Message) -> bool:
    """Same side, and same conversation or same text: a person may have two conversations with a channel."""
    if one.direction != other.direction:
        return False
    return one.conversation_id == other.conversation_id or one.content == other.content
