"""Imports opt-outs: finds them in the messages of the old system, by the words that count here.

The ledger's entries are `import`, of the message's own time; no event is published."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from shared.database import Connection
from shared.domain import consents
from shared.domain.consents import DEFAULT_WORDS, Change, Words, phrase_of
from shared.domain.model import ChannelKind, InboundMessage
from shared.store import consents as ledger
from shared.store.consents import Entry
from shared.store.imports.rows import MessageRow


async def keep(connection: Connection, new: Sequence[MessageRow]) -> None:
    """Write what these messages, which were just stored, say of being written to. Costs nearly nothing for most."""
    short = [(row, row.received_at) for row in new if row.direction == "inbound" and phrase_of(row.content)]
    if not short:
        return
    contact_of = await ledger.contacts_of_conversations(
        connection, [(row.tenant_id, row.conversation_id) for row, _ in short]
    )
    words = {tenant: await _words(connection, tenant) for tenant in sorted({row.tenant_id for row, _ in short})}
    entries = []
    for row, at in short:
        if row.conversation_id in contact_of and at is not None:
            contact_id, kind = contact_of[row.conversation_id]
            change = said(row, kind, words[row.tenant_id])
            if change is not None and change.proven:
                entries.append(_entry(row, contact_id, kind, change, at))
    if entries:
        await ledger.add(connection, entries)


def said(row: MessageRow, kind: ChannelKind, words: Words) -> Change | None:
    """As a webhook's message would say it. What was no plain text may be a machine's word, and opts out at most; so
    does a mail, of whose author nothing is known any more."""
    message = InboundMessage(
        "", kind, (), "", row.message_type, text=row.content,
        authorship="unknown" if kind == "email" else "proven",
        wording="own" if row.message_type == "text" else "unclear",
    )  # fmt: skip
    return consents.consent_change(message, words)


def _entry(row: MessageRow, contact_id: UUID, kind: ChannelKind, change: Change, at: datetime) -> Entry:
    return Entry(
        tenant_id=row.tenant_id,
        contact_id=contact_id,
        channel_kind=kind,
        state=change.state,
        source="import",
        at=at,
        scope=change.scope,
        dedupe_key=f"said:{row.id}",
        message_id=row.id,
    )


async def _words(connection: Connection, tenant_id: UUID) -> Words:
    try:
        return consents.words_of(await ledger.settings(connection, tenant_id))
    except ValueError:  # written by SQL; the error is logged where channels are read
        return DEFAULT_WORDS
