"""Which numbers share a messaging limit of Meta's, as a table."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.domain.campaigns import tier
from shared.domain.campaigns.tier import Portfolio
from shared.domain.channels import Channel, ChannelSettings
from shared.domain.model import ChannelKind

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def channel(kind: ChannelKind = "whatsapp", business_id: str | None = "waba-1", **meta: Any) -> Channel:
    return Channel(
        id=UUID(int=7), tenant_id=UUID(int=1), endpoint_id=None, provider="meta", kind=kind, address="+4915112345678",
        status="active", settings=ChannelSettings.model_validate({"meta": meta}), updated_at=NOW,
        business_id=business_id,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("of", "portfolio"),
    [
        (channel(), None),
        (channel(messaging_limit=2000), Portfolio("waba-1", 2000)),
        (channel(messaging_limit=2000, portfolio="Shop"), Portfolio("Shop", 2000)),
        (channel(messaging_limit=2000, business_id=None), Portfolio(str(UUID(int=7)), 2000)),
        (channel("sms", messaging_limit=2000), None),
    ],
)
def test_the_portfolio_of_a_channel(of: Channel, portfolio: Portfolio | None) -> None:
    assert tier.portfolio_of(of) == portfolio


@pytest.mark.parametrize(("limit", "used", "left"), [(250, 0, 250), (250, 249, 1), (250, 250, 0), (250, 300, 0)])
def test_what_is_left(limit: int, used: int, left: int) -> None:
    assert tier.left(limit, used) == left
