"""webhook_logs, webhook_health and webhook_sequences: deliveries to tenants' own systems, from the event to the answer.

Locks are taken in one order: deliveries (by id), health, sequences. What many webhooks share skips rows that are
locked, which a tenant's session may do for as long as it likes: those are done apart.
"""
