-- transactional: false

-- Who was split because a number was written in two ways (0021) is one contact again. A row at a time, each its own
-- transaction: nobody waits for long, and what was broken off goes on where it was. Of two conversations that one person
-- has with a channel both stay: webhooks find the one with the canonical address.

DO $$
DECLARE
    tenant uuid;
    of_address record;
    talk record;
    mine uuid;
    holder uuid;
BEGIN
    SET LOCAL ROLE palomar_worker;
    FOR tenant IN SELECT id FROM tenants ORDER BY id LOOP
        SET LOCAL ROLE palomar_worker;
        FOR of_address IN
            SELECT canonical, canonical_phone(given) AS right_one FROM contact_addresses
            WHERE tenant_id = tenant AND kind = 'phone' AND canonical_phone(given) <> canonical ORDER BY canonical
        LOOP
            SET LOCAL ROLE palomar_worker;
            INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id, created_at)
            SELECT tenant_id, kind, of_address.right_one, given, contact_id, created_at FROM contact_addresses
            WHERE tenant_id = tenant AND kind = 'phone' AND canonical = of_address.canonical
            ON CONFLICT DO NOTHING;
            DELETE FROM contact_addresses
            WHERE tenant_id = tenant AND kind = 'phone' AND canonical = of_address.canonical
            RETURNING contact_id INTO mine;
            SELECT contact_id INTO holder FROM contact_addresses
            WHERE tenant_id = tenant AND kind = 'phone' AND canonical = of_address.right_one;
            IF mine <> holder THEN
                PERFORM join_contacts(tenant, mine, holder);
            END IF;
            COMMIT;
        END LOOP;

        SET LOCAL ROLE palomar_worker;
        FOR talk IN
            SELECT id, canonical_phone(phone) AS right_one FROM conversations
            WHERE tenant_id = tenant AND provider <> 'kommo' AND canonical_phone(phone) <> address
                AND canonical_phone(address) IS NOT NULL
            ORDER BY id
        LOOP
            SET LOCAL ROLE palomar_worker;
            BEGIN
                UPDATE conversations SET address = talk.right_one WHERE tenant_id = tenant AND id = talk.id;
            EXCEPTION WHEN unique_violation THEN
                NULL;  -- the person's other conversation with this channel has it
            END;
            COMMIT;
        END LOOP;

        SET LOCAL ROLE palomar_worker;
        FOR talk IN
            SELECT c.id, min(a.contact_id::text)::uuid AS contact_id FROM conversations c
            JOIN contact_addresses a ON a.tenant_id = c.tenant_id AND a.canonical = c.address
                AND a.kind IN ('phone', 'user_id', 'email', 'kommo_chat')
            WHERE c.tenant_id = tenant AND c.contact_id IS NULL GROUP BY c.id ORDER BY c.id
        LOOP
            SET LOCAL ROLE palomar_worker;
            UPDATE conversations SET contact_id = talk.contact_id
            WHERE tenant_id = tenant AND id = talk.id AND contact_id IS NULL
                AND EXISTS (SELECT FROM contacts WHERE tenant_id = tenant AND id = talk.contact_id);
            COMMIT;
        END LOOP;
        COMMIT;
    END LOOP;
END
$$;
