CREATE OR REPLACE FUNCTION refuse_due_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING
        MESSAGE = format('due_at: a message that is %L is a record, and owes nothing', NEW.status),
        HINT = 'What Palomar is to send is queued by queue_message(), or through its API.', COLUMN = 'due_at';
END
$$;
CREATE OR REPLACE TRIGGER messages_record_not_due BEFORE UPDATE OF due_at ON messages FOR EACH ROW
    WHEN (NEW.due_at IS NOT NULL AND NEW.status NOT IN ('queued', 'held', 'ready', 'sending', 'unknown')
        AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION refuse_due_record();

CREATE OR REPLACE FUNCTION refuse_changed_send() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF ROW(OLD.due_at, OLD.error_code, OLD.claim_id, OLD.claimed_at, OLD.unknown_at, OLD.absent_at, OLD.attempts,
            OLD.called_to, OLD.called_from, OLD.called_as_of)
        IS DISTINCT FROM
        ROW(NEW.due_at, NEW.error_code, NEW.claim_id, NEW.claimed_at, NEW.unknown_at, NEW.absent_at, NEW.attempts,
            NEW.called_to, NEW.called_from, NEW.called_as_of)
    THEN
        RAISE check_violation USING
            MESSAGE = format('due_at: a message that is %L waits for its outcome, and not for SQL', OLD.status),
            HINT = 'palomar unknown list', COLUMN = 'due_at';
    END IF;
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER messages_send_is_ours BEFORE UPDATE ON messages FOR EACH ROW
    WHEN (OLD.status IN ('sending', 'unknown') AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION refuse_changed_send();

SELECT protect_functions();

ALTER TABLE messages DROP CONSTRAINT IF EXISTS check_shapes, ADD CONSTRAINT check_shapes CHECK (
    jsonb_typeof(media) = 'array'
    AND (coalesce(jsonb_typeof(template), 'null') = 'null' OR (jsonb_typeof(template -> 'name') = 'string'
        AND jsonb_typeof(template -> 'variables') = 'object')) IS TRUE
    AND (coalesce(jsonb_typeof(sent_as), 'null') = 'null' OR (jsonb_typeof(sent_as -> 'name') = 'string'
        AND jsonb_typeof(sent_as -> 'variables') = 'object')) IS TRUE) NOT VALID;
ALTER TABLE messages VALIDATE CONSTRAINT check_shapes;
ALTER TABLE messages DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        admitted_at >= '0002-01-01 00:00+00' AND admitted_at <= '9999-01-01 00:00+00'
        AND ai_processed_at >= '0002-01-01 00:00+00' AND ai_processed_at <= '9999-01-01 00:00+00'
        AND claimed_at >= '0002-01-01 00:00+00' AND claimed_at <= '9999-01-01 00:00+00'
        AND created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND delivered_at >= '0002-01-01 00:00+00' AND delivered_at <= '9999-01-01 00:00+00'
        AND due_at >= '0002-01-01 00:00+00' AND due_at <= '9999-01-01 00:00+00'
        AND expires_at >= '0002-01-01 00:00+00' AND expires_at <= '9999-01-01 00:00+00'
        AND failed_at >= '0002-01-01 00:00+00' AND failed_at <= '9999-01-01 00:00+00'
        AND not_before >= '0002-01-01 00:00+00' AND not_before <= '9999-01-01 00:00+00'
        AND provider_timestamp >= '0002-01-01 00:00+00' AND provider_timestamp <= '9999-01-01 00:00+00'
        AND read_at >= '0002-01-01 00:00+00' AND read_at <= '9999-01-01 00:00+00'
        AND received_at >= '0002-01-01 00:00+00' AND received_at <= '9999-01-01 00:00+00'
        AND sent_at >= '0002-01-01 00:00+00' AND sent_at <= '9999-01-01 00:00+00'
        AND unknown_at >= '0002-01-01 00:00+00' AND unknown_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00'
        AND window_refused_at >= '0002-01-01 00:00+00' AND window_refused_at <= '9999-01-01 00:00+00') NOT VALID;
ALTER TABLE messages VALIDATE CONSTRAINT check_times;
ALTER TABLE messages DROP CONSTRAINT IF EXISTS check_times_called, ADD CONSTRAINT check_times_called CHECK (
        absent_at >= '0002-01-01 00:00+00' AND absent_at <= '9999-01-01 00:00+00'
        AND called_as_of >= '0002-01-01 00:00+00' AND called_as_of <= '9999-01-01 00:00+00') NOT VALID;
ALTER TABLE messages VALIDATE CONSTRAINT check_times_called;
DROP TRIGGER IF EXISTS messages_written ON messages;
DROP FUNCTION IF EXISTS check_written_message();

ALTER TABLE conversations DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND deleted_at >= '0002-01-01 00:00+00' AND deleted_at <= '9999-01-01 00:00+00'
        AND last_message_at >= '0002-01-01 00:00+00' AND last_message_at <= '9999-01-01 00:00+00'
        AND last_user_message_at >= '0002-01-01 00:00+00' AND last_user_message_at <= '9999-01-01 00:00+00'
        AND reply_due_at >= '0002-01-01 00:00+00' AND reply_due_at <= '9999-01-01 00:00+00'
        AND reply_lease_until >= '0002-01-01 00:00+00' AND reply_lease_until <= '9999-01-01 00:00+00'
        AND reply_wanted_since >= '0002-01-01 00:00+00' AND reply_wanted_since <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
ALTER TABLE conversations VALIDATE CONSTRAINT check_times;
ALTER TABLE conversations DROP CONSTRAINT IF EXISTS check_times_restored, ADD CONSTRAINT check_times_restored CHECK (
        reply_restored_at >= '0002-01-01 00:00+00' AND reply_restored_at <= '9999-01-01 00:00+00') NOT VALID;
ALTER TABLE conversations VALIDATE CONSTRAINT check_times_restored;
