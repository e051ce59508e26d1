"""The settings of a campaign, the filter over its recipients, and a tenant's defaults, as the API takes and shows them.

They are those of shared/domain/campaigns/settings.py in camelCase, and what is wrong is named with its remedy.
"""

import re
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ingress.api.models import Input, Moment, TenantInput
from shared.domain.campaigns import recurrence
from shared.domain.campaigns import settings as domain
from shared.domain.campaigns.auto_pause import WAVES

_USUAL: Final = domain.AutoPauseSettings()
_CLOCK: Final = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")


def _is_time_of_day(given: str) -> str:
    if not _CLOCK.fullmatch(given):
        raise PydanticCustomError("time_of_day", "It is no time of day", {"remedy": "Write it as 21:00."})
    return given


def _is_zone(given: str) -> str:
    if given not in domain.zones():
        remedy = "Write it as the IANA database does: Europe/Madrid."
        raise PydanticCustomError("time_zone", "There is no such time zone", {"remedy": remedy})
    return given


def _is_recurrence(given: str) -> str:
    try:
        return recurrence.check(given)
    except ValueError as error:
        wrong, _, remedy = str(error).partition("; ")
        context = {"wrong": wrong, "remedy": f"{remedy[:1].upper()}{remedy[1:]}." if remedy else "Give another time."}
        raise PydanticCustomError("recurrence", "It {wrong}", context) from None


TimeOfDay = Annotated[str, StringConstraints(max_length=20), AfterValidator(_is_time_of_day), Field(examples=["21:00"])]
Zone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_is_zone), Field(examples=["Europe/Madrid"])]
Recurrence = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    AfterValidator(_is_recurrence),
    Field(examples=["0 9 * * MON"]),
]
Share = Annotated[float, Field(ge=0, le=1)]
DailyCap = Annotated[int, Field(ge=1, le=100)]


class CampaignQuietHours(Input):
    """From `begin` until before `end`, by the clock where the recipient lives; over midnight too."""

    begin: TimeOfDay = "21:00"
    end: TimeOfDay = "08:00"

    @model_validator(mode="after")
    def _not_all_day(self) -> Self:
        if self.begin == self.end:
            remedy = "Give two times, or leave quietHours out."
            raise PydanticCustomError("quiet_hours", "They begin and end at the same time", {"remedy": remedy})
        return self


class CampaignWaves(Input):
    """A campaign begins with few recipients, and goes on with more once a look at their outcomes finds nothing."""

    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default=list(WAVES), max_length=10, description="Of all recipients, after which it waits; []: no waves."
    )
    wait: float = Field(default=300.0, ge=0, le=7 * 86400, description="Seconds for receipts and opt-outs to come in.")
    approval: bool = Field(default=False, description="It pauses after each wave until a person resumes it.")

    @model_validator(mode="after")
    def _grow(self) -> Self:
        if any(second <= first for first, second in zip(self.shares, self.shares[1:], strict=False)):
            remedy = "Give each share once, the smallest first: [0.01, 0.1]."
            raise PydanticCustomError("waves", "The shares do not grow", {"remedy": remedy})
        return self


class CampaignAutoPause(Input):
    """Shares of the outcomes at which it pauses by itself; 1 switches one off."""

    failures: Share = _USUAL.failures
    opt_outs: Share = _USUAL.opt_outs
    blocks: Share = _USUAL.blocks
    held: Share = Field(default=_USUAL.held, description="Of those that Meta holds to assess their quality.")


class CampaignComparison(Input):
    """Two templates on trial: the better one goes to the rest once the difference is no chance."""

    template_id: UUID = Field(description="The other one of messageTemplates.")
    share: float = Field(default=0.5, gt=0, lt=1, description="Of the recipients, that gets this other one.")
    by: Literal["delivered", "read", "replied"] = "replied"
    at_least: int = Field(default=200, ge=20, le=1_000_000, description="Outcomes of each before it is decided.")
    confidence: float = Field(default=0.95, ge=0.8, le=0.999)


class CampaignSettings(Input):
    """How it sends, and what stops it. Everything has a default."""

    free_form: bool = Field(
        default=False, description="`message` is sent where WhatsApp's window is open, the template where it is not."
    )
    quiet_hours: CampaignQuietHours | None = Field(default=None, description="null: the tenant's.")
    waves: CampaignWaves = CampaignWaves()
    auto_pause: CampaignAutoPause = CampaignAutoPause()
    rate: float | None = Field(default=None, gt=0, le=1000, description="Messages a second; null: the channel's.")
    daily_cap: DailyCap | None = Field(
        default=None, description="Of campaign messages to a contact in 24 hours; null: the tenant's."
    )
    ends_at: Moment | None = Field(default=None, description="No message of it leaves later.")
    at_end: Literal["wait", "expire"] = Field(
        default="wait",
        description="A recipient in its quiet hours then waits for the morning, or is `skipped: expired`.",
    )
    replied_within: float = Field(default=72.0, gt=0, le=30 * 24, description="Hours in which an answer counts.")
    held_wait: float = Field(
        default=24.0, gt=0, le=7 * 24, description="Hours for which its end waits for held and unknown messages."
    )
    comparison: CampaignComparison | None = None

    def stored(self) -> dict[str, Any]:
        """As the row holds it: what was given, and no defaults, which a later release may change."""
        return self.model_dump(mode="json", by_alias=False, exclude_unset=True)

    @classmethod
    def of(cls, raw: object) -> "CampaignSettings | None":
        """The settings of a row with their defaults; None where a SQL session wrote what can't be read."""
        try:
            read = domain.stored_settings(raw)
            return cls.model_validate(read.model_dump(mode="json"), strict=False, by_name=True)
        except (ValidationError, ValueError):
            return None


class RecipientFilter(Input):
    """Which of the contacts it is for; all that is set has to hold."""

    tags: list[Annotated[str, StringConstraints(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=50, description="The contact has any of them in `metadata.tags`."
    )
    consent: Literal["opted_in"] | None = Field(
        default=None, description="Only contacts that have opted in, and not out since."
    )
    last_seen_after: Moment | None = Field(default=None, description="The contact wrote on this channel since then.")
    last_seen_before: Moment | None = Field(default=None, description="The contact wrote last before then.")
    statuses: list[Literal["failed", "canceled", "skipped", "unknown"]] = Field(
        default=["failed", "canceled", "skipped"],
        max_length=4,
        description="Where the recipients are another campaign's: what became of them there. An `unknown` one may "
        "have had its message.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last_seen_after and self.last_seen_before and self.last_seen_before <= self.last_seen_after:
            remedy = "Give a later lastSeenBefore, or leave one of them out."
            raise PydanticCustomError("recipient_filter", "No moment is between the two", {"remedy": remedy})
        return self

    def stored(self) -> dict[str, Any]:
        """As the row holds it."""
        return self.model_dump(mode="json", by_alias=False, exclude_unset=True)

    @classmethod
    def of(cls, raw: object) -> "RecipientFilter | None":
        """The filter of a row; None where there is none that can be read."""
        try:
            return cls.model_validate(raw, strict=False, by_name=True)
        except ValidationError:
            return None


class TenantDefaults(Input):
    """What holds for each of a tenant's campaigns that sets nothing else."""

    timezone: Zone = "UTC"
    quiet_hours: CampaignQuietHours | None = Field(default=None, description="null: campaigns send at any hour.")
    daily_cap: DailyCap | None = Field(
        default=None, description="Of campaign messages to a contact in 24 hours, all campaigns together; null: none."
    )

    @classmethod
    def of(cls, read: domain.TenantCampaignSettings) -> "TenantDefaults":
        return cls.model_validate(read.model_dump(mode="json"), strict=False, by_name=True)


class UpdateTenantDefaults(TenantInput):
    """What is left out stays as it is."""

    timezone: Zone | None = Field(default=None, description="null takes it back to UTC.")
    quiet_hours: CampaignQuietHours | None = Field(default=None, description="null removes them.")
    daily_cap: DailyCap | None = Field(default=None, description="null removes it.")
