-- What may leave is made by functions. A message that comes by SQL is a record, whichever columns its INSERT names, and
-- nothing that is written by SQL makes Palomar answer.

SET LOCAL lock_timeout = '100ms';

-- A function that queues a message says so in `palomar.queued_by`, around its INSERT and no longer. Who sets it by hand
-- gains nothing: the row is made the same, and these functions are theirs to call.
CREATE FUNCTION keep_record() RETURNS trigger LANGUAGE plpgsql AS $$
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
-- By its name after messages_complete, which gives a row its status.
CREATE TRIGGER messages_recorded BEFORE INSERT ON messages FOR EACH ROW
    WHEN (current_user <> 'palomar_worker') EXECUTE FUNCTION keep_record();

-- What is finished owes nothing: the clock would hand on a record that is due.
CREATE FUNCTION refuse_due_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING
        MESSAGE = format('due_at: a message that is %L is a record, and owes nothing', NEW.status),
        HINT = 'What Palomar is to send is queued by queue_message(), or through its API.', COLUMN = 'due_at';
END
$$;
CREATE TRIGGER messages_record_not_due BEFORE UPDATE OF due_at ON messages FOR EACH ROW
    WHEN (NEW.due_at IS NOT NULL AND NEW.status NOT IN ('queued', 'held', 'ready', 'sending', 'unknown')
        AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION refuse_due_record();

-- An answer is owed to a customer whose message came in, which persist says.
CREATE FUNCTION owe_no_reply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.reply_due_at IS NOT NULL OR NEW.reply_wanted_since IS NOT NULL) THEN
        RAISE check_violation USING
            MESSAGE = 'reply_due_at and reply_wanted_since: a reply is owed to a message that came in, and not by SQL',
            COLUMN = 'reply_due_at', HINT = 'Set them to null to have nobody answer.';
    END IF;
    NEW.reply_due_at := NULL;
    NEW.reply_wanted_since := NULL;
    NEW.reply_lease_id := NULL;
    NEW.reply_lease_until := NULL;
    RETURN NEW;
END
$$;
CREATE TRIGGER conversations_owe_no_reply BEFORE INSERT ON conversations FOR EACH ROW
    WHEN ((NEW.reply_due_at IS NOT NULL OR NEW.reply_wanted_since IS NOT NULL OR NEW.reply_lease_id IS NOT NULL
        OR NEW.reply_lease_until IS NOT NULL) AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION owe_no_reply();
CREATE TRIGGER conversations_reply_is_owed BEFORE UPDATE OF reply_due_at, reply_wanted_since, reply_lease_id,
    reply_lease_until ON conversations FOR EACH ROW
    WHEN (current_user <> 'palomar_worker') EXECUTE FUNCTION owe_no_reply();

-- A receipt that says the window was closed has a template sent in the message's stead: it is the provider's to give.
REVOKE INSERT, UPDATE ON message_statuses FROM palomar_api;

-- Queue a text to a conversation of the session's tenant; returns the message's id. It leaves as any other message does:
-- the window, the channel's policy and the customer's opt-outs decide. With a `dedupe_key` a second call of the same key
-- queues nothing and returns the first one's message.
CREATE FUNCTION queue_message(conversation uuid, content text, dedupe_key text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    tenant CONSTANT uuid := session_tenant();
    key CONSTANT text := 'sql:' || queue_message.dedupe_key;
    message uuid;
BEGIN
    IF length(queue_message.dedupe_key) NOT BETWEEN 1 AND 255 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'dedupe_key: 1 to 255 characters are needed';
    ELSIF coalesce(queue_message.content, '') !~ '\S' OR length(queue_message.content) > 65536 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'content: a text of 1 to 65536 characters is needed';
    END IF;
    -- The lock under which messages get their places; persist and window take it too.
    PERFORM FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
    WHERE c.tenant_id = tenant AND c.id = conversation AND c.deleted_at IS NULL AND ch.deleted_at IS NULL
    FOR NO KEY UPDATE OF c;
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'conversation names no conversation of this tenant', COLUMN = 'conversation_id';
    END IF;
    SELECT id INTO message FROM messages WHERE tenant_id = tenant AND dedupe_key = key;
    IF FOUND THEN
        RETURN message;
    END IF;
    PERFORM set_config('palomar.queued_by', 'function', true);
    INSERT INTO messages (tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
        dedupe_key)
    SELECT tenant, c.id, c.channel_id, c.provider, 'outbound', 'assistant', 'queued', queue_message.content, key
    FROM conversations c WHERE c.tenant_id = tenant AND c.id = conversation
    RETURNING id INTO message;
    PERFORM set_config('palomar.queued_by', '', true);
    UPDATE conversations SET last_message_at = greatest(last_message_at, now())
    WHERE tenant_id = tenant AND id = conversation;
    RETURN message;
END
$$;

SELECT protect_functions();
