"""The settings of a campaign, and of all campaigns of a tenant: when and how it sends, and what stops it. No I/O."""

import re
from datetime import time
from functools import cache
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.domain.campaigns.auto_pause import WAVES, Thresholds
from shared.domain.campaigns.quiet_hours import QuietHours

_USUAL: Final = Thresholds()
_CLOCK: Final = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")


@cache
def zones() -> frozenset[str]:
    """The names of all time zones. To find them reads some 600 files."""
    return frozenset(available_timezones())


def _zone(name: str) -> str:
    if name not in zones():
        raise ValueError("is no time zone of the IANA database; write it as Europe/Madrid")
    return name


def _clock(written: str) -> str:
    if not _CLOCK.fullmatch(written):
        raise ValueError("is no time of day; write it as 21:00")
    return written


TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)]
Clock = Annotated[str, AfterValidator(_clock)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuietHoursSettings(_Part):
    """From `begin` until before `end`, by the clock where the recipient lives."""

    begin: Clock = "21:00"
    end: Clock = "08:00"

    @model_validator(mode="after")
    def _not_all_day(self) -> Self:
        if self.begin == self.end:
            raise ValueError("begin and end are the same time; leave quiet_hours out, or pause the campaign")
        return self

    def hours(self) -> QuietHours:
        return QuietHours(time.fromisoformat(self.begin), time.fromisoformat(self.end))


class WaveSettings(_Part):
    """A campaign begins with few recipients, and goes on with more once a look at their outcomes finds nothing."""

    shares: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(max_length=10)] = WAVES
    wait: float = Field(default=300, ge=0, le=7 * 86400, description="seconds for receipts and opt-outs to come in")
    approval: bool = Field(default=False, description="the campaign pauses after each wave until a person resumes it")


class AutoPauseSettings(_Part):
    """Shares of the outcomes at which a campaign pauses by itself; 1 switches one off."""

    failures: Share = _USUAL.failures
    opt_outs: Share = _USUAL.opt_outs
    blocks: Share = _USUAL.blocks
    held: Share = _USUAL.held

    def thresholds(self) -> Thresholds:
        return Thresholds(self.failures, self.opt_outs, self.blocks, self.held)


class ComparisonSettings(_Part):
    """Two templates on trial: the better one goes to the rest once the difference is no chance."""

    template_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")]
    share: float = Field(default=0.5, gt=0, lt=1, description="of the recipients who get this other template")
    by: Literal["delivered", "read", "replied"] = "replied"
    at_least: int = Field(default=200, ge=20, le=1_000_000, description="outcomes of each before anything is decided")
    confidence: float = Field(default=0.95, ge=0.8, le=0.999)


class CampaignSettings(_Part):
    """What the author of a campaign may set; everything has a default."""

    free_form: bool = Field(
        default=False, description="`message` is sent where WhatsApp's window is open, the template where it is not"
    )
    quiet_hours: QuietHoursSettings | None = Field(default=None, description="null: the tenant's")
    waves: WaveSettings = WaveSettings()
    auto_pause: AutoPauseSettings = AutoPauseSettings()
    rate: float | None = Field(default=None, gt=0, le=1000, description="messages a second; null: the channel's")
    daily_cap: int | None = Field(
        default=None, ge=1, le=100, description="of campaign messages to a contact in 24 hours; null: the tenant's"
    )
    ends_at: AwareDatetime | None = None
    at_end: Literal["wait", "expire"] = Field(
        default="wait", description="who waits for the morning when it ends is still written to, or `skipped: expired`"
    )
    replied_within: float = Field(default=72.0, gt=0, le=30 * 24, description="hours in which an answer counts as one")
    held_wait: float = Field(
        default=24.0, gt=0, le=7 * 24, description="hours for which its end waits for held and unknown messages"
    )
    comparison: ComparisonSettings | None = None


class TenantCampaignSettings(_Part):
    """`campaigns` of a tenant's settings: what holds for each of its campaigns that sets nothing else."""

    timezone: TimeZone = "UTC"
    quiet_hours: QuietHoursSettings | None = None
    daily_cap: int | None = Field(default=None, ge=1, le=100)


class RecipientFilter(_Part):
    """Which of the contacts a campaign is for; all that is set has to hold."""

    tags: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=100)], ...], Field(max_length=50)
    ] = Field(default=(), description="any of them in `metadata.tags` of the contact")
    consent: Literal["opted_in"] | None = Field(default=None, description="only who has opted in, and not out since")
    last_seen_after: AwareDatetime | None = Field(default=None, description="the contact wrote on this channel since")
    last_seen_before: AwareDatetime | None = Field(default=None, description="the contact wrote last before this")
    # Where the recipients are another campaign's: `skipped` are those that expired, or whose window had closed.
    # Whether an unknown one was reached can't be known, so only a person may name them.
    statuses: tuple[Literal["failed", "canceled", "skipped", "unknown"], ...] = Field(
        default=("failed", "canceled", "skipped"), description="of the other campaign's recipients: what became of them"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last_seen_after and self.last_seen_before and self.last_seen_before <= self.last_seen_after:
            raise ValueError("last_seen_before is not after last_seen_after, so no contact passes")
        return self


def stored_settings(raw: Any) -> CampaignSettings:
    """Settings as stored. Fields of a newer version are ignored. Raises ValueError where they can't be read."""
    return CampaignSettings.model_validate(raw, extra="ignore")


def stored_filter(raw: Any) -> RecipientFilter:
    """As `stored_settings`, of a campaign's filter; every contact passes None."""
    return RecipientFilter.model_validate(raw or {}, extra="ignore")


def stored_tenant_settings(raw: Any) -> TenantCampaignSettings:
    """As `stored_settings`; None, and what can't be read, is the default: no campaign of the tenant may stop for it."""
    try:
        return TenantCampaignSettings.model_validate(raw or {}, extra="ignore")
    except ValueError:
        return TenantCampaignSettings()


def zone_of(name: str | None, tenant: TenantCampaignSettings) -> ZoneInfo:
    """The time zone of a campaign: its own, else the tenant's."""
    return ZoneInfo(name or tenant.timezone)
