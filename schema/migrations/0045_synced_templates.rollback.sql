SET LOCAL lock_timeout = '100ms';

SET LOCAL ROLE palomar_worker;
UPDATE message_templates SET status = 'disabled' WHERE status = 'gone';
SET LOCAL ROLE NONE;

ALTER TABLE message_templates DROP CONSTRAINT check_template_status,
    ADD CONSTRAINT check_template_status
        CHECK (status IN ('pending', 'approved', 'paused', 'rejected', 'disabled')) NOT VALID;
ALTER TABLE message_templates VALIDATE CONSTRAINT check_template_status;
ALTER TABLE message_templates DROP COLUMN is_synced;
