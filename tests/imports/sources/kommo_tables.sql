-- A Kommo system after its migration to Twilio.

CREATE TABLE kommo_conversations (
    id uuid PRIMARY KEY, provider text NOT NULL DEFAULT 'kommo', kommo_chat_id text, phone text, contact_name text,
    status text NOT NULL DEFAULT 'active', last_message_at timestamptz, last_user_message_at timestamptz,
    metadata json, created_at timestamptz NOT NULL, updated_at timestamptz
);
CREATE TABLE kommo_messages (
    id uuid PRIMARY KEY, conversation_id uuid NOT NULL, provider text NOT NULL DEFAULT 'kommo', role text NOT NULL,
    content text NOT NULL, message_type text, metadata json, created_at timestamptz NOT NULL
);
