-- transactional: false

-- What the management API needs for conversations and their messages.

-- As 0025 made it. A function that publishes the message's job itself says in `due_at` when the clock is to publish it
-- again: at most five minutes later, so that nothing that is written by SQL waits longer than that.
CREATE OR REPLACE FUNCTION keep_record() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place bigint;
BEGIN
    IF NEW.status = 'queued' AND current_setting('palomar.queued_by', true) = 'function' THEN
        IF NEW.content !~ '\S' AND NEW.template IS NULL AND NEW.media = '[]' THEN
            RAISE check_violation USING MESSAGE = 'content: there is nothing to send', COLUMN = 'content';
        END IF;
        NEW.due_at := least(coalesce(NEW.due_at, now()), now() + interval '5 minutes');
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

-- Which person of the tenant's looks after a conversation, by whatever name the tenant's own system has for them.
ALTER TABLE conversations ADD COLUMN IF NOT EXISTS assigned_to text;

-- A page of a tenant's messages, or of its ledger of consents, begins where the last one ended. Partial, by a condition
-- that every row fulfils, so that neither is a choice for looking up a row by its tenant and id (see 0003).
CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_latest ON messages (tenant_id, created_at DESC, id DESC)
    WHERE direction <> '';
CREATE INDEX CONCURRENTLY IF NOT EXISTS consents_entered ON consents (tenant_id, created_at DESC, id DESC)
    WHERE state <> '';
