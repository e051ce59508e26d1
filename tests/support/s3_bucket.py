"""A bucket that speaks S3's protocol over HTTP, as far as a blob store needs it: what is put is kept and comes back.

It is no S3: it has one bucket and one key pair, in memory. What it does it does strictly: a request without a right
signature (AWS Signature Version 4), or whose body is not what was signed, changes nothing.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import uuid4
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from aiohttp import web

BUCKET: Final = "files"
KEY_ID: Final = "AKIAPALOMARTEST"
SECRET: Final = "no-secret-of-anybody"
REGION: Final = "eu-south-2"
SKEW: Final = timedelta(minutes=15)
_CREDENTIAL: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<scope>(?P<day>\d{8})/(?P<region>[^/]+)/s3/aws4_request), ?"
    r"SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)

Fault = Literal["denied", "unavailable", "hang", "undeletable"]


def signature(
    secret: str, method: str, target: str, headers: Mapping[str, str], signed: str, scope: str, payload: str
) -> str:
    """The signature of a request: `target` is its path and query as sent, `signed` the signed headers' names as the
    Authorization header lists them, `scope` day/region/service/aws4_request, `payload` the body's hash in hex."""
    path, _, query = target.partition("?")
    pairs = sorted(pair if "=" in pair else f"{pair}=" for pair in query.split("&")) if query else []
    named = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signed.split(";"))
    canonical = "\n".join((method, path, "&".join(pairs), named, signed, payload))
    to_sign = "\n".join(
        ("AWS4-HMAC-SHA256", headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest())
    )
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


@dataclass
class Bucket:
    """What lies in it, what was asked of it as (method, key, status), and what goes wrong with it."""

    endpoint: str = ""
    fault: Fault | None = None
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)  # of several parts, begun and not ended
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    _hangs: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        refused = self._refused(request, body)
        if refused is None and self.fault == "hang":
            await self._hangs.wait()
        answer = refused or self._carried_out(request, body)
        self.asked.append((request.method, request.match_info["key"], answer.status))
        return answer

    def end(self) -> None:
        """End all requests that hang."""
        self._hangs.set()

    def _refused(self, request: web.Request, body: bytes) -> web.Response | None:
        if self.fault == "unavailable":
            return _error(503, "SlowDown")
        given = _CREDENTIAL.fullmatch(request.headers.get("Authorization", ""))
        if self.fault == "denied" or given is None:
            return _error(403, "AccessDenied")
        if (given["id"], given["region"]) != (KEY_ID, REGION):
            return _error(403, "InvalidAccessKeyId")
        payload = request.headers["x-amz-content-sha256"]
        if hashlib.sha256(body).hexdigest() != payload:
            return _error(400, "XAmzContentSHA256Mismatch")
        headers = {name.lower(): value for name, value in request.headers.items()}
        at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - at) > SKEW or not headers["x-amz-date"].startswith(given["day"]):
            return _error(403, "RequestTimeTooSkewed")
        right = signature(SECRET, request.method, request.raw_path, headers, given["headers"], given["scope"], payload)
        if not hmac.compare_digest(right, given["signature"]):
            return _error(403, "SignatureDoesNotMatch")
        return None if request.match_info["bucket"] == BUCKET else _error(404, "NoSuchBucket")

    def _carried_out(self, request: web.Request, body: bytes) -> web.Response:
        key, query = request.match_info["key"], request.query
        upload = query.get("uploadId", "")
        if upload and upload not in self.uploads:
            return _error(404, "NoSuchUpload")
        match request.method:
            case "PUT" if upload:
                self.uploads[upload][int(query["partNumber"])] = body
                return web.Response(headers={"ETag": _etag(body)})
            case "PUT":
                self.objects[key] = body
                return web.Response(headers={"ETag": _etag(body)})
            case "POST" if "uploads" in query:
                self.uploads[upload := uuid4().hex] = {}
                return _xml("InitiateMultipartUploadResult", {"Bucket": BUCKET, "Key": key, "UploadId": upload})
            case "POST" if upload:
                return self._completed(key, upload, body)
            case "POST" if "delete" in query:
                return self._deleted(body)
            case "DELETE" if upload:
                del self.uploads[upload]
                return web.Response(status=204)
            case "GET" | "HEAD" if key in self.objects:
                content = self.objects[key]
                modified = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
                return web.Response(body=content, headers={"ETag": _etag(content), "Last-Modified": modified})
            case "GET" | "HEAD":
                return _error(404, "NoSuchKey")
        return _error(501, "NotImplemented")

    def _completed(self, key: str, upload: str, body: bytes) -> web.Response:
        parts = self.uploads[upload]
        asked = [int(part.text or 0) for part in ElementTree.fromstring(body).iter() if _name(part) == "PartNumber"]
        if asked != sorted(parts):
            return _error(400, "InvalidPart")
        if any(len(parts[number]) < 5 * 1024 * 1024 for number in asked[:-1]):
            return _error(400, "EntityTooSmall")
        del self.uploads[upload]
        content = self.objects[key] = b"".join(parts[number] for number in asked)
        fields = {"Location": "", "Bucket": BUCKET, "Key": key, "ETag": _etag(content)}
        return _xml("CompleteMultipartUploadResult", fields)

    def _deleted(self, body: bytes) -> web.Response:
        """As at S3, one that is not there is deleted too; what is refused stands in an answer of 200."""
        results = ""
        for key in [one.text or "" for one in ElementTree.fromstring(body).iter() if _name(one) == "Key"]:
            if self.fault == "undeletable":
                results += f"<Error><Key>{escape(key)}</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
            else:
                self.objects.pop(key, None)
                results += f"<Deleted><Key>{escape(key)}</Key></Deleted>"
        return _document(f"<DeleteResult>{results}</DeleteResult>")


def _name(element: ElementTree.Element) -> str:
    """Without its namespace."""
    return element.tag.rpartition("}")[2]


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _document(xml: str, status: int = 200) -> web.Response:
    return web.Response(
        text=f'<?xml version="1.0" encoding="UTF-8"?>{xml}', content_type="application/xml", status=status
    )


def _xml(name: str, fields: Mapping[str, str]) -> web.Response:
    return _document(f"<{name}>{''.join(f'<{key}>{escape(value)}</{key}>' for key, value in fields.items())}</{name}>")


def _error(status: int, code: str) -> web.Response:
    return _document(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status)


@asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[Bucket]:
    """An empty bucket on loopback, at `endpoint`; port 0 is a free one."""
    bucket = Bucket()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{bucket:[^/]+}{_:/?}{key:.*}", bucket.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        bucket.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield bucket
    finally:
        bucket.end()
        await runner.cleanup()
