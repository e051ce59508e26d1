-- On an endpoint that several tenants share, whose a webhook is says the address in it. An address that a tenant wrote
-- there is theirs once the provider has said so (`palomar channels test`): until then nothing comes in through it.

SET LOCAL lock_timeout = '100ms';

ALTER TABLE channels ADD COLUMN proven boolean NOT NULL DEFAULT true;  -- false on a shared endpoint only

-- Nobody could get what came to these, and nobody will until one of them is proven. What they send goes on.
SET LOCAL ROLE palomar_worker;
UPDATE channels c SET proven = false
FROM endpoints e
WHERE e.id = c.endpoint_id AND e.tenant_id IS NULL AND c.deleted_at IS NULL AND EXISTS (
    SELECT FROM channels other
    WHERE other.endpoint_id = c.endpoint_id AND other.kind = c.kind AND other.address = c.address
        AND other.deleted_at IS NULL AND other.tenant_id <> c.tenant_id);
SET LOCAL ROLE NONE;

-- Of those that are proven alone: one that is not keeps nobody from using the address, and tells nobody that it is used.
CREATE UNIQUE INDEX channels_endpoint_address ON channels (endpoint_id, kind, address)
    WHERE proven AND deleted_at IS NULL;

-- Why a channel is stopped whose address waits to be proven.
CREATE FUNCTION proving_reason() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 'its address waits to be proven: palomar channels test'
$$;

-- To a tenant an endpoint of nobody's is invisible, and so is one of others: either is not its own.
CREATE FUNCTION prove_address() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    shared boolean := NEW.endpoint_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM endpoints WHERE id = NEW.endpoint_id AND tenant_id = NEW.tenant_id);
    changed boolean := TG_OP = 'UPDATE' AND (
        ARRAY[NEW.endpoint_id::text, NEW.provider, NEW.kind, NEW.address]
            IS DISTINCT FROM ARRAY[OLD.endpoint_id::text, OLD.provider, OLD.kind, OLD.address]
        OR (OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL));
BEGIN
    IF NOT shared THEN
        NEW.proven := true;
    ELSIF TG_OP = 'INSERT' THEN
        NEW.proven := NEW.proven AND current_user = 'palomar_worker';
    ELSIF current_user <> 'palomar_worker' AND NEW.business_id IS DISTINCT FROM OLD.business_id THEN
        RAISE check_violation USING  -- it says who is told what Meta says of an account
            MESSAGE = 'business_id: this channel shares its webhook URL with others, so the operator enters it',
            COLUMN = 'business_id', HINT = 'palomar channels set ID --credentials --account-id ID';
    ELSIF changed THEN
        NEW.proven := false;
    ELSIF current_user <> 'palomar_worker' THEN
        NEW.proven := OLD.proven;
    END IF;
    IF NOT NEW.proven AND NEW.status = 'active' AND (TG_OP = 'INSERT' OR changed OR OLD.status <> 'active') THEN
        NEW.status := 'stopped';
        NEW.status_reason := proving_reason();
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER channels_prove_address
    BEFORE INSERT OR UPDATE OF endpoint_id, provider, kind, address, business_id, deleted_at, proven, status ON channels
    FOR EACH ROW EXECUTE FUNCTION prove_address();

SELECT protect_functions();
