"""WebhookReceived → PostgreSQL: contact, conversation, message, receipts → ReplyWanted, SendRequested."""
