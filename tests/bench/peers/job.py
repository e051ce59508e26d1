"""The job of both peers: their tables, the check of a webhook, the answer by the rules, and the call of Twilio's API.

The statements are those of a careful team with asyncpg: one transaction for all that a webhook changes, keys against
duplicates, indexes for what is read. DATABASE_URL, TWILIO_API_URL.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import asyncpg
from pydantic import BaseModel
from twilio.request_validator import RequestValidator

from ops.demo.channel import SETTINGS
from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN
from shared.bot.base import Turn
from shared.bot.rules import decide
from shared.domain.channels import ReplySettings

TABLES: Final = """
CREATE TABLE IF NOT EXISTS contacts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    phone text NOT NULL UNIQUE,
    name text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS conversations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contact_id bigint NOT NULL REFERENCES contacts,
    provider text NOT NULL,
    address text NOT NULL,
    status text NOT NULL DEFAULT 'active',
    last_message_at timestamptz NOT NULL DEFAULT now(),
    last_user_message_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (contact_id, provider)
);
CREATE TABLE IF NOT EXISTS messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation_id bigint NOT NULL REFERENCES conversations,
    role text NOT NULL,
    body text NOT NULL,
    status text NOT NULL,
    provider_sid text UNIQUE,
    answers bigint UNIQUE REFERENCES messages,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz
);
CREATE INDEX IF NOT EXISTS messages_of_conversation ON messages (conversation_id, id);
"""
CONNECTIONS: Final = 10
HISTORY: Final = 20  # messages that the rules look at
RULES: Final = ReplySettings.model_validate(SETTINGS["reply"])
ACKNOWLEDGEMENT: Final = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
_SEND_TIMEOUT: Final = aiohttp.ClientTimeout(total=15)  # seconds

_validator = RequestValidator(AUTH_TOKEN)


class Inbound(BaseModel):
    """A customer's message, as its webhook tells it."""

    sid: str
    sender: str
    to: str
    name: str | None = None
    body: str = ""


class Answer(BaseModel):
    """An answer that is stored and is to be sent."""

    message_id: int
    to: str
    sender: str
    body: str


def read(url: str, form: Mapping[str, str], signature: str) -> Inbound | None:
    """The message of a webhook; None where Twilio did not sign it. `url` is the one that Twilio calls."""
    if not _validator.validate(url, form, signature):
        return None
    return Inbound(
        sid=form["MessageSid"],
        sender=form["From"],
        to=form["To"],
        name=form.get("ProfileName"),
        body=form.get("Body", ""),
    )


@asynccontextmanager
async def database() -> AsyncIterator[asyncpg.Pool]:
    """A pool on the peer's database, with its tables."""
    pool = asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=CONNECTIONS, max_size=CONNECTIONS)
    async with pool:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(1)")  # several processes start at once
            await connection.execute(TABLES)
        yield pool


async def store_and_answer(pool: asyncpg.Pool, message: Inbound) -> Answer | None:
    """Store the message with its answer, in one transaction; None where the answer was sent already.

    A message that we have already (a webhook or a job that came again) gives the answer that was stored with it.
    """
    async with pool.acquire() as connection, connection.transaction():
        contact = await connection.fetchval(
            """INSERT INTO contacts (phone, name) VALUES ($1, $2)
            ON CONFLICT (phone) DO UPDATE SET name = EXCLUDED.name RETURNING id""",
            message.sender.removeprefix("whatsapp:"),
            message.name,
        )
        conversation = await connection.fetchval(
            """INSERT INTO conversations (contact_id, provider, address) VALUES ($1, 'twilio', $2)
            ON CONFLICT (contact_id, provider) DO UPDATE SET last_message_at = now(), last_user_message_at = now()
            RETURNING id""",
            contact,
            message.to,
        )
        inbound = await connection.fetchval(
            """INSERT INTO messages (conversation_id, role, body, status, provider_sid)
            VALUES ($1, 'user', $2, 'received', $3) ON CONFLICT (provider_sid) DO NOTHING RETURNING id""",
            conversation,
            message.body,
            message.sid,
        )
        if inbound is None:
            found = await connection.fetchrow(
                """SELECT o.id, o.body FROM messages i JOIN messages o ON o.answers = i.id
                WHERE i.provider_sid = $1 AND o.provider_sid IS NULL""",
                message.sid,
            )
            if found is None:
                return None
            return Answer(message_id=found["id"], to=message.sender, sender=message.to, body=found["body"])
        newest = await connection.fetch(
            "SELECT role, body FROM messages WHERE conversation_id = $1 ORDER BY id DESC LIMIT $2",
            conversation,
            HISTORY,
        )
        answer = decide(RULES, [Turn(row["role"], row["body"]) for row in reversed(newest)], 1).text
        message_id = await connection.fetchval(
            """INSERT INTO messages (conversation_id, role, body, status, answers)
            VALUES ($1, 'assistant', $2, 'queued', $3) RETURNING id""",
            conversation,
            answer,
            inbound,
        )
    return Answer(message_id=message_id, to=message.sender, sender=message.to, body=answer)


async def is_sent(pool: asyncpg.Pool, answer: Answer) -> bool:
    """Whether the answer was sent: its job may come twice."""
    sid = await pool.fetchval("SELECT provider_sid FROM messages WHERE id = $1", answer.message_id)
    return sid is not None


class Twilio:
    """Sends messages through Twilio's API, over connections that are kept."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._url = f"{os.environ['TWILIO_API_URL']}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator["Twilio"]:
        async with aiohttp.ClientSession(
            auth=aiohttp.BasicAuth(ACCOUNT_SID, AUTH_TOKEN), timeout=_SEND_TIMEOUT
        ) as session:
            yield cls(session)

    async def send(self, pool: asyncpg.Pool, answer: Answer) -> None:
        """Send the answer and store its sid. Raises where Twilio does not take it."""
        form = {"To": answer.to, "From": answer.sender, "Body": answer.body}
        async with self._session.post(self._url, data=form) as response:
            response.raise_for_status()
            sent = await response.json()
        await pool.execute(
            "UPDATE messages SET status = 'sent', provider_sid = $2, sent_at = now() WHERE id = $1",
            answer.message_id,
            sent["sid"],
        )
