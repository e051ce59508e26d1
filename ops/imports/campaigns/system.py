"""Imports the contacts-and-campaigns system: many tenants, whose campaigns go out in bulk.

The document names fields (`tenantId`); a source may have them as columns of either spelling. Tenants and WhatsApp
instances are known only by their ids, unless the source has tables `tenants` and `whatsapp_instances` to name them.
"""

from typing import Final

from ops.imports.campaigns import campaigns, history, people, tables, tenants, webhooks
from ops.imports.steps import Step, System, counted

_WHOSE: Final = ("tenant_id",)

CAMPAIGNS = System(
    identity="campaigns",
    summary="tenants with contacts, groups, campaigns, messages_history and webhooks",
    brings_tenants=True,
    steps=(
        Step(
            tables.CONTACTS,
            people.write_contacts,
            counted("contacts", "contacts"),
            _WHOSE,
            prepare=tenants.know_tenants,
        ),
        Step(tables.GROUPS, people.write_groups, counted("groups", "groups"), _WHOSE),
        Step(tables.GROUP_CONTACTS, people.write_members, people.count_members, _WHOSE),
        Step(tables.TEMPLATES, campaigns.write_templates, counted("message_templates", "message_templates"), _WHOSE),
        Step(
            tables.CAMPAIGNS,
            campaigns.write_campaigns,
            counted("campaigns", "campaigns"),
            _WHOSE,
            prepare=tenants.open_instances,
        ),
        Step(
            tables.RECIPIENTS,
            campaigns.write_recipients,
            counted("campaign_recipients", "campaign_recipients"),
            ("tenant_id", "campaign_id"),
        ),
        Step(
            tables.HISTORY,
            history.write_history,
            counted("messages_history", "messages"),
            _WHOSE,
            prepare=tenants.open_instances,
        ),
        Step(tables.WEBHOOKS, webhooks.write_webhooks, counted("webhooks", "webhooks"), _WHOSE),
        Step(
            tables.WEBHOOK_LOGS,
            webhooks.write_webhook_logs,
            counted("webhook_logs", "webhook_logs"),
            ("tenant_id", "webhook_id"),
        ),
    ),
)
