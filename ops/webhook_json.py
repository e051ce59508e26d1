"""Webhooks and their deliveries as JSON for a program: in the form in which the API shows them."""

from collections.abc import Iterable

import orjson
from pydantic import BaseModel

from ingress.api import webhook_models as models
from shared.actions.webhooks import NewWebhook
from shared.store.webhook_deliveries.log import Delivery, Whole
from shared.store.webhooks import Webhook


def listed(webhooks: Iterable[Webhook]) -> bytes:
    """A list of webhooks."""
    return _text([_plain(models.Webhook.of(one)) for one in webhooks])


def facts(webhook: Webhook) -> bytes:
    """All that is known of a webhook, but its secret."""
    return _text(_plain(models.Webhook.of(webhook)))


def added(made: NewWebhook) -> bytes:
    """A webhook that is new, with its secret."""
    return _text({**_plain(models.Webhook.of(made.stored)), "secret": made.secret})


def logged(deliveries: Iterable[Delivery]) -> bytes:
    """A list of deliveries, without their bodies and attempts."""
    return _text([_plain(models.WebhookLog.of(one)) for one in deliveries])


def whole(found: Whole) -> bytes:
    """A delivery with each attempt and its body."""
    return _text(_plain(models.WebhookLogDetails.of_whole(found)))


def _plain(shown: BaseModel) -> dict[str, object]:
    return shown.model_dump(mode="json", by_alias=True)


def _text(found: object) -> bytes:
    return orjson.dumps(found, option=orjson.OPT_INDENT_2)
