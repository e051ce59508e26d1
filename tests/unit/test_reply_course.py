"""What becomes of a conversation of which a job says that it is owed a reply, as a table."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.bot.base import Engine
from shared.bot.llm import LlmEngine
from shared.bot.rules import RulesEngine
from shared.domain.channels import Channel, ChannelSettings
from shared.settings import Settings
from shared.store.messages.inbound import HistoryMessage
from shared.store.reply_leases import OwingConversation
from workers.reply.answering import depth, newest_of_customer, trailing
from workers.reply.at_once import Course, course_of

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OWING = OwingConversation(
    UUID(int=1),
    UUID(int=2),
    UUID(int=3),
    "+34600000001",
    "Ana",
    NOW,
    3,
    1,
    owed=True,
    active=True,
    leased=False,
    now=NOW,
)


def channel(engine: str = "rules", unread: frozenset[str] = frozenset()) -> Channel:
    settings = ChannelSettings.model_validate({"reply": {"engine": engine, "llm": {"model": "m", "history": 20}}})
    return Channel(UUID(int=3), UUID(int=1), None, "twilio", "whatsapp", "+1", "active", settings, NOW, unread=unread)


@pytest.mark.parametrize(
    ("given", "on", "course"),
    [
        ({}, channel(), "answer"),
        ({}, channel("llm"), "aside"),
        ({}, channel("none"), "settle"),
        ({}, None, "settle"),
        ({}, channel(unread=frozenset({"reply"})), "defer"),
        ({"unanswered": 0}, channel(), "settle"),
        ({"unanswered": -1}, channel("llm"), "settle"),
        ({"owed": False}, channel(), "nothing"),
        ({"leased": True}, channel(), "nothing"),
        ({"leased": True}, None, "nothing"),
        ({"active": False}, channel(), "drop"),
        ({"active": False, "leased": True}, channel(), "drop"),
        ({"active": False, "owed": False}, channel(), "nothing"),
    ],
)
def test_a_conversation_takes_its_course(given: dict[str, Any], on: Channel | None, course: Course) -> None:
    engines: dict[str, Engine] = {"rules": RulesEngine(), "llm": LlmEngine.of(Settings.model_construct())}
    assert course_of(replace(OWING, **given), on, engines) == course


def said(*roles: str) -> list[HistoryMessage]:
    return [HistoryMessage(UUID(int=place), role, "", "text") for place, role in enumerate(roles, start=1)]


@pytest.mark.parametrize(
    ("roles", "unanswered", "back"),
    [
        (["user"], 1, 1),
        (["user", "assistant", "user", "user"], 2, 2),
        (["user", "assistant", "user", "assistant"], 1, 2),  # a campaign's message is no answer
        (["user", "user"], 5, 2),
    ],
)
def test_an_answer_is_to_all_that_is_unanswered(roles: list[str], unanswered: int, back: int) -> None:
    assert trailing(said(*roles), unanswered) == back


@pytest.mark.parametrize(("roles", "newest"), [(["user", "user", "assistant"], 2), (["assistant"], None), ([], None)])
def test_an_answer_is_to_the_customers_last_message(roles: list[str], newest: int | None) -> None:
    assert newest_of_customer(said(*roles)) == (None if newest is None else UUID(int=newest))


@pytest.mark.parametrize(("unanswered", "messages"), [(1, 21), (3, 23), (1000, 200)])
def test_a_history_reaches_back_further_where_more_is_unanswered(unanswered: int, messages: int) -> None:
    assert depth(channel(), unanswered) == messages
