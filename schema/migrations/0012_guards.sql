-- What the workers keep right by themselves, kept right for whoever writes by SQL.

SET LOCAL lock_timeout = '100ms';

-- A message is its conversation's: it has that one's channel, which the key of 0003 does not say.
CREATE FUNCTION check_message_channel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM conversations
        WHERE tenant_id = NEW.tenant_id AND id = NEW.conversation_id AND channel_id = NEW.channel_id
    ) THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'there is no such conversation of this tenant on that channel', COLUMN = 'channel_id',
            HINT = 'Leave channel_id out: it is the conversation''s.';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER messages_on_channel BEFORE INSERT OR UPDATE OF conversation_id, channel_id ON messages FOR EACH ROW
    WHEN (current_user <> 'palomar_worker')
    EXECUTE FUNCTION check_message_channel();

-- A conversation has its channel's provider.
CREATE FUNCTION check_conversation_provider() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of_channel text;
BEGIN
    SELECT provider INTO of_channel FROM channels WHERE tenant_id = NEW.tenant_id AND id = NEW.channel_id;
    -- What a CHECK refuses, it refuses by its own name.
    IF of_channel <> NEW.provider AND NEW.provider = ANY (providers())
        AND (NEW.provider <> 'kommo' OR NEW.kommo_chat_id IS NOT NULL)
    THEN
        RAISE check_violation USING
            MESSAGE = format('provider %L: the channel is of provider %L', NEW.provider, of_channel),
            COLUMN = 'provider';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER conversations_of_channel BEFORE INSERT OR UPDATE OF provider, channel_id ON conversations FOR EACH ROW
    WHEN (current_user <> 'palomar_worker')
    EXECUTE FUNCTION check_conversation_provider();

-- A session without a tenant is told so, instead of that a policy refuses its row.
ALTER TABLE contacts ALTER COLUMN tenant_id SET DEFAULT session_tenant();
ALTER TABLE groups ALTER COLUMN tenant_id SET DEFAULT session_tenant();
ALTER TABLE group_contacts ALTER COLUMN tenant_id SET DEFAULT session_tenant();
ALTER TABLE consents ALTER COLUMN tenant_id SET DEFAULT session_tenant();
ALTER TABLE message_templates ALTER COLUMN tenant_id SET DEFAULT session_tenant();
ALTER TABLE campaigns ALTER COLUMN tenant_id SET DEFAULT session_tenant();
ALTER TABLE campaign_recipients ALTER COLUMN tenant_id SET DEFAULT session_tenant();
ALTER TABLE webhooks ALTER COLUMN tenant_id SET DEFAULT session_tenant();
ALTER TABLE webhook_logs ALTER COLUMN tenant_id SET DEFAULT session_tenant();

SELECT protect_functions();
