"""Campaigns on a stage: contacts, a template, a campaign, and what has become of its recipients."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared import database
from shared.actions import campaign_life, campaigns
from shared.actions.campaign_life import Moved
from shared.queue.jobs import CampaignDue
from shared.store import message_templates
from shared.store.campaigns import counts
from shared.store.campaigns.records import CampaignValues
from shared.store.message_templates import TemplateValues
from tests.support.stage import Ours, Stage

TEMPLATE = "HX" + "7" * 32
# No waves, and none of the waits that make a test slow.
PLAIN: dict[str, Any] = {"waves": {"shares": [], "wait": 0}, "held_wait": 0.0001}


@dataclass
class CampaignStage:
    """A campaign, its channel and its contacts, on a stage."""

    stage: Stage
    ours: Ours
    contacts: list[UUID]
    numbers: list[str]
    id: UUID

    async def take(self, step: str, **more: Any) -> Moved:
        """Take a step of campaign_life by its name, and publish what follows."""
        async with self.stage.pool.acquire() as connection, connection.transaction():
            moved = await getattr(campaign_life, step)(connection, self.ours.tenant_id, self.id, **more)
        assert isinstance(moved, Moved)
        await self.stage.deliver(*moved.jobs)
        return moved

    async def status(self) -> str:
        found: str = await self.stage.value("SELECT status FROM campaigns WHERE id = $1", self.id)
        return found

    async def states(self) -> dict[str, int]:
        """State → recipients, by their rows."""
        rows = await self.stage.rows("SELECT status FROM campaign_recipients WHERE campaign_id = $1", self.id)
        return dict(Counter(row["status"] for row in rows))

    async def counted(self) -> dict[str, int]:
        """State → recipients, by the counters."""
        async with self.stage.pool.acquire() as connection:
            found = await counts.counts(connection, self.ours.tenant_id, self.id)
        return {state: number for (state, _), number in found.items()}

    async def check_counters(self) -> None:
        """In one snapshot, the counters say what the rows say."""
        differing = await self.stage.rows(
            """SELECT * FROM (
                SELECT status, sum(recipients)::bigint AS counted FROM campaign_counts WHERE campaign_id = $1 GROUP BY 1
            ) AS c FULL JOIN (
                SELECT status, count(*) AS there FROM campaign_recipients WHERE campaign_id = $1 GROUP BY 1
            ) AS r USING (status) WHERE coalesce(counted, 0) <> coalesce(there, 0)""",
            self.id,
        )
        assert differing == []

    async def reached(self) -> Counter[str]:
        """Number → how many messages the provider took for it."""
        seen = await self.stage.sandbox.messages()
        return Counter(one.to.removeprefix("whatsapp:").lstrip("+") for one in seen if one.outcome == "accepted")

    async def is_over(self) -> bool:
        """Whether the worker has nothing left to do for it."""
        return await self.stage.value("SELECT due_at IS NULL FROM campaigns WHERE id = $1", self.id) is True

    async def has_queued(self) -> bool:
        return (await self.states()).get("queued", 0) > 0

    async def has_reached(self, people: int) -> bool:
        return len(await self.reached()) >= people

    async def nudge(self) -> None:
        """Have the worker look at once at a campaign that waits."""
        await self.stage.pool.execute("UPDATE campaigns SET due_at = now() WHERE id = $1", self.id)
        await self.stage.deliver(CampaignDue(tenant_id=self.ours.tenant_id, campaign_id=self.id))


async def add_template(stage: Stage, ours: Ours, *, name: str = "promo", content: str = "Hola {{1}}") -> UUID:
    async with stage.pool.acquire() as connection, connection.transaction():
        made = await message_templates.insert(
            connection,
            ours.tenant_id,
            TemplateValues(
                channel_id=ours.id,
                name=name,
                language="es",
                external_id=TEMPLATE if ours.provider == "twilio" else None,
                category="marketing",
                content=content,
                variables=("1",),
                status="approved",
                is_active=True,
            ),
        )
    return made.id


async def add_contacts(stage: Stage, ours: Ours, numbers: Sequence[str], metadata: Any = None) -> list[UUID]:
    """A contact for each number, called as its last digits."""
    ids = [database.new_id() for _ in numbers]
    async with stage.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            """INSERT INTO contacts (id, tenant_id, name, metadata)
            SELECT id, $2, 'Ana ' || right(number, 4), $4 FROM unnest($1::uuid[], $3::text[]) AS one (id, number)""",
            ids, ours.tenant_id, list(numbers), metadata or {},
        )  # fmt: skip
        await connection.execute(
            """INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
            SELECT $2, 'phone', number, number, id FROM unnest($1::uuid[], $3::text[]) AS one (id, number)""",
            ids, ours.tenant_id, list(numbers),
        )  # fmt: skip
    return ids


async def campaign(
    stage: Stage,
    people: int = 10,
    *,
    ours: Ours | None = None,
    contacts: list[UUID] | None = None,
    numbers: Sequence[str] = (),
    template: bool = True,
    settings: Any = None,
    **values: Any,
) -> CampaignStage:
    """A draft to so many new contacts, or to these; `values` are CampaignValues' own."""
    ours = ours or stage.ours
    numbers = list(numbers) or [f"+3460{n:07}" for n in range(1_000_000, 1_000_000 + people)]
    contacts = contacts or await add_contacts(stage, ours, numbers)
    template_id = await add_template(stage, ours) if template else None
    given: dict[str, Any] = {
        "name": "Promo",
        "message": None if template else "Hola {{contact.name|amigo}}",
        "recipient_type": "contacts",
        "recipient_ids": tuple(contacts),
        "variables": {"1": "{{contact.name|amigo}}"} if template else {},
        "settings": PLAIN | (settings or {}),
        **values,
    }
    async with stage.pool.acquire() as connection, connection.transaction():
        made = await campaigns.create(
            connection,
            ours.tenant_id,
            CampaignValues(channel_id=ours.id, message_template_id=template_id, **given),
        )
    return CampaignStage(stage, ours, contacts, list(numbers), made.id)
