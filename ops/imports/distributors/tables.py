"""The tables of the Database Setup document, as a source may have them, and what their words mean here."""

from typing import Final

from ops.imports.values import same
from shared.store.imports.source import Column, Join, Table

# A channel's kind, and the provider of one that is no channel here yet.
KINDS: Final = {"whatsapp": "twilio", "sms": "twilio", "email": "email"}
STATUSES: Final = {**same(("active", "escalated", "closed")), "open": "active", "archived": "closed"}
AI_STATUSES: Final = {
    **same(("pending", "processing", "completed", "failed", "skipped")),
    "processed": "completed", "done": "completed", "error": "failed", "true": "completed", "false": "pending",
}  # fmt: skip
WAS_SENT: Final = {
    **same(("sent", "delivered", "read", "failed", "pending")),
    "undelivered": "failed", "error": "failed", "queued": "pending", "sending": "pending", "accepted": "pending",
    "received": "sent",
}  # fmt: skip

_CUSTOMER = Join("customers", on="customer_id")
_CONVERSATION = Join("conversations", on="conversation_id")

DISTRIBUTORS = Table(
    "distributors",
    (
        Column("id"),
        Column("name", also=("business_name", "company_name", "company")),
        Column("created_at", "time", needed=False),
    ),
)
CUSTOMERS = Table(
    "customers",
    (
        Column("id"),
        Column("distributor_id"),
        Column("name", also=("full_name", "business_name", "contact_name", "contact_person_name")),
        Column("phone", also=("phone_number", "whatsapp", "mobile")),
        Column("email", needed=False, also=("email_address",)),
        Column("is_active", needed=False, also=("active",)),
        Column("created_at", "time", needed=False),
        Column("deleted_at", "time", needed=False),
    ),
)
CONVERSATIONS = Table(
    "conversations",
    (
        Column("id"),
        Column("customer_id"),
        Column("distributor_id"),
        Column("channel"),
        Column("status", needed=False),
        Column("ai_context_summary"),
        Column("unread_count"),
        Column("last_message_at", "time", needed=False),
        Column(
            "last_user_message_at", "time", needed=False, also=("last_customer_message_at", "last_inbound_message_at")
        ),
        Column("created_at", "time"),
        Column("updated_at", "time", needed=False),
        Column("deleted_at", "time", needed=False),
        Column("metadata", "json", needed=False),
        Column("customer_phone", also=("phone", "phone_number", "whatsapp", "mobile"), join=_CUSTOMER),
        Column("customer_email", needed=False, also=("email", "email_address"), join=_CUSTOMER),
        Column(
            "customer_name",
            needed=False,
            also=("name", "full_name", "business_name", "contact_name", "contact_person_name"),
            join=_CUSTOMER,
        ),
    ),
)
MESSAGES = Table(
    "messages",
    (
        Column("id"),
        Column("conversation_id"),
        Column("content", also=("body", "text")),
        Column("message_type", also=("type",)),
        Column("direction", also=("sender_type", "sender", "role", "is_from_customer")),
        Column("external_message_id", also=("external_id", "message_sid", "twilio_message_sid")),
        Column("status", needed=False),
        Column("error_message", needed=False),
        Column("ai_processing_status", needed=False, also=("ai_status", "ai_processed")),
        Column("ai_processed_at", "time", needed=False),
        Column("ai_metadata", "json", needed=False, also=("ai_extracted_data", "ai_response")),
        Column("metadata", "json", needed=False),
        Column("created_at", "time", also=("timestamp", "sent_at")),
        Column("distributor_id", join=_CONVERSATION),
    ),
)
