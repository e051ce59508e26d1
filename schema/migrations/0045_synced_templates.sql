-- What messageTemplates.sync writes of a provider's list of templates.

SET LOCAL lock_timeout = '100ms';

-- False: entered by hand, or in another way than by a sync; no sync says that it is gone.
ALTER TABLE message_templates ADD COLUMN is_synced boolean NOT NULL DEFAULT false;

-- `gone`: its provider lists it no longer.
ALTER TABLE message_templates DROP CONSTRAINT check_template_status,
    ADD CONSTRAINT check_template_status
        CHECK (status IN ('pending', 'approved', 'paused', 'rejected', 'disabled', 'gone')) NOT VALID;
ALTER TABLE message_templates VALIDATE CONSTRAINT check_template_status;
