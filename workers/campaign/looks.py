"""Decides before each page of a campaign whether it goes on, with how many recipients, and with which template."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns import comparison, progress, tier
from shared.domain.campaigns.auto_pause import Outcomes, auto_pause, outcomes_of, wave_ends
from shared.domain.campaigns.progress import WaitingFor
from shared.domain.campaigns.settings import CampaignSettings, stored_settings
from shared.domain.channels import Channel
from shared.store.campaigns import outcomes as store
from shared.store.campaigns import tier as uses
from shared.store.campaigns.counts import Counts
from shared.store.campaigns.life import Pause
from shared.store.campaigns.outcomes import LookState
from shared.store.campaigns.records import Campaign
from shared.store.events import Event, record

BY_A_PERSON: Final = "a person, with campaigns.resume"
_OTHER_CAMPAIGN: Final = timedelta(seconds=0.2)  # a page's transaction is shorter
_LIMIT_RAISED: Final = timedelta(minutes=10)  # in which a campaign that waits notices a higher limit


@dataclass(frozen=True, slots=True)
class Go:
    """So many recipients may become messages now; `winner`: the template that all of them get."""

    most: int
    winner: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may be made before this moment. The campaign stays `running`."""

    until: datetime
    waiting_for: WaitingFor | None  # None: for a moment, which no person needs to know of


@dataclass(frozen=True, slots=True)
class Stop:
    """The campaign pauses by itself."""

    pause: Pause


Look = Go | Wait | Stop


async def look(tx: Connection, campaign: Campaign, channel: Channel, counts: Counts) -> Look:
    """Look at a frozen campaign at work, whose row the caller has locked; notes its progress.

    `counts` are those of this transaction. The caller does what the look says in the same transaction.
    """
    settings = stored_settings(campaign.values.settings)
    recipients = _by_status(counts)
    state = await store.state(tx, campaign)
    found = await _look(tx, campaign, channel, counts, recipients, settings, state)
    await _note_progress(tx, campaign, recipients, state.now, found.waiting_for if isinstance(found, Wait) else None)
    return found


async def _look(
    tx: Connection,
    campaign: Campaign,
    channel: Channel,
    counts: Counts,
    recipients: Mapping[str, int],
    settings: CampaignSettings,
    state: LookState,
) -> Look:
    pending = recipients.get("pending", 0)
    if pending or recipients.get("queued", 0):
        stop = await _unable(tx, campaign, channel, settings)
        if stop is not None:
            return stop
    if not pending:
        return Go(0, campaign.winner)
    stop, looks = await _auto_pause(tx, campaign, recipients, settings, dict(state.looks))
    if stop is None:
        winner, looks = await _compare(tx, campaign, counts, recipients, settings, looks)
    if looks != state.looks:
        await store.set_looks(tx, campaign, looks)
    if stop is not None:
        return stop
    wave = await _wave(tx, campaign, recipients, settings, state)
    if not isinstance(wave, int):
        return wave
    room = await _messaging_limit(tx, campaign, channel, state.now)
    if isinstance(room, Wait):
        return room
    return Go(min(wave, pending) if room is None else min(wave, pending, room), winner)


def _by_status(counts: Counts) -> dict[str, int]:
    found: dict[str, int] = {}
    for (status, _), count in counts.items():
        found[status] = found.get(status, 0) + count
    return found


async def _unable(tx: Connection, campaign: Campaign, channel: Channel, settings: CampaignSettings) -> Stop | None:
    """What keeps each of its messages from leaving: the channel, or a template."""
    if channel.status == "stopped":
        return Stop(Pause("channel_stopped", {"resume": f"{BY_A_PERSON}, once the channel is started"}))
    templates = [] if campaign.values.message_template_id is None else [campaign.values.message_template_id]
    if settings.comparison is not None:
        other = UUID(settings.comparison.template_id)
        templates = {None: [*templates, other], 0: templates, 1: [other]}[campaign.winner]
    unusable = await store.unusable_template(tx, campaign.tenant_id, templates) if templates else None
    if unusable is None:
        return None
    name, status = unusable
    resume = f"{BY_A_PERSON}, once the template is approved and active"
    return Stop(Pause("template_paused", {"template": name, "status": status, "resume": resume}))


async def _auto_pause(
    tx: Connection,
    campaign: Campaign,
    recipients: Mapping[str, int],
    settings: CampaignSettings,
    looks: dict[str, object],
) -> tuple[Stop | None, dict[str, object]]:
    """The automatic pause that the outcomes lead to, and what the next look has to know.

    A person who resumes the campaign has seen its outcomes, so those don't pause it once more: after such a pause, the
    first look notes them, and only what is added counts.
    """
    thresholds = settings.auto_pause.thresholds()
    plain = Outcomes.of(recipients)
    # Blocks are among the failures and opt-outs: their rows are read only where those are many.
    apart = plain.failed + plain.opted_out
    blocked = (0, 0)
    if apart > thresholds.blocks * plain.terminal or "auto_paused" in looks or "since" in looks:
        blocked = await store.blocked(tx, campaign, plain.failed, plain.opted_out)
    seen = Outcomes.of(recipients, *blocked)
    if looks.pop("auto_paused", None) is not None:
        looks["since"] = seen.as_json()
    paused = auto_pause(seen.since(outcomes_of(looks.get("since"))), thresholds)
    if paused is None:
        return None, looks
    looks["auto_paused"] = True
    detail = {"share": paused.share, "allowed": paused.allowed, "resume": BY_A_PERSON}
    return Stop(Pause(paused.reason, detail)), looks


async def _compare(
    tx: Connection,
    campaign: Campaign,
    counts: Counts,
    recipients: Mapping[str, int],
    settings: CampaignSettings,
    looks: dict[str, object],
) -> tuple[int | None, dict[str, object]]:
    """Which of two templates has won, and what the next look has to know."""
    compared = settings.comparison
    if compared is None or campaign.winner is not None:
        return campaign.winner, looks
    first, second = comparison.trials(counts, compared.by)
    number = comparison.look_number(first, second, compared.at_least)
    former = looks.get("compared")
    if number <= (former if isinstance(former, int) else 0):
        return None, looks
    reach = sum(recipients.values()) - recipients.get("skipped", 0)
    most = max(number, comparison.looks(reach, compared.share, compared.at_least))
    winner = comparison.winner(first, second, compared.confidence, most)
    if winner is not None:
        await store.set_winner(tx, campaign, winner)
    return winner, {**looks, "compared": number}


async def _wave(
    tx: Connection,
    campaign: Campaign,
    recipients: Mapping[str, int],
    settings: CampaignSettings,
    state: LookState,
) -> int | Wait | Stop:
    """How many recipients the wave has left; where it has ended, what comes before the next one."""
    reach = sum(recipients.values()) - recipients.get("skipped", 0) - recipients.get("canceled", 0)
    made = reach - recipients.get("pending", 0)
    ends = wave_ends(reach, settings.waves.shares)
    wave = state.wave
    if wave + 1 < len(ends) and made >= ends[wave]:
        ended_at = state.wave_ended_at or state.now
        until = ended_at + timedelta(seconds=settings.waves.wait)
        if state.now < until:
            if state.wave_ended_at is None:
                await store.set_wave(tx, campaign, wave, ended_at)
            return Wait(until, "wave")
        wave += 1
        await store.set_wave(tx, campaign, wave, None)
        if settings.waves.approval:
            return Stop(Pause("wave", {"wave": wave, "of": len(ends), "resume": BY_A_PERSON}))
    return max(0, ends[min(wave, len(ends) - 1)] - made)


async def _messaging_limit(tx: Connection, campaign: Campaign, channel: Channel, now: datetime) -> int | Wait | None:
    """How many people more Meta's messaging limit allows; None where none holds."""
    portfolio = tier.portfolio_of(channel)
    if portfolio is None or campaign.values.message_template_id is None:
        return None
    if not await uses.lock(tx, campaign.tenant_id, portfolio.name):
        return Wait(now + _OTHER_CAMPAIGN, None)
    used = await uses.used(tx, campaign.tenant_id, portfolio.name)
    left = tier.left(portfolio.limit, used.people)
    if left == 0 and used.oldest is not None:
        return Wait(min(tier.free_at(used.oldest), now + _LIMIT_RAISED), "messaging_limit")
    return left


async def _note_progress(
    tx: Connection, campaign: Campaign, recipients: Mapping[str, int], now: datetime, waiting_for: WaitingFor | None
) -> None:
    reached = progress.advance(campaign.progress, recipients, now, waiting_for)
    if reached is None:
        return
    stored = reached.as_json()
    await store.set_progress(tx, campaign, stored)
    facts = {name: stored[name] for name in ("rate", "eta", "waiting_for") if stored[name] is not None}
    await record(
        tx,
        Event(
            "campaign.progress",
            campaign.tenant_id,
            channel_id=campaign.values.channel_id,
            detail={"campaign_id": str(campaign.id), **facts, **recipients},
        ),
    )
