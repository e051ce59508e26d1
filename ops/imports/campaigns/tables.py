"""Declares the tables of the contacts-and-campaigns document, as a source may have them, and maps their statuses."""

from typing import Final

from ops.imports.values import same
from shared.store.imports.source import Column, Join, Table

_TIMES = (Column("created_at", "time"), Column("updated_at", "time"))
_DELETED = Column("deleted_at", "time", needed=False)  # "soft deletes are implemented"; not in every table's fields

TENANTS = Table("tenants", (Column("id"), Column("name"), Column("created_at", "time", needed=False)))
INSTANCES = Table(
    "whatsapp_instances",
    (
        Column("id"),
        Column("tenant_id"),
        Column("name", needed=False, also=("instance_name", "display_name")),
        Column("phone_number", needed=False, also=("phone", "number")),
    ),
    also=("WhatsAppInstance", "WhatsAppInstances"),
)
CONTACTS = Table(
    "contacts",
    (Column("id"), Column("tenant_id"), Column("phone_number"), Column("name"), Column("is_active"), *_TIMES, _DELETED),
)
GROUPS = Table(
    "groups",
    (Column("id"), Column("tenant_id"), Column("name"), Column("description"), Column("is_active"), *_TIMES, _DELETED),
)
_GROUP = Join("groups", on="group_id")
GROUP_CONTACTS = Table(
    "group_contacts",
    (
        Column("group_id"),
        Column("contact_id"),
        Column("created_at", "time"),
        Column("tenant_id", join=_GROUP),
    ),
    key=("group_id", "contact_id"),
)
TEMPLATES = Table(
    "message_templates",
    (
        Column("id"),
        Column("tenant_id"),
        Column("name"),
        Column("content"),
        Column("variables", "json"),
        Column("is_active"),
        *_TIMES,
        _DELETED,
    ),
)
CAMPAIGNS = Table(
    "campaigns",
    (
        Column("id"),
        Column("tenant_id"),
        Column("whatsapp_instance_id"),
        Column("message_template_id"),
        Column("name"),
        Column("message"),
        Column("status"),
        Column("scheduled_at", "time"),
        Column("started_at", "time"),
        Column("completed_at", "time"),
        Column("total_recipients"),
        Column("sent_count"),
        Column("failed_count"),
        *_TIMES,
        _DELETED,
    ),
)
_CAMPAIGN = Join("campaigns", on="campaign_id")
RECIPIENTS = Table(
    "campaign_recipients",
    (
        Column("id"),
        Column("campaign_id"),
        Column("contact_id"),
        Column("status"),
        Column("sent_at", "time"),
        Column("delivered_at", "time"),
        Column("read_at", "time"),
        Column("failed_at", "time"),
        Column("error_message"),
        Column("message_data", "json"),
        *_TIMES,
        Column("tenant_id", join=_CAMPAIGN),
    ),
)
_CONTACT = Join("contacts", on="contact_id")
HISTORY = Table(
    "messages_history",
    (
        Column("id"),
        Column("tenant_id"),
        Column("whatsapp_instance_id"),
        Column("contact_id"),
        Column("message_id"),
        Column("chat_id"),
        Column("direction"),
        Column("type"),
        Column("content"),
        Column("metadata", "json"),
        Column("status"),
        Column("sent_at", "time"),
        Column("delivered_at", "time"),
        Column("read_at", "time"),
        Column("created_at", "time"),
        Column("contact_phone", also=("phone_number",), join=_CONTACT),
        Column("contact_name", also=("name",), join=_CONTACT),
    ),
    also=("message_history", "MessageHistory"),
)
WEBHOOKS = Table(
    "webhooks",
    (
        Column("id"),
        Column("tenant_id"),
        Column("name"),
        Column("url"),
        Column("events", "json"),
        Column("secret"),
        Column("is_active"),
        *_TIMES,
        _DELETED,
    ),
)
_WEBHOOK = Join("webhooks", on="webhook_id")
WEBHOOK_LOGS = Table(
    "webhook_logs",
    (
        Column("id"),
        Column("webhook_id"),
        Column("event"),
        Column("payload", "json"),
        Column("response"),
        Column("status_code"),
        Column("success"),
        Column("error_message"),
        Column("attempt_count"),
        Column("created_at", "time"),
        Column("completed_at", "time"),
        Column("tenant_id", join=_WEBHOOK),
    ),
)

CAMPAIGN_STATUSES: Final = {
    **same(("draft", "scheduled", "running", "paused", "completed", "canceled", "failed")),
    "cancelled": "canceled", "active": "running", "sending": "running", "in_progress": "running",
    "processing": "running", "done": "completed", "finished": "completed", "sent": "completed", "stopped": "canceled",
}  # fmt: skip
RECIPIENT_STATUSES: Final = {
    **same(("pending", "queued", "sent", "delivered", "read", "failed", "skipped", "canceled")),
    "cancelled": "canceled", "sending": "pending", "processing": "pending", "error": "failed",
}  # fmt: skip
WAS_SENT: Final = {
    **same(("sent", "delivered", "read", "failed", "pending")),
    "queued": "pending", "sending": "pending", "server_ack": "sent", "delivery_ack": "delivered", "seen": "read",
    "played": "read", "error": "failed", "undelivered": "failed", "received": "sent",
}  # fmt: skip
