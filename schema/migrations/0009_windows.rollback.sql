DROP FUNCTION conversations_needing_templates(text);
DROP FUNCTION check_whatsapp_24_hour_window(uuid);
DROP FUNCTION is_within_24_hour_window(timestamptz);
DROP FUNCTION window_is_open(timestamptz, timestamptz);
DROP FUNCTION window_closes_at(timestamptz);
