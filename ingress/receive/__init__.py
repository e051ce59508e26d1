"""Provider webhooks: verify, make durable, answer 2xx. Nothing here reaches the database."""
