"""Meta's messaging limit, as its webhooks name it."""

import pytest

from shared.providers.base import MessagingLimit
from shared.providers.meta.messaging_limit import messaging_limit


@pytest.mark.parametrize("field", ["business_capability_update", "phone_number_quality_update"])
@pytest.mark.parametrize(
    ("written", "people"),
    [(250, 250), (2000, 2000), ("100000", 100_000), (-1, None), ("-1", None), ("TIER_250", 250), ("TIER_2K", 2_000),
     ("TIER_10K", 10_000), ("TIER_100K", 100_000), ("TIER_UNLIMITED", None), ("tier_unlimited", None)],
)  # fmt: skip
def test_a_limit_is_a_number_or_the_name_of_a_tier(field: str, written: object, people: int | None) -> None:
    value = {"max_daily_conversations_per_business": written, "max_phone_numbers_per_waba": 25}
    assert messaging_limit(field, value, "102290129340398") == MessagingLimit("102290129340398", people)


@pytest.mark.parametrize("written", [None, "", 0, -2, "TIER_1M", "2k", "٢٥٠", 10**12, "9" * 10_000, {}, [250], True])
def test_what_is_no_limit_that_we_know_changes_nothing(written: object) -> None:
    assert messaging_limit("business_capability_update", {"max_daily_conversations_per_business": written}, "1") is None


def test_other_webhooks_and_those_of_no_account_name_no_limit() -> None:
    value = {"max_daily_conversations_per_business": 250}
    assert messaging_limit("account_update", value, "1") is None
    assert messaging_limit("business_capability_update", value, "") is None
