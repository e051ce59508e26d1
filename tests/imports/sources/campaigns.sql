-- Two tenants with campaigns: Drizzle's snake_case columns for the document's fields, and no table of tenants.

CREATE TABLE contacts (
    id uuid PRIMARY KEY, tenant_id uuid NOT NULL, phone_number text NOT NULL, name text, is_active boolean DEFAULT true,
    created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now(), deleted_at timestamp
);
CREATE TABLE groups (
    id uuid PRIMARY KEY, tenant_id uuid NOT NULL, name text, description text, is_active boolean DEFAULT true,
    created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now(), deleted_at timestamp
);
CREATE TABLE group_contacts (
    group_id uuid, contact_id uuid, created_at timestamp DEFAULT now(), PRIMARY KEY (group_id, contact_id)
);
CREATE TABLE message_templates (
    id uuid PRIMARY KEY, tenant_id uuid NOT NULL, name text, content text, variables jsonb, is_active boolean DEFAULT true,
    created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now(), deleted_at timestamp
);
CREATE TABLE campaigns (
    id uuid PRIMARY KEY, tenant_id uuid NOT NULL, whatsapp_instance_id uuid NOT NULL, message_template_id uuid, name text,
    message text, status text, scheduled_at timestamp, started_at timestamp, completed_at timestamp,
    total_recipients integer DEFAULT 0, sent_count integer DEFAULT 0, failed_count integer DEFAULT 0,
    created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now(), deleted_at timestamp
);
CREATE TABLE campaign_recipients (
    id uuid PRIMARY KEY, campaign_id uuid NOT NULL, contact_id uuid NOT NULL, status text, sent_at timestamp,
    delivered_at timestamp, read_at timestamp, failed_at timestamp, error_message text, message_data jsonb,
    created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now()
);
CREATE TABLE messages_history (
    id uuid PRIMARY KEY, tenant_id uuid NOT NULL, whatsapp_instance_id uuid NOT NULL, contact_id uuid, message_id text,
    chat_id text, direction text, type text, content text, metadata jsonb, status text, sent_at timestamp,
    delivered_at timestamp, read_at timestamp, created_at timestamp DEFAULT now()
);
CREATE TABLE webhooks (
    id uuid PRIMARY KEY, tenant_id uuid NOT NULL, name text, url text, events text[], secret text,
    is_active boolean DEFAULT true, created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now(),
    deleted_at timestamp
);
CREATE TABLE webhook_logs (
    id uuid PRIMARY KEY, webhook_id uuid NOT NULL, event text, payload jsonb, response jsonb, status_code integer,
    success boolean, error_message text, attempt_count integer DEFAULT 0, created_at timestamp DEFAULT now(),
    completed_at timestamp
);
CREATE FUNCTION an_id(kind text, n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (kind || '0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid
$$;
-- Odd contacts are the tenant 1's, even ones the tenant 2's. Contact n wrote once and was answered twice.
INSERT INTO contacts (id, tenant_id, phone_number, name)
SELECT an_id('c', n), an_id('a', 1 + (n + 1) % 2), '+1415555' || lpad(n::text, 4, '0'), 'Contact ' || n
FROM generate_series(1, 100) n;
INSERT INTO groups (id, tenant_id, name, description) VALUES
    (an_id('9', 1), an_id('a', 1), 'Everybody', 'of tenant 1'), (an_id('9', 2), an_id('a', 2), NULL, NULL);
INSERT INTO group_contacts SELECT an_id('9', 1 + (n + 1) % 2), an_id('c', n) FROM generate_series(1, 100) n;
INSERT INTO message_templates (id, tenant_id, name, content, variables)
VALUES (an_id('7', 1), an_id('a', 1), 'offer', 'Hello {{name}}', '["name"]');
INSERT INTO campaigns (id, tenant_id, whatsapp_instance_id, message_template_id, name, message, status, scheduled_at,
    started_at, total_recipients) VALUES
    (an_id('d', 1), an_id('a', 1), an_id('e', 1), an_id('7', 1), 'Done', 'Hello', 'completed', NULL, now() - interval '2 days', 50),
    (an_id('d', 2), an_id('a', 1), an_id('e', 1), an_id('7', 1), 'Under way', 'Hello', 'running', NULL, now(), 50),
    (an_id('d', 3), an_id('a', 2), an_id('e', 2), NULL, 'Tomorrow', 'Hello', 'scheduled', now() + interval '1 day', NULL, 50);
INSERT INTO campaign_recipients (id, campaign_id, contact_id, status, sent_at, message_data)
SELECT an_id('f', k * 1000 + n), an_id('d', k), an_id('c', n),
    CASE WHEN k = 1 THEN (ARRAY['sent', 'delivered', 'read', 'failed'])[1 + n % 4] WHEN k = 2 AND n < 50 THEN 'sent'
        ELSE 'pending' END, CASE WHEN k < 3 THEN now() - interval '1 day' END, '{"name": "you"}'
FROM generate_series(1, 100) n, generate_series(1, 3) k WHERE (k = 3) = (n % 2 = 0);
INSERT INTO messages_history (id, tenant_id, whatsapp_instance_id, contact_id, message_id, chat_id, direction, type,
    content, status, sent_at, created_at)
SELECT an_id('b', n * 10 + m), an_id('a', 1 + (n + 1) % 2), an_id('e', 1 + (n + 1) % 2),
    CASE WHEN n % 2 = 1 THEN an_id('c', n) END, 'wa-' || n || '-' || m, '1415555' || lpad(n::text, 4, '0') || '@c.us',
    CASE WHEN m = 1 THEN 'inbound' ELSE 'outbound' END, CASE WHEN m = 1 THEN 'ptt' ELSE 'chat' END, 'message ' || m,
    (ARRAY['received', 'read', 'pending'])[m], now() - interval '3 days', now() - interval '3 days' + m * interval '1 minute'
FROM generate_series(1, 100) n, generate_series(1, 3) m;
INSERT INTO webhooks (id, tenant_id, name, url, events, secret) VALUES
    (an_id('8', 1), an_id('a', 1), 'ours', 'https://shop.example.com/in', ARRAY['contact_created', 'campaign_updated'],
        'the-secret'), (an_id('8', 2), an_id('a', 2), 'broken', 'shop.example.com', ARRAY['contact_created'], 'x');
INSERT INTO webhook_logs (id, webhook_id, event, payload, response, status_code, success, attempt_count, completed_at)
SELECT an_id('6', n), an_id('8', 1 + n % 2), 'contact_created', jsonb_build_object('n', n), '{"ok": true}', 200,
    CASE WHEN n <> 4 THEN true END, 1, CASE WHEN n <> 4 THEN now() END FROM generate_series(1, 40) n;
-- What years leave behind: a deleted contact whose number came back, a number that is none, group chats, orphans.
INSERT INTO contacts (id, tenant_id, phone_number, name, deleted_at) VALUES
    (an_id('1', 1), an_id('a', 1), '+5215512345678', 'Before', now()),
    (an_id('c', 500), an_id('a', 1), '+525512345678', 'Again', NULL),
    (an_id('c', 501), an_id('a', 1), 'n/a', 'no number', NULL);
INSERT INTO group_contacts VALUES
    (an_id('9', 1), an_id('1', 1)), (an_id('9', 1), an_id('c', 500)), (an_id('9', 1), an_id('c', 999));
INSERT INTO campaign_recipients (id, campaign_id, contact_id, status) VALUES
    (an_id('f', 9001), an_id('d', 1), an_id('c', 999), 'sent'), (an_id('f', 9002), an_id('d', 1), an_id('c', 1), 'sent');
INSERT INTO messages_history (id, tenant_id, whatsapp_instance_id, message_id, chat_id, direction, type, content) VALUES
    (an_id('b', 9001), an_id('a', 1), an_id('e', 1), 'g-1', '120363000000000000@g.us', 'inbound', 'chat', 'to a group'),
    (an_id('b', 9002), an_id('a', 1), an_id('e', 1), 'g-2', '14155550001@c.us', 'sideways', 'chat', '?'),
    (an_id('b', 9003), an_id('a', 1), an_id('e', 1), 'wa-1-1', '14155550001@c.us', 'inbound', 'chat', 'twice'),
    (an_id('b', 9004), an_id('a', 1), an_id('e', 1), 'g-4', '99887766554433221@lid', 'inbound', 'chat', 'nobody');
