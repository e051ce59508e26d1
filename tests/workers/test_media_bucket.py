"""Customers' files in an S3-compatible bucket: kept once, gone with the person, not lost where the bucket fails.

The bucket is ours (s3_bucket.py) and looks at every signature; its arithmetic is checked with Amazon's own example.
"""

import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from ops.erasure import erase, who
from shared.media.blob_store import Blobs, StoreError
from shared.settings import Settings
from tests.support import s3_bucket
from tests.support.ports import free_port
from tests.support.s3_bucket import KEY_ID, REGION, SECRET, Bucket, serving
from tests.support.stage import CUSTOMER, Stage, staged
from tests.workers.test_media import OTHER_CUSTOMER, SILENT, ended, sends, twilio_file

LARGE = 6 * 1024**2  # bytes; more than a part of an upload


def in_bucket(endpoint: str, **others: Any) -> dict[str, Any]:
    """Settings of a store in the bucket."""
    return {
        "media_store": f"s3://{s3_bucket.BUCKET}/of/palomar",
        "media_s3_endpoint": endpoint,
        "media_s3_region": REGION,
        "media_s3_key_id": KEY_ID,
        "media_s3_secret": SecretStr(SECRET),
        **others,
    }


@asynccontextmanager
async def bucketed(settings: Settings, **others: Any) -> AsyncIterator[tuple[Stage, Bucket]]:
    async with serving() as bucket, staged(settings, SILENT, **in_bucket(bucket.endpoint, **others)) as stage:
        yield stage, bucket


def test_the_bucket_knows_a_right_signature() -> None:
    """Amazon's example of a GET: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
    empty = hashlib.sha256(b"").hexdigest()
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "range": "bytes=0-9",
        "x-amz-content-sha256": empty,
        "x-amz-date": "20130524T000000Z",
    }
    scope, secret = "20130524/us-east-1/s3/aws4_request", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    found = s3_bucket.signature(secret, "GET", "/test.txt", headers, ";".join(sorted(headers)), scope, empty)
    assert found == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"


async def test_a_file_of_two_messages_is_put_once_and_read_by_its_key(settings: Settings) -> None:
    async with bucketed(settings) as (stage, bucket), stage.working("persist", "media"):
        small, large = await twilio_file(stage), await twilio_file(stage, size=LARGE, seed=1)
        for file in (small, large):
            await sends(stage, file)
        await stage.until(ended, stage, equals=[("stored", None)] * 2)
        for file in (small, large):
            await sends(stage, file, sender=OTHER_CUSTOMER)
        await stage.until(ended, stage, equals=[("stored", None)] * 4)
        keys = {row["key"] for row in await stage.rows("SELECT key FROM media")}
        assert {f"of/palomar/{key}" for key in keys} == set(bucket.objects)
        assert bucket.uploads == {}
        puts = [key for method, key, _ in bucket.asked if method == "PUT" and key.endswith(small.hex)]
        assert len(puts) == 1, "the same bytes travel once"
        for key in keys:
            content = b"".join([chunk async for chunk in Blobs.of(stage.settings).read(key)])
            assert key.endswith(hashlib.sha256(content).hexdigest())
        with pytest.raises(FileNotFoundError):
            [chunk async for chunk in Blobs.of(stage.settings).read(f"{key}0")]


async def test_an_erased_persons_files_leave_the_bucket_unless_somebody_else_sent_them_too(settings: Settings) -> None:
    async with bucketed(settings) as (stage, bucket):
        async with stage.working("persist", "media"):
            shared, own = await twilio_file(stage), await twilio_file(stage, seed=1)
            await sends(stage, shared)
            await sends(stage, own)
            await sends(stage, shared, sender=OTHER_CUSTOMER)
            await stage.until(ended, stage, equals=[("stored", None)] * 3)
        assert len(bucket.objects) == 2
        assert (await erase(stage.pool, await who(stage.pool, stage.ours.tenant_id, CUSTOMER))).gone
        async with stage.working("clock"):
            await stage.until(stage.count, "media_blobs", equals=1)
        assert [key.rpartition("/")[2] for key in bucket.objects] == [shared.hex]


@pytest.mark.parametrize("fault", ["denied", "unavailable"])
async def test_a_bucket_that_takes_nothing_leaves_the_message_and_is_asked_again(
    settings: Settings, fault: s3_bucket.Fault
) -> None:
    async with bucketed(settings) as (stage, bucket), stage.working("persist", "media", "clock"):
        bucket.fault = fault
        await sends(stage, await twilio_file(stage))
        await stage.until(ended, stage, equals=[("wanted", "store")])
        assert await stage.count("messages WHERE content = 'mira'") == 1
        assert bucket.objects == {}
        bucket.fault = None
        await stage.until(ended, stage, equals=[("stored", None)])
        assert len(bucket.objects) == 1
        assert await stage.dead_letters() == {}


async def test_a_wrong_key_pair_fails_the_file_which_is_fetched_once_it_is_right(
    settings: Settings,
) -> None:
    wrong: dict[str, Any] = {"media_s3_secret": SecretStr("another"), "media_attempts": 2}
    async with bucketed(settings, **wrong) as (stage, bucket):
        async with stage.working("persist", "media", "clock"):
            await sends(stage, await twilio_file(stage))
            await stage.until(ended, stage, equals=[("failed", "store")])
        assert await stage.count("messages WHERE content = 'mira'") == 1
        assert {status for _, _, status in bucket.asked} == {403}
        assert await stage.count("events WHERE name = 'media.failed' AND detail ->> 'reason' = 'store'") == 1
        await stage.pool.execute(  # as docs/providers.md says
            "UPDATE media SET status = 'wanted', reason = NULL, attempts = 0, due_at = now() WHERE status = 'failed'"
        )
        right = stage.settings.model_copy(update={"media_s3_secret": SecretStr(SECRET)})
        async with stage.working("media", "clock", settings=right):
            await stage.until(ended, stage, equals=[("stored", None)])


async def test_where_nobody_listens_the_file_waits_until_somebody_does(settings: Settings) -> None:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    async with staged(settings, SILENT, **in_bucket(endpoint)) as stage, stage.working("persist", "media", "clock"):
        await sends(stage, await twilio_file(stage, size=LARGE))
        await stage.until(ended, stage, equals=[("wanted", "store")])
        async with serving(port) as bucket:
            await stage.until(ended, stage, equals=[("stored", None)])
            assert [len(content) for content in bucket.objects.values()] == [LARGE]


async def test_what_the_bucket_did_not_delete_is_deleted_later(settings: Settings) -> None:
    """Refused within an answer of 200, as S3 does; or a setting that names a bucket that is not there."""
    async with bucketed(settings) as (stage, bucket):
        async with stage.working("persist", "media"):
            await sends(stage, await twilio_file(stage))
            await stage.until(ended, stage, equals=[("stored", None)])
        (row,) = await stage.rows("SELECT key FROM media")
        elsewhere = stage.settings.model_copy(update={"media_store": "s3://nowhere/of/palomar"})
        refusing: list[tuple[Settings, s3_bucket.Fault | None]] = [
            (stage.settings, "undeletable"), (stage.settings, "denied"), (elsewhere, None),
        ]  # fmt: skip
        for store, fault in refusing:
            bucket.fault = fault
            with pytest.raises(StoreError):
                await Blobs.of(store).delete(row["key"])
        assert len(bucket.objects) == 1
        bucket.fault = "undeletable"
        await erase(stage.pool, await who(stage.pool, stage.ours.tenant_id, CUSTOMER))
        async with stage.working("clock"):
            asked = len(bucket.asked)

            async def refused() -> bool:
                return len(bucket.asked) > asked

            await stage.until(refused, equals=True)
            assert await stage.count("media_blobs WHERE going") == 1
            bucket.fault = None
            await stage.pool.execute("UPDATE media_blobs SET due_at = now()")  # as when the lease is over
            await stage.until(stage.count, "media_blobs", equals=0)
        assert bucket.objects == {}


async def test_an_upload_that_broke_off_leaves_no_parts_behind(settings: Settings) -> None:
    async with bucketed(settings) as (stage, bucket):

        class Breaks(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell() >= 5 * 1024**2:
                    raise OSError("the disk is gone")
                return super().read(size)

        with pytest.raises(StoreError):
            await Blobs.of(stage.settings).put("a", Breaks(bytes(LARGE)))

        async def begun() -> int:
            return len(bucket.uploads)

        await stage.until(begun, equals=0)
        assert bucket.objects == {}
