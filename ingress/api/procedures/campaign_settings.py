"""campaigns.settings: what holds for each of a tenant's campaigns that sets nothing else."""

from typing import Any, Final

from ingress.api.call import Call
from ingress.api.campaign_settings_models import TenantDefaults, UpdateTenantDefaults
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import Output, TenantInput
from ingress.api.procedures.campaigns import READ, WRITE
from shared.actions import campaign_settings as actions
from shared.store.campaigns import tenant_settings as store

_MADRID: Final[dict[str, Any]] = {
    "timezone": "Europe/Madrid",
    "quietHours": {"begin": "21:00", "end": "08:00"},
    "dailyCap": 2,
}


class CampaignDefaultsAnswer(Output):
    settings: TenantDefaults


@query("campaigns.settings", scope=READ, examples=[Example({}, {"settings": _MADRID})])
async def settings(call: Call, given: TenantInput) -> CampaignDefaultsAnswer:
    """Show the time zone, quiet hours and daily cap of all campaigns that set none of their own."""
    return CampaignDefaultsAnswer(settings=TenantDefaults.of(await store.get(call.connection, call.tenant_id)))


@mutation("campaigns.updateSettings", scope=WRITE, examples=[Example(_MADRID, {"settings": _MADRID})])
async def update_settings(call: Call, given: UpdateTenantDefaults) -> CampaignDefaultsAnswer:
    """Change what holds for all campaigns that set nothing else. One that runs takes it from its next page on."""
    defaults = {"timezone": "UTC", "quiet_hours": None, "daily_cap": None}
    named = given.model_dump(exclude={"tenant_id"}, exclude_unset=True)
    changes = {name: defaults[name] if value is None else value for name, value in named.items()}
    after = await actions.change(call.connection, call.tenant_id, changes)
    return CampaignDefaultsAnswer(settings=TenantDefaults.of(after))
