"""The webhooks of all rows: a customer's WhatsApp message as Twilio posts it, signed, no two alike."""

import random
from collections.abc import Iterator
from urllib.parse import urlencode

from ops.demo.twilio import ADDRESS
from ops.sandbox.twilio import AUTH_TOKEN, inbound_form, sign

CUSTOMERS = 2_000
CONTENT_TYPE = "application/x-www-form-urlencoded; charset=UTF-8"

_TEXTS = (
    "Hola, buenos días",
    "¿Tienen el modelo azul en talla 42? Lo vi ayer en la tienda y no me decidí",
    "ok",
    "Gracias! Me lo podéis enviar a la misma dirección de la última vez, por favor? Calle Mayor 12, 3º izquierda",
    "cuánto cuesta el envío a Canarias y cuántos días tarda en llegar",
    "👍",
    "Quería preguntar por el pedido de la semana pasada, todavía no me ha llegado nada y ya son ocho días",
)


def form(number: int, customer: int) -> dict[str, str]:
    """The form of webhook `number`, from this customer; its MessageSid is unique."""
    return inbound_form(
        sender=f"whatsapp:{phone(customer)}",
        to=f"whatsapp:{ADDRESS}",
        text=_TEXTS[number % len(_TEXTS)],
        profile_name=f"Customer {customer}",
    )


def phone(customer: int) -> str:
    """A Spanish mobile number."""
    return f"+346{customer:08d}"


def senders(count: int) -> list[int]:
    """Which of CUSTOMERS wrote each of `count` webhooks: by lot, the same in every run."""
    lot = random.Random(0)
    return [lot.randrange(CUSTOMERS) for _ in range(count)]


def bodies(count: int) -> Iterator[bytes]:
    """The raw bodies of `count` webhooks."""
    for number, customer in enumerate(senders(count)):
        yield urlencode(form(number, customer)).encode()


def request(url: str, number: int, customer: int) -> bytes:
    """The whole HTTP request of a webhook to `url` (which is what Twilio signs), to be written as it is."""
    fields = form(number, customer)
    body = urlencode(fields).encode()
    host, slash, path = url.removeprefix("http://").partition("/")
    head = (
        f"POST {slash}{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {CONTENT_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nX-Twilio-Signature: {sign(url, fields, AUTH_TOKEN)}\r\n"
        f"I-Twilio-Idempotency-Token: {fields['MessageSid']}\r\nUser-Agent: TwilioProxy/1.1\r\nAccept: */*\r\n\r\n"
    )
    return head.encode() + body
