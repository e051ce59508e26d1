"""Everything that enters over HTTP. It consumes no queue, and publishes the jobs declared here."""

from shared.queue.jobs import WebhookReceived

PUBLISHES = (WebhookReceived,)
