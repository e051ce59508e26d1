-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS consents_entered;
DROP INDEX CONCURRENTLY IF EXISTS messages_latest;
ALTER TABLE conversations DROP COLUMN IF EXISTS assigned_to;

CREATE OR REPLACE FUNCTION keep_record() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place bigint;
BEGIN
    IF NEW.status = 'queued' AND current_setting('palomar.queued_by', true) = 'function' THEN
        IF NEW.content !~ '\S' AND NEW.template IS NULL AND NEW.media = '[]' THEN
            RAISE check_violation USING MESSAGE = 'content: there is nothing to send', COLUMN = 'content';
        END IF;
        NEW.due_at := now();
    ELSIF NEW.status NOT IN ('received', 'sent', 'delivered', 'read', 'failed') THEN
        RAISE check_violation USING
            MESSAGE = format(
                'status %L: a message recorded by SQL is received, sent, delivered, read or failed', NEW.status),
            HINT = 'What Palomar is to send is queued by queue_message(), or through its API.', COLUMN = 'status';
    ELSE
        NEW.due_at := NULL;
    END IF;
    IF NEW.direction = 'outbound' THEN  -- a place that is still to be given would collide with the next answer
        UPDATE conversations SET next_out_seq = next_out_seq + 1
        WHERE tenant_id = NEW.tenant_id AND id = NEW.conversation_id
            AND (NEW.out_seq IS NULL OR NEW.out_seq >= next_out_seq)
        RETURNING next_out_seq - 1 INTO place;
        NEW.out_seq := coalesce(place, NEW.out_seq);
    END IF;
    NEW.claim_id := NULL;
    NEW.claimed_at := NULL;
    NEW.admitted_at := NULL;
    NEW.unknown_at := NULL;
    NEW.attempts := 0;
    RETURN NEW;
END
$$;
SELECT protect_functions();
