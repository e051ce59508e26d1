-- What it holds as a rule.

INSERT INTO kommo_conversations (id, provider, kommo_chat_id, phone, contact_name, status, last_message_at, metadata,
    created_at, updated_at)
SELECT lpad(n::text, 32, '00000000000040008000000000000000')::uuid,
    CASE WHEN n <= 60 THEN 'twilio' WHEN n <= 100 THEN 'kommo' ELSE 'meta' END,
    CASE WHEN n BETWEEN 61 AND 100 THEN 'chat-' || n END,
    '+52155' || lpad(n::text, 8, '0'), 'Person ' || n, CASE WHEN n % 10 = 0 THEN 'escalated' ELSE 'active' END,
    date_trunc('second', now()) - n * interval '1 hour' - interval '10 minutes', json_build_object('lead', n),
    date_trunc('second', now()) - interval '90 days', now() - interval '1 hour'
FROM generate_series(1, 110) n;
INSERT INTO kommo_messages (id, conversation_id, provider, role, content, message_type, created_at)
SELECT lpad((n * 10 + m)::text, 32, '00000000000040009000000000000000')::uuid,
    lpad(n::text, 32, '00000000000040008000000000000000')::uuid,
    CASE WHEN n <= 60 THEN 'twilio' WHEN n <= 100 THEN 'kommo' ELSE 'meta' END,
    CASE WHEN m % 2 = 1 THEN 'user' ELSE 'assistant' END, 'message ' || m || ' of ' || n,
    CASE WHEN m = 1 THEN 'image' ELSE 'text' END,
    date_trunc('second', now()) - n * interval '1 hour' - interval '20 minutes' - (3 - m) * interval '10 minutes'
FROM generate_series(1, 110) n, generate_series(1, 4) m;
