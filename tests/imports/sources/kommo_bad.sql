-- And what years of use leave behind.

INSERT INTO kommo_conversations (id, provider, kommo_chat_id, phone, contact_name, created_at) VALUES
    ('00000000-0000-4000-a000-000000000001', 'viber', NULL, '+5215599000001', 'of nowhere', now()),
    ('00000000-0000-4000-a000-000000000002', 'kommo', NULL, '+5215599000002', 'no chat', now()),
    ('00000000-0000-4000-a000-000000000003', 'twilio', NULL, 'call me', 'no number', now()),
    ('00000000-0000-4000-a000-000000000004', 'kommo', 'chat-x', 'unknown', 'a chat is enough', now()),
    -- the person of conversation 1, written without the 1
    ('00000000-0000-4000-a000-000000000005', 'twilio', NULL, '+525500000001', 'Person 1 again', now() - interval '9 days'),
    ('00000000-0000-4000-a000-000000000006', 'twilio', NULL, '+5215599000006', 'of the future', now() - interval '9 days');
INSERT INTO kommo_messages (id, conversation_id, provider, role, content, metadata, created_at) VALUES
    ('00000000-0000-4000-b000-000000000001', '00000000-0000-4000-a000-000000000001', 'viber', 'user', 'lost', NULL, now()),
    ('00000000-0000-4000-b000-000000000002', 'ffffffff-0000-4000-a000-000000000001', 'twilio', 'user', 'orphan', NULL, now()),
    ('00000000-0000-4000-b000-000000000003', '00000000-0000-4000-a000-000000000004', 'kommo', 'robot', '?', NULL, now()),
    ('00000000-0000-4000-b000-000000000004', '00000000-0000-4000-a000-000000000004', 'kommo', 'user', 'a NUL',
        '{"note": "a\u0000b"}', now() - interval '8 days'),
    ('00000000-0000-4000-b000-000000000005', '00000000-0000-4000-a000-000000000004', 'kommo', 'system',
        repeat('x', 150000), NULL, now() - interval '8 days'),
    ('00000000-0000-4000-b000-000000000006', '00000000-0000-4000-a000-000000000005', 'twilio', 'user', 'the same person',
        NULL, now() - interval '8 days'),
    ('00000000-0000-4000-b000-000000000007', '00000000-0000-4000-a000-000000000006', 'twilio', 'user', 'tomorrow', NULL,
        now() + interval '1 day'),
    ('00000000-0000-4000-b000-000000000008', '00000000-0000-4000-a000-000000000006', 'twilio', 'user', 'at last',
        '{"number": 1e200000}', 'infinity');
