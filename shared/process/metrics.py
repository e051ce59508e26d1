"""Defines the Prometheus metrics of the processes. Labels are queues, providers and reasons: bounded sets."""

from prometheus_client import Counter, Gauge, Histogram

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)

PUBLISHED = Counter("palomar_published_items", "Jobs confirmed by the broker", ["queue"])
PUBLISH_FAILED = Counter("palomar_publish_failed", "Publishes that were not confirmed", ["queue", "reason"])
ENVELOPE_JOBS = Histogram("palomar_envelope_items", "Jobs that shared one publish", buckets=(1, 2, 5, 10, 20, 50, 100))

JOBS = Counter("palomar_items", "Jobs taken, by outcome: done, retried, postponed, dead", ["queue", "outcome"])
WORKER_CRASHES = Counter(
    "palomar_worker_crashes", "Times a worker crashed and started again in its process", ["worker"]
)
IN_HAND = Gauge("palomar_items_in_hand", "Jobs taken from the broker and not finished", ["queue"])
HANDLER_SECONDS = Histogram("palomar_handler_seconds", "Time in a handler", ["queue"], buckets=_FAST)
CIRCUIT_BREAKER = Gauge("palomar_brake_on", "1 while the circuit breaker of a worker is open", ["queue"])
OPEN_SCOPES = Gauge("palomar_set_apart", "Tenants' channels whose circuit breaker is open", ["queue"])
ROWS_SKIPPED = Counter("palomar_rows_set_apart", "Rows that could not be handled and were skipped", ["what"])
DATABASE_UP = Gauge("palomar_database_up", "1 while PostgreSQL answers this process")

SENDS = Counter("palomar_sends", "Provider calls by outcome", ["provider", "outcome"])
SEND_SECONDS = Histogram("palomar_send_seconds", "Time of a provider call", ["provider"], buckets=_FAST)
SLOTS_LOST = Counter("palomar_rate_slots_lost", "Slots of channels' rates that passed before their call", ["lane"])
CHANNELS_SLOWED = Counter("palomar_channels_slowed", "Refusals by which a provider slowed a channel", ["provider"])
REPLIES = Counter("palomar_replies", "Replies by engine and outcome", ["engine", "outcome"])
READ_RECEIPTS = Counter("palomar_read_receipts", "Read receipts by outcome", ["provider", "outcome"])
REPORTS = Counter("palomar_reports", "Delivery status reports to Kommo, by outcome", ["provider", "outcome"])
REPLIES_POSTPONED = Counter("palomar_replies_put_off", "Replies that found their channel's bulkhead full", ["engine"])
SENDS_POSTPONED = Counter("palomar_sends_put_off", "Sends that found their channel's bulkhead full", ["queue"])
WEBHOOKS_PARSED = Counter("palomar_webhooks_parsed", "Webhooks persisted, by their content", ["provider", "held"])
WEBHOOK_ATTEMPTS = Counter("palomar_webhook_attempts", "Attempts of deliveries to webhooks", ["kind", "outcome"])
WEBHOOK_SECONDS = Histogram("palomar_webhook_seconds", "From an event to its receipt by a webhook", buckets=_LONG)
WEBHOOKS_PAUSED = Gauge("palomar_webhooks_paused", "Webhooks whose circuit breaker is open")
WEBHOOKS_DISABLED = Gauge("palomar_webhooks_disabled", "Webhooks that were disabled as their URLs failed")
WEBHOOK_OLDEST_DUE = Gauge("palomar_webhook_oldest_due_seconds", "How late the delivery is that is due longest")
NUDGES = Counter("palomar_clock_nudges", "Overdue rows whose jobs the clock published again", ["what"])
CLOCK_TICK = Gauge("palomar_clock_last_tick_seconds", "Unix time of this process's last tick")
MEDIA = Counter("palomar_media", "Attempts to download a file, by outcome", ["provider", "outcome"])
RELAY_LAG = Gauge("palomar_relay_lag_seconds", "Age of the oldest event not yet published")
RELAY_ACTIVE = Gauge("palomar_relay_active", "1 in the relay process that publishes")
RELAYED = Counter("palomar_relayed_events", "Events published")
