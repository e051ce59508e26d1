-- A WhatsApp module as its Prisma migration makes it: quoted camelCase columns, enums, times without a zone.

CREATE TYPE "WhatsAppSessionState" AS ENUM ('IDLE', 'BROWSING_CATEGORIES', 'CHECKOUT');
CREATE TYPE "WhatsAppMessageDirection" AS ENUM ('INBOUND', 'OUTBOUND');
CREATE TABLE whatsapp_settings (
    id text PRIMARY KEY, "apiKey" text NOT NULL, "phoneNumberId" text NOT NULL, "businessId" text NOT NULL,
    "accessToken" text NOT NULL, "webhookToken" text NOT NULL, "webhookUrl" text, "isActive" boolean NOT NULL,
    "lastUpdatedAt" timestamp(3) NOT NULL, "createdAt" timestamp(3) NOT NULL DEFAULT now()
);
CREATE TABLE whatsapp_sessions (
    id text PRIMARY KEY, "phoneNumber" text NOT NULL UNIQUE, "customerProfileId" text,
    state "WhatsAppSessionState" NOT NULL DEFAULT 'IDLE', "contextData" jsonb, "lastMessageAt" timestamp(3) NOT NULL,
    "createdAt" timestamp(3) NOT NULL, "updatedAt" timestamp(3) NOT NULL
);
CREATE TABLE whatsapp_messages (
    id text PRIMARY KEY, "sessionId" text NOT NULL, "messageId" text NOT NULL UNIQUE,
    direction "WhatsAppMessageDirection" NOT NULL, content text NOT NULL, "messageType" text NOT NULL DEFAULT 'text',
    metadata jsonb, "createdAt" timestamp(3) NOT NULL
);
INSERT INTO whatsapp_settings VALUES
    ('00000000-0000-4000-8000-0000000000a1', 'the-api-key', '109876543210', 'business-1', 'the-access-token',
        'the-webhook-token', 'https://shop.example.com/hook', true, '2026-01-02', '2026-01-01'),
    ('00000000-0000-4000-8000-0000000000a2', 'old', '100000000000', 'business-1', 'old', 'old', NULL, false,
        '2025-01-02', '2025-01-01');
-- Every third session's id is no UUID.
INSERT INTO whatsapp_sessions
SELECT CASE WHEN n % 3 = 0 THEN 'session-' || n
        ELSE lpad(n::text, 32, '00000000000040008000000000000000')::uuid::text END,
    '52155' || lpad(n::text, 8, '0'), 'profile-' || n,
    (ARRAY['IDLE', 'BROWSING_CATEGORIES', 'CHECKOUT'])[1 + n % 3]::"WhatsAppSessionState", jsonb_build_object('cart', n),
    '2026-02-01 10:00', '2026-01-01 10:00', '2026-02-01 10:00'
FROM generate_series(1, 90) n;
INSERT INTO whatsapp_messages
SELECT lpad((n * 10 + m)::text, 32, '00000000000040009000000000000000')::uuid::text,
    CASE WHEN n % 3 = 0 THEN 'session-' || n
        ELSE lpad(n::text, 32, '00000000000040008000000000000000')::uuid::text END,
    'wamid.' || n || '.' || m, (ARRAY['INBOUND', 'OUTBOUND'])[1 + (m + 1) % 2]::"WhatsAppMessageDirection", 'message ' || m,
    (ARRAY['text', 'interactive', 'image', 'hologram'])[m], NULL, '2026-02-01 09:00'::timestamp + m * interval '1 minute'
FROM generate_series(1, 90) n, generate_series(1, 4) m;
-- What years leave behind: a person under both ways to write a number, a number that is none, a message of the future.
INSERT INTO whatsapp_sessions VALUES
    ('00000000-0000-4000-a000-000000000001', '525500000001', NULL, 'CHECKOUT', NULL, '2026-02-01', '2026-01-05', '2026-02-01'),
    ('00000000-0000-4000-a000-000000000002', 'somebody', NULL, 'IDLE', NULL, '2026-02-01', '2026-01-01', '2026-02-01');
INSERT INTO whatsapp_messages VALUES
    ('00000000-0000-4000-b000-000000000001', '00000000-0000-4000-a000-000000000001', 'wamid.same', 'INBOUND', 'it is me', 'text', NULL, '2026-02-01 09:30'),
    ('00000000-0000-4000-b000-000000000002', '00000000-0000-4000-a000-000000000002', 'wamid.nobody', 'INBOUND', 'lost', 'text', NULL, '2026-02-01 09:30'),
    ('00000000-0000-4000-b000-000000000003', '00000000-0000-4000-8000-000000000001', 'wamid.future', 'INBOUND', 'soon', 'text', '[1, 2]', '2999-01-01');
