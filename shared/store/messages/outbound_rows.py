"""A message to send as its row holds it: the columns to read, and how they are read and written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from shared.domain.message_form import PLAIN, Form, form_of
from shared.domain.model import ConsentScope, Media, Template, Thread
from shared.domain.window import Policy
from shared.queue.jobs import Lane, SendReady
from shared.store.consents import STOPPED_BY


def media_json(part: Media) -> dict[str, str]:
    """A file as it is stored in `media`."""
    facts = {
        "url": part.url,
        "id": part.id,
        "mime_type": part.mime_type,
        "filename": part.filename,
        "sha256": part.sha256,
    }
    return {name: value for name, value in facts.items() if value is not None}


def media_of(part: Mapping[str, str]) -> Media:
    """The facts of a file that we can send; a row that came by SQL may have others."""
    return Media(part.get("url"), part.get("id"), part.get("mime_type"), part.get("filename"))


def template_json(template: Template | None) -> dict[str, Any] | None:
    """A template as it is stored in `template` and `sent_as`."""
    if template is None:
        return None
    return {"name": template.name, "variables": dict(template.variables), "language": template.language}


def template_of(raw: Mapping[str, Any] | None) -> Template | None:
    """The inverse of `template_json`."""
    return None if raw is None else Template(raw["name"], raw["variables"], raw.get("language"))


@dataclass(frozen=True, slots=True)
class CallAddresses:
    """Recipient and sender address of the last call. `as_of`: the channel's updated_at then, which shows whether its
    address and credentials have changed since."""

    recipient: str
    address: str
    as_of: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """A message with all that deciding on it and sending it needs. The defaults are those of one that is not queued
    yet."""

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    channel_id: UUID
    status: str = "queued"
    lane: Lane = "normal"
    content: str
    media: tuple[Media, ...] = ()
    form: Form = PLAIN
    template: Template | None = None
    sent_as: Template | None = None
    window_policy: Policy | None = None
    window_refused_at: datetime | None = None
    attempts: int = 0
    created_at: datetime
    admitted_at: datetime | None = None
    claimed_at: datetime | None = None
    unknown_at: datetime | None = None
    absent_at: datetime | None = None
    called: CallAddresses | None = None
    expires_at: datetime | None = None
    not_before: datetime | None = None
    recipient: str
    contact_name: str | None
    last_user_message_at: datetime | None
    now: datetime  # PostgreSQL's clock
    stopped_by: ConsentScope | None = None  # the opt-out that keeps it from leaving
    by_engine: bool = False  # made by an engine, not by a person
    thread: Thread | None = None  # of a mail: what it answers
    campaign_status: str | None = None  # of the campaign that it is a message of, `deleted` too; None: of none


OUTBOUND_COLUMNS = f"""
m.id, m.tenant_id, m.conversation_id, m.channel_id, m.status, m.lane, m.content, m.media, m.metadata, m.template,
m.sent_as, m.window_policy, m.window_refused_at, m.attempts, m.created_at, m.admitted_at, m.claimed_at, m.unknown_at,
m.absent_at, m.called_to, m.called_from, m.called_as_of, m.expires_at, m.not_before,
c.recipient, c.contact_name, c.last_user_message_at, {STOPPED_BY} AS stopped_by, clock_timestamp() AS now,
CASE WHEN m.provider = 'email' THEN (
    SELECT jsonb_build_object('thread', i.metadata -> 'thread', 'subject', i.metadata -> 'subject') FROM messages i
    WHERE i.tenant_id = m.tenant_id AND i.conversation_id = m.conversation_id AND i.role = 'user'
    ORDER BY i.created_at DESC LIMIT 1
) END AS answered,
CASE WHEN m.campaign_recipient_id IS NOT NULL THEN coalesce((
    SELECT CASE WHEN k.deleted_at IS NULL THEN k.status ELSE 'deleted' END
    FROM campaign_recipients r JOIN campaigns k ON k.tenant_id = r.tenant_id AND k.id = r.campaign_id
    WHERE r.tenant_id = m.tenant_id AND r.id = m.campaign_recipient_id
), 'deleted') END AS campaign_status
"""


def send_job(message: Outbound, provider: str) -> SendReady:
    """The job that sends the message through this provider."""
    return SendReady(
        tenant_id=message.tenant_id,
        channel_id=message.channel_id,
        conversation_id=message.conversation_id,
        message_id=message.id,
        provider=provider,
        lane=message.lane,
    )


def outbound_of(row: asyncpg.Record) -> Outbound:
    """The message that a row of OUTBOUND_COLUMNS holds."""
    return Outbound(
        id=row["id"],
        tenant_id=row["tenant_id"],
        conversation_id=row["conversation_id"],
        channel_id=row["channel_id"],
        status=row["status"],
        lane=row["lane"],
        content=row["content"],
        media=tuple(media_of(part) for part in row["media"]),
        form=form_of(row["metadata"]),
        template=template_of(row["template"]),
        sent_as=template_of(row["sent_as"]),
        window_policy=row["window_policy"],
        window_refused_at=row["window_refused_at"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        admitted_at=row["admitted_at"],
        claimed_at=row["claimed_at"],
        unknown_at=row["unknown_at"],
        absent_at=row["absent_at"],
        called=_called(row),
        expires_at=row["expires_at"],
        not_before=row["not_before"],
        recipient=row["recipient"],
        contact_name=row["contact_name"],
        last_user_message_at=row["last_user_message_at"],
        stopped_by=row["stopped_by"],
        now=row["now"],
        by_engine=isinstance(row["metadata"], Mapping) and "engine" in row["metadata"],
        thread=thread_of(row["answered"]),
        campaign_status=row["campaign_status"],
    )


def _called(row: asyncpg.Record) -> CallAddresses | None:
    """None where it was never claimed, or only by a version that did not record this."""
    if row["called_to"] is None:
        return None
    return CallAddresses(row["called_to"], row["called_from"], row["called_as_of"])


def thread_of(answered: object) -> Thread | None:
    """The thread that a mail answers, by the customer's newest message; None where they never wrote one."""
    thread = answered.get("thread") if isinstance(answered, Mapping) else None
    if not isinstance(answered, Mapping) or not isinstance(thread, Mapping):
        return None
    message_id, references, subject = thread.get("message_id"), thread.get("references"), answered.get("subject")
    return Thread(
        message_id if isinstance(message_id, str) else "",
        tuple(one for one in references if isinstance(one, str)) if isinstance(references, list) else (),
        subject if isinstance(subject, str) else "",
    )
