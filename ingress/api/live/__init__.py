"""What happens, as it happens: one engine behind /v1/live, SSE, subscriptions and GET /v1/events."""
