DROP TRIGGER IF EXISTS consents_opt_out ON consents;
DROP FUNCTION IF EXISTS note_opt_out();
DROP FUNCTION IF EXISTS note_answer(uuid, uuid, uuid, timestamptz);
DROP FUNCTION IF EXISTS has_recipients(uuid[]);
CREATE OR REPLACE FUNCTION keep_columns(tenant uuid, stays uuid, goes uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE contacts AS kept SET name = coalesce(kept.name, gone.name),
        phone_number = coalesce(kept.phone_number, gone.phone_number), is_active = kept.is_active AND gone.is_active,
        created_at = least(kept.created_at, gone.created_at),
        metadata = gone.metadata || kept.metadata || CASE
            WHEN jsonb_typeof(gone.metadata -> 'imported') = 'object'
                AND jsonb_typeof(kept.metadata -> 'imported') = 'object'
            THEN jsonb_build_object('imported', (gone.metadata -> 'imported') || (kept.metadata -> 'imported'))
            ELSE '{}' END
    FROM contacts AS gone
    WHERE kept.tenant_id = tenant AND kept.id = stays AND gone.tenant_id = tenant AND gone.id = goes;
    UPDATE campaigns SET recipient_ids = array_replace(recipient_ids, goes, stays)
    WHERE tenant_id = tenant AND goes = ANY (recipient_ids);
    INSERT INTO erasure_requests (tenant_id, contact_id)
    SELECT tenant, stays FROM erasure_requests AS r WHERE r.tenant_id = tenant AND r.contact_id = goes
    ON CONFLICT DO NOTHING;
$$;
DROP TABLE IF EXISTS campaign_answers;
DROP TABLE IF EXISTS messaging_uses;
ALTER TABLE campaigns DROP COLUMN IF EXISTS looks;
