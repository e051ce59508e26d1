"""Floor of ingress: an aiohttp handler that publishes each webhook, confirmed, and answers. It checks nothing.

AMQP_URL, PORT, and the queue as the one argument.
"""

import asyncio
import os
import signal
import sys

import aio_pika
import uvloop
from aiohttp import web

ANSWER = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'


async def main(queue_name: str) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.declare_queue(queue_name, durable=True, arguments={"x-queue-type": "quorum"})
        exchange = channel.default_exchange

        async def publish(request: web.Request) -> web.Response:
            body = await request.read()
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, queue_name, mandatory=True)
            return web.Response(body=ANSWER, content_type="text/xml")

        async def ready(_: web.Request) -> web.Response:
            return web.Response()

        app = web.Application()
        app.router.add_post("/{path:.*}", publish)
        app.router.add_get("/readyz", ready)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"])).start()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
