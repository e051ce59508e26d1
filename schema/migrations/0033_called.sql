-- Whom a message was sent to, from which address, and with which version of its channel's row, as it was claimed.
-- The conversation's recipient and the channel may change before the provider's list is asked about it.

SET LOCAL lock_timeout = '100ms';

ALTER TABLE messages
    ADD COLUMN called_to text,
    ADD COLUMN called_from text,
    ADD COLUMN called_as_of timestamptz;
