"""Shows a campaign while it runs: a bar in a terminal, else a line every few seconds; until the campaign ends."""

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ops import terminal
from ops.errors import Problem
from shared.database import Pool
from shared.domain.campaigns.life import OVER
from shared.store.campaigns import counts as counters
from shared.store.campaigns import records
from shared.store.campaigns.recipients import STATUSES, WAITING
from shared.store.campaigns.records import Campaign, Json

LOOK: Final = 1.0  # seconds between two looks at the rows
PAUSE: Final = 5.0  # seconds between two plain lines that say the same but for their numbers
_WORDS: Final = {"opted_out": "opted out"}
# Who waits for a campaign to get on wants to know of these; the bar has the others.
_SHOWN: Final = ("held", "replied", "failed", "skipped", "opted_out", "unknown", "canceled")


async def watch(pool: Pool, campaign: Campaign) -> Campaign:
    """Show a campaign until it ends; returns it as it is then. Raises Problem where it has not been started."""
    if campaign.status == "draft":
        raise Problem("This campaign is a draft.", "Start it: palomar campaigns start.")
    bar = _bar() if sys.stderr.isatty() else None
    shown: AbstractContextManager[object] = nullcontext() if bar is None else bar
    task = None if bar is None else bar.add_task(terminal.printable(campaign.values.name), total=None, facts="")
    printed, printed_at = "", float("-inf")
    with shown:
        while True:
            async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
                found = await records.get(connection, campaign.tenant_id, campaign.id)
                recipients = of_status(await counters.counts(connection, campaign.tenant_id, campaign.id))
            if found is None or found.deleted_at is not None:
                raise Problem("The campaign was deleted meanwhile.", "See palomar campaigns list.")
            campaign = found
            text, total, done = line(campaign, recipients), sum(recipients.values()), through(recipients)
            if bar is not None and task is not None:
                bar.update(task, total=total if campaign.frozen_at else None, completed=done, facts=text)
            elif campaign.status != printed or campaign.status in OVER or time.monotonic() - printed_at >= PAUSE:
                printed, printed_at = campaign.status, time.monotonic()
                print(f"{done} of {total}: {text}", file=sys.stderr, flush=True)
            if campaign.status in OVER:
                return campaign
            await asyncio.sleep(LOOK)


def of_status(counts: Mapping[tuple[str, int], int]) -> dict[str, int]:
    """Recipients by state, of all variants together."""
    found: dict[str, int] = dict.fromkeys(STATUSES, 0)
    for (status, _), recipients in counts.items():
        found[status] = found.get(status, 0) + recipients
    return found


def through(recipients: Mapping[str, int]) -> int:
    """How many recipients wait for nothing from us any more."""
    return sum(number for status, number in recipients.items() if status not in WAITING)


def line(campaign: Campaign, recipients: Mapping[str, int]) -> str:
    """Where a campaign stands, in one line."""
    parts = [_state(campaign)]
    if campaign.status == "running":
        parts += _pace(campaign)
    parts += [f"{recipients[name]} {_WORDS.get(name, name)}" for name in _SHOWN if recipients.get(name)]
    return terminal.printable(", ".join(parts))


def pause_words(campaign: Campaign) -> str:
    """Why a campaign is paused, and who can resume it."""
    detail = campaign.paused_detail or {}
    reason = (campaign.paused_reason or "unknown").replace("_", " ").replace("person", "by a person")
    resume = f". Who can resume it: {detail['resume']}" if detail.get("resume") else ""
    return f"paused: {reason}{_figures(detail)}{resume}"


def _state(campaign: Campaign) -> str:
    match campaign.status:
        case "scheduled":
            return f"starts at {terminal.when(campaign.scheduled_at)}"
        case "paused":
            return pause_words(campaign)
        case "running" if campaign.frozen_at is None:
            return "counting its recipients"
        case _:
            return campaign.status


def _pace(campaign: Campaign) -> list[str]:
    progress: Json = campaign.progress or {}
    parts = [f"wave {campaign.wave + 1}"]
    if isinstance(rate := progress.get("rate"), (int, float)):
        parts.append(f"{rate:.1f}/s")
    if isinstance(eta := progress.get("eta"), str):
        parts.append(f"all sent about {datetime.fromisoformat(eta).astimezone():%H:%M:%S}")
    if waiting := progress.get("waiting_for"):
        parts.append(f"waits for {str(waiting).replace('_', ' ')}")
    return parts


def _figures(detail: Json) -> str:
    if "share" in detail and "allowed" in detail:
        return f" ({detail['share']} % of the outcomes, {detail['allowed']} % allowed)"
    if "wave" in detail:
        return f" (wave {detail['wave']} of {detail.get('of', '?')} has ended)"
    if "template" in detail:
        return f" ({detail['template']} is {detail.get('status', 'stopped')})"
    return ""


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=Console(stderr=True),
    )
