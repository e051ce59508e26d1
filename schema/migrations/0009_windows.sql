-- WhatsApp's 24-hour window in SQL. One rule with shared/window.py, which says why: open for 24 hours less two minutes.
-- `active_conversations_by_provider.within_24h` counts something else, the full 24 hours: who has written, not who may
-- still be written to.

-- When free-form messages stop being admitted; null where there never was a window. Hours and not days: a day of the
-- session's time zone has 23 or 25 hours twice a year.
CREATE FUNCTION window_closes_at(last_user_message_at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE SECURITY INVOKER AS $$
    SELECT last_user_message_at + (interval '24 hours' - interval '2 minutes')
$$;

-- Whether a free-form message may leave at that moment. A customer's message is never later than its arrival, so a time
-- in the future is a clock that runs ahead by a little: open.
CREATE FUNCTION window_is_open(last_user_message_at timestamptz, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SECURITY INVOKER AS $$
    SELECT coalesce(at < window_closes_at(last_user_message_at), false)
$$;

-- The same by the statement's clock; now() would be the time at which a long transaction began.
CREATE FUNCTION is_within_24_hour_window(last_user_message_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SECURITY INVOKER AS $$
    SELECT window_is_open(last_user_message_at, statement_timestamp())
$$;

-- One row for every id. `open_until` has passed where the window has closed, and is null where the customer never wrote
-- and on channels without a window (SMS, e-mail), where sending is always allowed. A conversation that the session's
-- tenant doesn't have may not be written to.
CREATE FUNCTION check_whatsapp_24_hour_window(
    conversation_id uuid,
    OUT can_send_proactive boolean, OUT open_until timestamptz, OUT last_user_message_at timestamptz
) LANGUAGE sql STABLE SECURITY INVOKER AS $$
    SELECT
        coalesce(found.kind <> 'whatsapp' OR is_within_24_hour_window(found.last_user_message_at), false),
        CASE WHEN found.kind = 'whatsapp' THEN window_closes_at(found.last_user_message_at) END,
        found.last_user_message_at
    FROM (VALUES (conversation_id)) AS asked (id) LEFT JOIN (
        SELECT c.id, c.last_user_message_at, ch.kind
        FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
        WHERE c.tenant_id = current_tenant() AND c.deleted_at IS NULL
    ) AS found ON found.id = asked.id
$$;

-- The session's tenant's active conversations on WhatsApp that only an approved template can reach now.
CREATE FUNCTION conversations_needing_templates(provider text) RETURNS SETOF conversations
LANGUAGE sql STABLE SECURITY INVOKER AS $$
    SELECT c.*
    FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
    WHERE c.tenant_id = current_tenant() AND c.provider = conversations_needing_templates.provider
        AND c.status = 'active' AND c.deleted_at IS NULL AND ch.kind = 'whatsapp'
        AND NOT is_within_24_hour_window(c.last_user_message_at)
    ORDER BY c.last_message_at DESC, c.id
$$;
