"""Imports webhooks, whose secrets it seals, and webhook_logs."""

from collections.abc import Sequence

from ops.imports.steps import attempt, identified, in_order, store
from ops.imports.tally import Fate
from ops.imports.target import Target
from ops.imports.values import Reader, Skip, our_id
from shared.database import Connection
from shared.store.imports.rows import (
    SECRET_MASK,
    WebhookLogRow,
    WebhookRow,
)


async def write_webhooks(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table="webhooks", our_table="webhooks", fates=fates)

    def convert(reader: Reader) -> WebhookRow:
        key = into.key(reader, into.tenant_of(reader))
        webhook_id = our_id(into.system, "webhooks", *key)
        url = (reader.text("url") or "").strip()
        scheme, separator, rest = url.partition("://")
        if scheme.lower() not in ("http", "https") or not rest:
            raise Skip("a URL that is none")
        secret = reader.text("secret")
        created_at = reader.time("created_at") or reader.now
        return WebhookRow(
            id=webhook_id,
            tenant_id=key[0],
            name=reader.name("name") or "",
            url=f"{scheme.lower()}{separator}{rest}",
            events=reader.words("events"),
            secret=SECRET_MASK if secret else "",
            sealed_secret=into.keys.seal(secret, tenant_id=key[0], owner=webhook_id) if secret else "",
            is_active=reader.flag("is_active", default=True),
            created_at=created_at,
            updated_at=reader.time("updated_at") or created_at,
            deleted_at=reader.time("deleted_at"),
            metadata=reader.imported(),
        )

    rows = attempt(convert, readers, fates)
    await store(connection, {i: (keys[i], row) for i, row in rows.items()}, into, fates, table="webhooks")
    return in_order(fates, readers)


async def write_webhook_logs(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table="webhook_logs", our_table="webhook_logs", fates=fates)
    asked = [(key[0], webhook_id) for index, key in keys.items() if (webhook_id := readers[index].id("webhook_id"))]
    webhooks = await into.ours(connection, "webhooks", "webhooks", asked)

    def convert(reader: Reader) -> WebhookLogRow:
        key = into.key(reader, into.tenant_of(reader))
        webhook_id = webhooks.get((key[0], reader.id("webhook_id") or ""))
        if webhook_id is None:
            raise Skip("its webhook is missing, or was skipped")
        success = reader.flag("success", default=False)
        unfinished = reader.row.get("success") is None or reader.row.get("completed_at") is None
        if unfinished and not success:
            reader.mended.add("was still to be delivered: failed")
        error = reader.text("error_message")
        return WebhookLogRow(
            id=our_id(into.system, "webhook_logs", *key),
            tenant_id=key[0],
            webhook_id=webhook_id,
            event=reader.name("event") or "unknown",
            payload=reader.object("payload"),
            response=reader.text("response"),
            status_code=reader.number("status_code") or None,
            success=success,
            error_message=error or ("not delivered when it was imported" if unfinished and not success else None),
            attempt_count=reader.number("attempt_count"),
            created_at=reader.time("created_at") or reader.now,
            completed_at=reader.time("completed_at"),
            metadata=reader.imported(),
        )

    rows = attempt(convert, readers, fates)
    await store(connection, {i: (keys[i], row) for i, row in rows.items()}, into, fates, table="webhook_logs")
    return in_order(fates, readers)
