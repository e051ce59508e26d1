"""webhook_logs and what belongs to it: the deliveries of events to tenants' own systems."""
