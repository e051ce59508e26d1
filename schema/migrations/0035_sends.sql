-- What a send under way, or one of unknown outcome, waits for is Palomar's own: a tenant that made it due, or took away the
-- reason for which it waits for a person, would have it sent twice.

SET LOCAL lock_timeout = '100ms';

CREATE FUNCTION refuse_changed_send() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER messages_send_is_ours BEFORE UPDATE ON messages FOR EACH ROW
    WHEN (OLD.status IN ('sending', 'unknown') AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION refuse_changed_send();

CREATE FUNCTION refuse_changed_decision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING
        MESSAGE = 'reply_restored_at: an answer waits for a person since the database was restored',
        HINT = 'palomar unknown list', COLUMN = 'reply_restored_at';
END
$$;
CREATE TRIGGER conversations_restored_is_ours BEFORE UPDATE OF reply_restored_at ON conversations FOR EACH ROW
    WHEN (OLD.reply_restored_at IS DISTINCT FROM NEW.reply_restored_at AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION refuse_changed_decision();

SELECT protect_functions();
