"""Queues an approved template to a conversation, with its event."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from shared.actions.messages import NotQueued, check_reachable
from shared.database import Connection
from shared.domain import consents
from shared.queue.jobs import SendRequested
from shared.store import conversation_records, templates
from shared.store.events import Event, record
from shared.store.messages import outbound, records
from shared.store.messages.records import MessageRecord

_FIELD: Final = re.compile(r"(template|variables|language)[ .:]")


class TemplateRefused(Exception):
    """The template, its variables or its language are not right: `field` says which, `reason` and `remedy` why."""

    def __init__(self, field: str, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class NewTemplateMessage:
    """A template to queue, named as in `templates.queue_template_message`. `cause`: as NewText's."""

    tenant_id: UUID
    conversation_id: UUID
    template: str
    variables: Mapping[str, str]
    language: str | None
    cause: str  # 1 to 255 characters


async def queue(
    connection: Connection, message: NewTemplateMessage, handoff: timedelta
) -> tuple[MessageRecord, SendRequested | None]:
    """Queue a template in a transaction of its tenant; returns its message, and the job to publish after the commit.

    The job is None where it was queued before. Raises NotQueued and TemplateRefused, after which the transaction has to
    be rolled back.
    """
    to = await conversation_records.lock_to_send(connection, message.tenant_id, message.conversation_id)
    if to is None:
        raise NotQueued("conversation", "There is no such conversation.")
    before = await records.by_cause(connection, message.tenant_id, f"template:{message.cause}")
    if before is not None:
        if before.conversation_id != message.conversation_id or not await _is_same(connection, before, message):
            raise NotQueued("cause", "This request has queued another message before.")
        return before, None
    check_reachable(to)
    message_id = await _queued(connection, message)
    (queued,), _ = await outbound.lock_queued(connection, [(message.tenant_id, message_id)], wait=True)
    if queued.stopped_by is not None:  # by its category too, which the template's row says
        raise NotQueued("opted_out", f"Nothing leaves: {consents.REASONS[queued.stopped_by]}.")
    # As of any other message whose job is published: due again a handoff lease later.
    await outbound.postpone(connection, message.tenant_id, message_id, handoff, of=("queued",))
    await record(
        connection, Event("message.queued", message.tenant_id, to.channel_id, message.conversation_id, message_id)
    )
    found = await records.get(connection, message.tenant_id, message_id)
    assert found is not None, "it has just been inserted"
    job = SendRequested(
        tenant_id=message.tenant_id,
        channel_id=to.channel_id,
        conversation_id=message.conversation_id,
        message_id=message_id,
    )
    return found, job


async def _is_same(connection: Connection, before: MessageRecord, message: NewTemplateMessage) -> bool:
    """Whether a message that was queued for the same cause is of the same template, with the same variables."""
    stored = before.template or {}
    return (
        stored.get("variables") == dict(message.variables)
        and message.language in (None, stored.get("language"))
        and stored.get("name") in await templates.names(connection, message.tenant_id, message.template)
    )


async def _queued(connection: Connection, message: NewTemplateMessage) -> UUID:
    try:
        return await templates.queue_template_message(
            connection,
            message.conversation_id,
            message.template,
            message.variables,
            language=message.language,
            dedupe_key=message.cause,
        )
    except asyncpg.FeatureNotSupportedError as error:
        raise NotQueued("channel", f"{_sentence(error)} Templates are sent through Twilio and Meta.") from None
    except asyncpg.InvalidParameterValueError as error:
        found = _FIELD.match(str(error))
        remedy = str(getattr(error, "hint", None) or "Compare it with messageTemplates.list.")
        raise TemplateRefused(found[1] if found else "template", _sentence(error), remedy) from None


def _sentence(error: asyncpg.PostgresError) -> str:
    """The first line of an error of our own function, as a sentence."""
    return f"{str(error).splitlines()[0].rstrip('.')}."
