-- Two distributors with their customers; columns by the usual names, as the document lists none.

CREATE TABLE distributors (id uuid PRIMARY KEY, name text, created_at timestamptz DEFAULT now());
CREATE TABLE customers (
    id uuid PRIMARY KEY, distributor_id uuid, name text, phone text, email text, created_at timestamptz
);
CREATE TABLE conversations (
    id uuid PRIMARY KEY, customer_id uuid, distributor_id uuid, channel text NOT NULL, ai_context_summary text,
    unread_count integer NOT NULL DEFAULT 0, last_message_at timestamptz, created_at timestamptz NOT NULL
);
CREATE TABLE messages (
    id uuid PRIMARY KEY, conversation_id uuid, content text, message_type text NOT NULL, is_from_customer boolean,
    status text, external_message_id text, ai_processed boolean, created_at timestamptz NOT NULL
);
INSERT INTO distributors (id, name) VALUES
    ('00000000-0000-4000-8000-0000000000d1', 'North'), ('00000000-0000-4000-8000-0000000000d2', '');
-- Customer n and their conversation n, of each distributor 60; every fifth writes SMS, every seventh e-mail.
INSERT INTO customers (id, distributor_id, name, phone, email, created_at)
SELECT lpad(n::text, 32, '0000000000004000c000000000000000')::uuid,
    ('00000000-0000-4000-8000-0000000000d' || 1 + n % 2)::uuid, 'Customer ' || n, '+1415555' || lpad(n::text, 4, '0'),
    'c' || n || '@Example.com', now() - interval '200 days'
FROM generate_series(1, 120) n;
INSERT INTO conversations
SELECT lpad(n::text, 32, '00000000000040008000000000000000')::uuid,
    lpad(n::text, 32, '0000000000004000c000000000000000')::uuid,
    ('00000000-0000-4000-8000-0000000000d' || 1 + n % 2)::uuid,
    CASE WHEN n % 7 = 0 THEN 'EMAIL' WHEN n % 5 = 0 THEN 'SMS' ELSE 'WHATSAPP' END, 'summary ' || n, n % 4,
    now() - interval '1 day', now() - interval '100 days'
FROM generate_series(1, 120) n;
INSERT INTO messages
SELECT lpad((n * 10 + m)::text, 32, '00000000000040009000000000000000')::uuid,
    lpad(n::text, 32, '00000000000040008000000000000000')::uuid, 'message ' || m, (ARRAY['TEXT', 'MEDIA', 'AUDIO'])[m],
    m <> 2, (ARRAY['received', 'delivered', 'received'])[m], 'SM' || n || '-' || m, m = 1,
    date_trunc('second', now()) - interval '30 hours' - n * interval '1 minute' + m * interval '1 second'
FROM generate_series(1, 120) n, generate_series(1, 3) m;
-- What years leave behind.
INSERT INTO customers (id, distributor_id, name, phone, email, created_at) VALUES
    ('00000000-0000-4000-c000-00000000f001', '00000000-0000-4000-8000-0000000000d1', 'no address', NULL, NULL, now()),
    ('00000000-0000-4000-c000-00000000f002', '00000000-0000-4000-8000-0000000000d9', 'of nobody', '+14155550001', NULL, now()),
    ('00000000-0000-4000-c000-00000000f003', '00000000-0000-4000-8000-0000000000d1', 'twice', '+1 (415) 555-0002', NULL, now());
INSERT INTO conversations VALUES
    ('00000000-0000-4000-8000-00000000f001', '00000000-0000-4000-c000-00000000f001', '00000000-0000-4000-8000-0000000000d1', 'SMS', NULL, 0, now(), now()),
    ('00000000-0000-4000-8000-00000000f002', NULL, '00000000-0000-4000-8000-0000000000d1', 'SMS', NULL, 0, now(), now()),
    ('00000000-0000-4000-8000-00000000f003', '00000000-0000-4000-c000-000000000002', '00000000-0000-4000-8000-0000000000d1', 'FAX', NULL, 0, now(), now());
INSERT INTO messages VALUES
    ('00000000-0000-4000-9000-00000000f001', '00000000-0000-4000-8000-000000000002', 'twice', 'TEXT', true, NULL, 'SM2-1', true, now()),
    ('00000000-0000-4000-9000-00000000f002', '00000000-0000-4000-8000-000000000002', 'never sent', 'TEXT', false, 'queued', NULL, false, now()),
    ('00000000-0000-4000-9000-00000000f003', '00000000-0000-4000-8000-000000000002', 'refused', 'POLL', false, 'failed', repeat('9', 4000), false, now()),
    ('00000000-0000-4000-9000-00000000f004', '00000000-0000-4000-8000-00000000f002', 'orphan', 'TEXT', true, NULL, NULL, NULL, now()),
    ('00000000-0000-4000-9000-00000000f005', '00000000-0000-4000-8000-000000000002', 'whose?', 'TEXT', NULL, NULL, NULL, NULL, now());
