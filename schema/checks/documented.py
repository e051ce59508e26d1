"""Checks what the documents of the systems that Palomar replaces promise, and runs their verification queries."""

from typing import Final

from schema.checks.check import REPAIR, Check

_RELATIONS = "SELECT n || ' is missing' FROM unnest(%s::text[]) AS n WHERE to_regclass('public.' || n) IS NULL"
_COLUMNS = """
SELECT n || ' is missing' FROM unnest(%s::text[]) AS n WHERE NOT EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = to_regclass('public.' || split_part(n, '.', 1)) AND attname = split_part(n, '.', 2)
        AND NOT attisdropped)
"""
# Of several columns: name, type, and the beginning of the default where there is to be one.
_COLUMNS_AS_DOCUMENTED = """
SELECT format('%%s is %%s with default %%s', e.name, coalesce(c.data_type, 'missing'), coalesce(c.column_default, '–'))
FROM unnest(%s::text[], %s::text[], %s::text[]) AS e (name, type, starts)
LEFT JOIN information_schema.columns c
    ON c.table_schema = 'public' AND c.table_name || '.' || c.column_name = e.name
WHERE c.data_type IS DISTINCT FROM e.type OR NOT coalesce(c.column_default, '') LIKE e.starts || '%%'
"""
_CONSTRAINTS = """
SELECT n || ' is missing' FROM unnest(%s::text[]) AS n WHERE NOT EXISTS (
    SELECT FROM pg_constraint
    WHERE conrelid = to_regclass('public.' || split_part(n, '.', 1)) AND conname = split_part(n, '.', 2))
"""
_TRIGGERS = """
SELECT n || CASE WHEN t.tgname IS NULL THEN ' is missing' WHEN t.tgenabled = 'D' THEN ' is disabled'
    ELSE ' runs ' || t.tgfoid::regproc END
FROM unnest(%s::text[], %s::text[]) AS e (n, function)
LEFT JOIN pg_trigger t
    ON t.tgrelid = to_regclass('public.' || split_part(n, '.', 1)) AND t.tgname = split_part(n, '.', 2)
WHERE t.tgname IS NULL OR t.tgenabled = 'D' OR t.tgfoid::regproc::text <> e.function
"""
_INDEXES = """
SELECT n || CASE WHEN i.indexrelid IS NULL THEN ' is missing' ELSE ' is invalid' END
FROM unnest(%s::text[]) AS n LEFT JOIN pg_index i ON i.indexrelid = to_regclass('public.' || n)
WHERE i.indexrelid IS NULL OR NOT i.indisvalid
"""
_FUNCTIONS = """
SELECT n || ' is missing' FROM unnest(%s::text[]) AS n WHERE to_regprocedure('public.' || n) IS NULL
"""
_ROW_SECURITY = """
SELECT n || ' has no row level security' FROM unnest(%s::text[]) AS n
LEFT JOIN pg_tables t ON t.schemaname = 'public' AND t.tablename = n
WHERE t.rowsecurity IS NOT TRUE
"""

_PROVIDERS = """
SELECT p || ' is not counted' FROM unnest(ARRAY['kommo', 'twilio', 'meta']) AS p
WHERE p NOT IN (SELECT provider FROM public.active_conversations_by_provider)
"""
# The fifth document's fields; those of `campaigns` and the rest of a tenant's own are named as its users name them.
_GUIDE_FIELDS: Final = {
    "contacts": "id tenant_id phone_number name is_active created_at updated_at deleted_at",
    "groups": "id tenant_id name description is_active created_at updated_at deleted_at",
    "group_contacts": "group_id contact_id created_at",
    "message_templates": "id tenant_id name content variables is_active created_at updated_at deleted_at",
    "campaigns": "id tenant_id whatsapp_instance_id message_template_id name message status scheduled_at started_at "
    "completed_at total_recipients sent_count failed_count created_at updated_at deleted_at",
    "campaign_recipients": "id campaign_id contact_id status sent_at delivered_at read_at failed_at error_message "
    "message_data created_at updated_at",
    "messages_history": "id tenant_id whatsapp_instance_id contact_id message_id chat_id direction type content "
    "metadata status sent_at delivered_at read_at created_at",
    "webhooks": "id tenant_id name url events secret is_active created_at updated_at deleted_at",
    "webhook_logs": "id webhook_id event payload response status_code success error_message attempt_count created_at "
    "completed_at",
}
_MODULE_FIELDS: Final = {
    "whatsapp_settings": "id api_key phone_number_id business_id access_token webhook_token webhook_url is_active "
    "last_updated_at created_at",
    "whatsapp_sessions": "id phone_number customer_profile_id state context_data last_message_at created_at updated_at",
    "whatsapp_messages": "id session_id message_id direction content message_type metadata created_at",
}


def documented_checks() -> list[Check]:
    """A group of checks for each document."""
    twilio, guide, setup = "Twilio migration", "Twilio integration guide", "database setup"
    module, contacts = "WhatsApp module", "contacts and campaigns"
    return [
        Check(
            twilio,
            "columns of kommo_conversations and kommo_messages",
            _COLUMNS_AS_DOCUMENTED,
            (
                ["kommo_conversations.provider", "kommo_conversations.last_user_message_at", "kommo_messages.provider"],
                ["text", "timestamp with time zone", "text"],
                ["'kommo'", "", "'kommo'"],
            ),
            REPAIR,
        ),
        Check(
            twilio,
            "constraints of conversations",
            _CONSTRAINTS,
            (["conversations.check_valid_provider", "conversations.check_kommo_requires_chat_id"],),
            REPAIR,
        ),
        Check(
            twilio,
            "trigger_update_last_user_message",
            _TRIGGERS,
            (["messages.trigger_update_last_user_message"], ["update_last_user_message_timestamp"]),
            "Without it no window opens. " + REPAIR,
        ),
        Check(twilio, "active_conversations_by_provider counts all providers", _PROVIDERS, (), REPAIR),
        Check(
            twilio,
            "indexes",
            _INDEXES,
            (
                [
                    "idx_twilio_conversation_phone",
                    "idx_conversations_provider_status",
                    "idx_conversations_provider_phone",
                    "idx_messages_provider",
                ],
            ),
            REPAIR,
        ),
        Check(
            guide,
            "functions of the 24-hour window",
            _FUNCTIONS,
            (
                [
                    "is_within_24_hour_window(timestamptz)",
                    "check_whatsapp_24_hour_window(uuid)",
                    "conversations_needing_templates(text)",
                ],
            ),
            REPAIR,
        ),
        Check(setup, "tables", _RELATIONS, (["conversations", "messages", "customers", "distributors"],), REPAIR),
        Check(setup, "row level security", _ROW_SECURITY, (["conversations", "messages"],), REPAIR),
        Check(
            setup,
            "indexes",
            _INDEXES,
            (
                [
                    "conversations_contact",
                    "conversations_pkey",
                    "conversations_address",
                    "conversations_latest",
                    "messages_created",
                    "messages_ai_processing",
                    "messages_external",
                ],
            ),
            REPAIR,
        ),
        Check(module, "whatsapp_settings, whatsapp_sessions, whatsapp_messages", *_fields(_MODULE_FIELDS), REPAIR),
        Check(contacts, "the nine tables and their fields", *_fields(_GUIDE_FIELDS), REPAIR),
    ]  # fmt: skip


def _fields(tables: dict[str, str]) -> tuple[str, tuple[list[str]]]:
    return _COLUMNS, ([f"{table}.{field}" for table, fields in tables.items() for field in fields.split()],)
