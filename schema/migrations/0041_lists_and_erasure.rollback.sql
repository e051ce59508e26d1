-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS webhooks_latest;
DROP INDEX CONCURRENTLY IF EXISTS campaigns_latest;
DROP INDEX CONCURRENTLY IF EXISTS message_templates_latest;
DROP INDEX CONCURRENTLY IF EXISTS groups_latest;
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
    WHERE kept.tenant_id = tenant AND kept.id = stays AND gone.tenant_id = tenant AND gone.id = goes
$$;
DROP TABLE IF EXISTS erasure_requests;
ALTER TABLE campaigns DROP COLUMN IF EXISTS recipient_ids, DROP COLUMN IF EXISTS recipient_type;
