"""What the metrics and `palomar status` tell of all webhooks: how many get nothing, and how late the others are."""

import pytest
from prometheus_client import REGISTRY

from shared.settings import Settings
from shared.store.webhook_deliveries import figures
from tests.support.webhook_stage import Hook, hooked

HOUR = "1 hour"


async def owed(hook: Hook, minutes: int, *, open_for: str | None = None, disabled: str | None = None) -> None:
    """A delivery of this webhook is due for so long."""
    await hook.stage.pool.execute(
        "INSERT INTO webhook_logs (tenant_id, webhook_id, event, due_at)"
        " VALUES ($1, $2, 'other', now() - interval '1 minute' * $3)",
        *(hook.tenant_id, hook.id, minutes),
    )
    await hook.stage.pool.execute(
        "INSERT INTO webhook_health (tenant_id, webhook_id, due_at, open_until, disabled_at)"
        " VALUES ($1, $2, now(), now() + $3::text::interval, now() - $4::text::interval)",
        *(hook.tenant_id, hook.id, open_for, disabled),
    )


async def test_a_clock_measures_which_webhooks_get_nothing_and_how_late_the_others_are(settings: Settings) -> None:
    async with hooked(settings) as hooks:
        assert await figures.lateness(hooks.stage.pool) == figures.Lateness(0, 0, 0.0)
        await owed(await hooks.add("/well"), 3)
        await owed(await hooks.add("/also"), 5, open_for="-1 second")
        await owed(await hooks.add("/down"), 60, open_for=HOUR)
        await owed(await hooks.add("/gone"), 90, disabled=HOUR)
        await owed(await hooks.add("/off", is_active=False), 120)
        found = await figures.lateness(hooks.stage.pool)
        assert (found.paused, found.disabled) == (1, 1)
        assert found.oldest_due == pytest.approx(300, abs=60)
        async with hooks.stage.working("clock"):
            await hooks.stage.until(metrics, equals=(1, 1, True))


async def metrics() -> tuple[float | None, float | None, bool]:
    """Those of this process: paused, disabled, and whether a delivery is late by more than four minutes."""
    paused, disabled, oldest = (
        REGISTRY.get_sample_value(f"palomar_{name}")
        for name in ("webhooks_paused", "webhooks_disabled", "webhook_oldest_due_seconds")
    )
    return paused, disabled, oldest is not None and oldest > 240
