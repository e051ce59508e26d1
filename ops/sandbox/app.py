"""Puts the sandbox together: one aiohttp application with every provider we play and the control API."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from ops.sandbox.answer import STOPPING
from ops.sandbox.control import Control
from ops.sandbox.courier import Courier
from ops.sandbox.email import EmailSandbox
from ops.sandbox.faults import FaultBook
from ops.sandbox.kommo import KommoSandbox
from ops.sandbox.limits import Limits
from ops.sandbox.media import MediaSandbox
from ops.sandbox.meta import MetaSandbox
from ops.sandbox.openai import OpenAISandbox
from ops.sandbox.receipts import Delays
from ops.sandbox.record import MessageLog
from ops.sandbox.template_book import TemplateBook
from ops.sandbox.templates import TemplatesSandbox
from ops.sandbox.twilio import TwilioSandbox
from ops.sandbox.webhooks import WebhookSandbox

HOST = "127.0.0.1"  # never more: it holds no secret and trusts every caller
STOP_WITHIN = 2.0  # seconds an answer under way has left
BODY_LIMIT = 12 * 1024**2  # bytes; more than our own ingress takes, so that its limit can be tested


def make_app(
    *, delays: Delays | None = None, keep_messages: int = 200_000, courier_workers: int = 32, smtp_port: int = 0
) -> web.Application:
    """The sandbox as an application, to be made inside a running loop and run with `serving`.

    `delays` are the seconds from acceptance to each receipt; beyond `keep_messages` the oldest are forgotten;
    at most `courier_workers` receipts are on their way at once. `smtp_port` 0 takes a free one.
    """
    app = web.Application(client_max_size=BODY_LIMIT)
    app[STOPPING] = asyncio.Event()
    messages, faults, courier = MessageLog(keep_messages), FaultBook(), Courier(courier_workers)
    limits, book = Limits(), TemplateBook()
    twilio = TwilioSandbox(messages, faults, courier, delays or Delays(), limits)
    meta = MetaSandbox(messages, faults, courier, delays or Delays(), limits, book)
    kommo = KommoSandbox(messages, faults, courier, delays or Delays(), limits)
    email = EmailSandbox(messages, faults, courier, smtp_port)
    model = OpenAISandbox(faults)
    media = MediaSandbox(twilio.knows, meta.numbers.knows)
    templates = TemplatesSandbox(faults, book, meta.numbers.sees, twilio.knows)
    webhooks = WebhookSandbox()
    parts = (twilio, meta, kommo, email, model, media, templates, webhooks)
    clears = tuple(part.clear for part in parts)
    control = Control(messages, faults, courier, clears)
    for part in (
        control,
        limits,
        media,
        templates,
        webhooks,
        twilio,
        meta,
        kommo,
        email,
        model,
    ):  # the providers end with "nothing here"
        app.add_routes(part.routes())

    async def let_go(app: web.Application) -> None:
        """Before open requests are waited for: end the hanging and the waiting ones."""
        app[STOPPING].set()
        messages.release()

    async def carried(_: web.Application) -> AsyncIterator[None]:
        yield
        await courier.close()

    app.on_shutdown.append(let_go)
    app.cleanup_ctx.append(carried)
    app.cleanup_ctx.append(email.serving)
    return app


@asynccontextmanager
async def serving(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """Run the sandbox on loopback (port 0: a free one); gives its base URL. Raises OSError where the port is taken.

    As at a real provider a request is carried out even if its caller has left, unlike under aiohttp's TestServer.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_WITHIN)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        host, bound = runner.addresses[0][:2]
        yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()
