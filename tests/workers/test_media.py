"""Files that customers send: fetched from the provider, kept once, given up with a reason, gone with the person."""

import asyncio
import hashlib
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from ops.erasure import erase, who
from ops.sandbox.meta_forms import PHONE_NUMBER_ID
from ops.sandbox.observations import SeenFile
from ops.sandbox.twilio import ACCOUNT_SID
from shared import database
from shared.media.blob_store import Blobs
from shared.queue import topology
from shared.settings import Settings
from shared.store import channels, counts, endpoints, media
from tests.support import email_payloads
from tests.support.meta_payloads import entry, of_type, value
from tests.support.meta_stage import add_app, add_number, posted
from tests.support.stage import CUSTOMER, Ours, Stage, staged
from workers.clock import blob_cleanup

SILENT: dict[str, object] = {"reply": {"engine": "none"}}
OTHER_CUSTOMER = "+34600000002"


async def twilio_file(stage: Stage, **fields: object) -> SeenFile:
    return await stage.sandbox.media("twilio", account=ACCOUNT_SID, **fields)


async def sends(stage: Stage, file: SeenFile, *, sender: str = CUSTOMER, to: Ours | None = None) -> None:
    """A customer's message by Twilio, with this file."""
    fields = {"NumMedia": "1", "MediaUrl0": file.url, "MediaContentType0": file.mime_type}
    await stage.deliver(stage.said("mira", sender=sender, to=to, extra=fields))


async def ended(stage: Stage) -> list[tuple[str, str | None]]:
    """(status, reason) of every file, by the provider's id where it has one."""
    rows = await stage.rows("SELECT status, reason FROM media ORDER BY provider_id, id")
    return [(row["status"], row["reason"]) for row in rows]


def kept(stage: Stage) -> dict[str, bytes]:
    """Key → bytes of everything that lies in the store's folder."""
    folder = stage.settings.state_dir / "media"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_a_file_of_two_messages_is_kept_once_and_read_by_its_key(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage, stage.working("persist", "media"):
        file = await twilio_file(stage, size=6 * 1024**2)  # larger than a part of an upload
        await sends(stage, file)
        await sends(stage, file, sender=OTHER_CUSTOMER)
        await stage.until(ended, stage, equals=[("stored", None)] * 2)
        rows = await stage.rows(
            "SELECT f.key, f.sha256, f.size, f.mime_type, f.position FROM messages m "
            "JOIN media f ON f.tenant_id = m.tenant_id AND f.message_id = m.id WHERE m.role = 'user'"
        )
        (key,) = {row["key"] for row in rows}
        assert {(row["sha256"].hex(), row["size"], row["mime_type"], row["position"]) for row in rows} == {
            (file.hex, 6 * 1024**2, "image/jpeg", 0)
        }
        content = b"".join([chunk async for chunk in Blobs.of(stage.settings).read(key)])
        assert hashlib.sha256(content).hexdigest() == file.hex
        assert list(kept(stage)) == [key]
        assert await stage.count("events WHERE name = 'media.stored'") == 2
        assert await stage.dead_letters() == {}


async def test_the_credentials_go_to_the_api_and_follow_no_redirect(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage, stage.working("persist", "media"):
        file = await twilio_file(stage)
        await sends(stage, file)
        await stage.until(ended, stage, equals=[("stored", None)])
        api, cdn = await stage.sandbox.fetches(file)
        assert (api.step, api.status, api.authorization) == ("api", 307, True)
        assert (cdn.step, cdn.status, cdn.authorization) == ("bytes", 200, False)
        assert api.host != cdn.host


async def test_metas_files_come_in_two_steps_and_are_what_was_announced(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("persist", "media", "clock"):
        app = await add_app(stage)
        ours = await add_number(stage, app, PHONE_NUMBER_ID, channel=SILENT)
        files = [
            await stage.sandbox.media("meta", size=5000),
            await stage.sandbox.media("meta", seed=1, wrong_hash=True),
            await stage.sandbox.media("meta", seed=2, url_seconds=0),
        ]
        for file in files:
            image = {"id": file.id, "mime_type": file.mime_type, "sha256": file.sha256}
            said = value(of_type("image", image, id=f"wamid.{file.id}"), phone_number_id=PHONE_NUMBER_ID)
            await stage.deliver(posted(stage, app, entry(said), tenant_id=ours.tenant_id))
        await stage.until(ended, stage, equals=[("stored", None), ("refused", "wrong_hash"), ("expired", "gone")])
        located, bytes_ = await stage.sandbox.fetches(files[0])
        assert (located.step, located.authorization, bytes_.step, bytes_.authorization) == (
            "located", True, "bytes", True,
        )  # fmt: skip
        assert [hashlib.sha256(content).hexdigest() for content in kept(stage).values()] == [files[0].hex]
        assert await stage.count("messages WHERE message_type = 'image'") == 3


async def test_a_mails_files_are_taken_from_the_mail(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("persist", "media"):
        ours = await mailbox(stage)
        webhook = email_payloads.said(
            attachments="2",
            attachment1=("factura.pdf", "application/pdf", b"\r\n--\0\xff"),
            attachment2=("foto.png", "image/png", b"png"),
        )
        fields: dict[str, Any] = {"provider": "email", "content_type": webhook.content_type}
        await stage.deliver(stage.webhook(webhook.body, to=ours, **fields))
        await stage.until(ended, stage, equals=[("stored", None)] * 2)
        rows = await stage.rows("SELECT filename, mime_type, key FROM media ORDER BY position")
        assert [(row["filename"], row["mime_type"], kept(stage)[row["key"]]) for row in rows] == [
            ("factura.pdf", "application/pdf", b"\r\n--\0\xff"), ("foto.png", "image/png", b"png"),
        ]  # fmt: skip


async def mailbox(stage: Stage) -> Ours:
    """A channel of e-mail, of the stage's tenant."""
    endpoint_id, channel_id, tenant_id = database.new_id(), database.new_id(), stage.ours.tenant_id
    async with stage.pool.acquire() as connection, connection.transaction():
        await endpoints.add(connection, endpoints.EndpointRow(endpoint_id, tenant_id, "email", "sealed"))
        await channels.add(
            connection, channel_id=channel_id, tenant_id=tenant_id, endpoint_id=endpoint_id, provider="email",
            kind="email", name="", address=email_payloads.OURS, credentials="sealed", settings=SILENT,
        )  # fmt: skip
    return Ours(tenant_id, channel_id, endpoint_id, "email", email_payloads.OURS)


async def test_a_file_that_does_not_come_leaves_its_message_and_says_why(settings: Settings) -> None:
    others: dict[str, Any] = {"media_image_limit": 2000, "media_timeout": 1.0, "media_attempts": 2}
    async with staged(settings, SILENT, **others) as stage, stage.working("persist", "media", "clock"):
        faults: list[tuple[dict[str, object], tuple[str, str | None]]] = [
            ({"fault": "gone"}, ("expired", "gone")),
            ({"fault": "gone", "times": 1}, ("stored", None)),
            ({"fault": "forbidden"}, ("refused", "forbidden")),
            ({"size": 2001}, ("refused", "too_large")),
            ({"size": 2001, "fault": "chunked"}, ("refused", "too_large")),
            ({"fault": "short"}, ("failed", "cut_off")),
            ({"fault": "hang"}, ("failed", "timeout")),
            ({"fault": "unavailable"}, ("failed", "server_error")),
            ({"fault": "unavailable", "times": 1}, ("stored", None)),
            ({"fault": "throttled", "times": 1}, ("stored", None)),
        ]
        files = [await twilio_file(stage, **{"size": 500, **fields}) for fields, _ in faults]
        elsewhere = files[0].model_copy(update={"url": "http://127.0.0.1:1/inside"})
        for file in (*files, elsewhere):
            await sends(stage, file)
        expected = sorted([*(end for _, end in faults), ("refused", "not_allowed")], key=str)

        async def found() -> list[tuple[str, str | None]]:
            return sorted(await ended(stage), key=str)

        await stage.until(found, equals=expected, within=40)
        assert await stage.count("messages WHERE content = 'mira'") == len(expected)
        assert len(kept(stage)) == 1, "those that came are the same bytes"
        assert await stage.count("events WHERE name = 'media.failed' AND detail ->> 'reason' = 'timeout'") == 1
        assert await stage.dead_letters() == {}


async def test_a_killed_workers_file_is_fetched_by_another(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage, stage.working("persist"):
        file = await twilio_file(stage, fault="hang", times=1)
        async with stage.running("media") as process:
            await sends(stage, file)

            async def asked() -> bool:
                return len(await stage.sandbox.fetches(file)) >= 2

            await stage.until(asked, equals=True, within=30)
            process.kill()
            assert await process.wait() == -signal.SIGKILL
        assert await ended(stage) == [("wanted", None)]
        await stage.pool.execute("UPDATE media SET lease_until = now(), due_at = now()")  # as when the lease is over
        async with stage.working("media", "clock"):
            await stage.until(ended, stage, equals=[("stored", None)])
        assert len(kept(stage)) == 1


async def test_a_lost_hint_and_a_copy_left_by_the_dead_cost_nothing(settings: Settings) -> None:
    """persist was killed before it published; a worker, after it stored the bytes and before it recorded that."""
    async with staged(settings, SILENT) as stage:
        file = await twilio_file(stage)
        async with stage.working("persist"):
            await sends(stage, file)
            await stage.until(ended, stage, equals=[("wanted", None)])
        digest = bytes.fromhex(file.hex)
        await stage.pool.execute(
            "INSERT INTO media_blobs (tenant_id, sha256, key, size, due_at) VALUES ($1, $2, 'left', 1, now())",
            *(stage.ours.tenant_id, digest),
        )
        async with stage.working("clock"):
            await stage.until(stage.count, "media_blobs", equals=0)
        async with stage.working("media", "clock"):
            await stage.until(ended, stage, equals=[("stored", None)])
        assert await stage.count("media_blobs WHERE due_at IS NULL AND stored_at IS NOT NULL") == 1


async def test_one_channel_whose_host_hangs_leaves_the_others_theirs(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage, stage.working("persist", "media", "clock"):
        theirs = await stage.add_channel(SILENT)
        hanging = await twilio_file(stage, fault="hang")
        for number in range(20):
            await sends(stage, hanging, sender=f"+346000001{number:02}")

        async def held() -> int:
            return len([call for call in await stage.sandbox.fetches(hanging) if call.step == "bytes"])

        await stage.until(held, equals=4)
        await sends(stage, await twilio_file(stage, seed=1), to=theirs)
        await stage.until(stage.count, "media WHERE status = 'stored'", equals=1)
        assert await held() == 4
        assert await stage.value("SELECT max(attempts) FROM media WHERE status = 'wanted'") == 1


async def test_an_erased_persons_files_are_gone_unless_somebody_else_sent_them_too(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        theirs = await stage.add_channel(SILENT)
        async with stage.working("persist", "media"):
            shared, own = await twilio_file(stage), await twilio_file(stage, seed=1)
            await sends(stage, shared)
            await sends(stage, own)
            await sends(stage, shared, sender=OTHER_CUSTOMER)
            await sends(stage, own, to=theirs)  # another tenant's customer: a copy of its own
            await stage.until(ended, stage, equals=[("stored", None)] * 4)
        assert len(kept(stage)) == 3
        folder = Path(stage.settings.state_dir) / "media"
        half = folder / f"{stage.ours.tenant_id}/{own.hex[:2]}/{own.hex}#1"
        half.write_bytes(b"what a killed worker had written")

        erased = await erase(stage.pool, await who(stage.pool, stage.ours.tenant_id, CUSTOMER))
        assert erased.gone
        assert erased.removed["media"] == 2
        async with stage.working("clock"):
            await stage.until(stage.count, "media_blobs", equals=2)
        left = sorted(kept(stage))
        assert left == sorted(
            f"{tenant}/{file.hex[:2]}/{file.hex}"
            for tenant, file in ((stage.ours.tenant_id, shared), (theirs.tenant_id, own))
        )


async def _copies(stage: Stage) -> list[UUID]:
    rows = await stage.rows("SELECT tenant_id FROM media_blobs")
    return [row["tenant_id"] for row in rows]


async def test_a_message_deleted_by_its_tenant_lets_its_files_go(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        async with stage.working("persist", "media"):
            await sends(stage, await twilio_file(stage))
            await stage.until(ended, stage, equals=[("stored", None)])
        context = stage.context
        assert await blob_cleanup.sweep(context) == 0
        async with stage.pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL ROLE palomar_api")
            await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(stage.ours.tenant_id))
            assert await connection.fetchval("SELECT count(key) FROM media") == 1
            await connection.execute("DELETE FROM messages")
        assert await blob_cleanup.sweep(context) == 1
        assert kept(stage) == {}
        assert await _copies(stage) == []


async def test_a_copy_that_is_being_deleted_is_stored_anew_by_who_wants_it(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage, stage.working("persist", "media", "clock"):
        file = await twilio_file(stage)
        await stage.pool.execute(
            "INSERT INTO media_blobs (tenant_id, sha256, key, size, stored_at, going, due_at) "
            "VALUES ($1, $2, 'going', 1, now(), true, now() + interval '3 seconds')",
            *(stage.ours.tenant_id, bytes.fromhex(file.hex)),
        )
        await sends(stage, file)
        await stage.until(ended, stage, equals=[("stored", None)], within=30)
        (key,) = kept(stage)
        assert await stage.value("SELECT key FROM media_blobs") == key != "going"


async def test_a_store_that_does_not_take_a_file_is_asked_again(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        folder = stage.settings.state_dir / "media"

        async def made() -> bool:
            return await asyncio.to_thread(folder.exists)

        async with stage.working("persist", "media", "clock"):
            await stage.until(made, equals=True)
            folder.rename(folder.with_name("away"))
            folder.write_text("not a folder")
            await sends(stage, await twilio_file(stage))
            await stage.until(ended, stage, equals=[("wanted", "store")])
            folder.unlink()
            folder.with_name("away").rename(folder)
            await stage.until(ended, stage, equals=[("stored", None)])


async def test_a_file_given_up_by_the_runner_is_set_aside_and_counted(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        async with stage.working("persist"):
            await sends(stage, await twilio_file(stage))
            await stage.until(ended, stage, equals=[("wanted", None)])
        (row,) = await stage.rows("SELECT tenant_id, id FROM media")
        await media.postpone(stage.pool, row["tenant_id"], row["id"], timedelta(seconds=60))
        assert await media.due(stage.pool, timedelta(0), 10) == []
        assert (await counts.by_queue(stage.pool))[topology.MEDIA.name] == 1
        await media.postpone(stage.pool, row["tenant_id"], row["id"], None)
        assert (await counts.by_state(stage.pool))["parked"] == 1
