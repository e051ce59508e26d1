"""What differs from provider to provider where webhooks come in: the path, what its bodies are, who signed. No I/O."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from shared.providers import email, kommo, meta, twilio
from shared.providers.base import RawWebhook


class Intake(NamedTuple):
    """How the webhooks of one URL are taken. A new provider is one line in INTAKES."""

    verify: Callable[[RawWebhook, Sequence[str]], bool]
    signed: str  # said to whoever signs otherwise
    takes: Callable[[str, str], bool]  # (media type, query) → may this be its webhook?
    taken: str  # said to whoever sends something else
    answer: bytes
    answer_type: str
    only_receipts: Callable[[bytes], bool]  # does this body hold nothing else?
    challenge: Callable[[str, str], str | None] | None = None  # (query, verify token) → the answer to a verifying GET
    largest: int = 0  # bytes that it may send, as documented: taken whatever our own limit is
    trailing: tuple[int, ...] = (0,)  # how many parts may follow the endpoint's id in the path
    beside: Mapping[str, "Intake"] = {}  # other webhooks of the same endpoint, by the part that follows its id
    secret_path: bool = False  # whether the URL ends with a secret instead of a signature's being there
    patience: float = 1.0  # how many times the usual wait its bodies may take


def intake_at(provider: str, rest: Sequence[str]) -> Intake | None:
    """Who takes what comes to /webhooks/PROVIDER/ENDPOINT/REST; None where nothing is there."""
    intake = INTAKES.get(provider)
    if intake is not None and rest and rest[0] in intake.beside:
        intake, rest = intake.beside[rest[0]], rest[1:]
    return intake if intake is not None and len(rest) in intake.trailing and all(rest) else None


# -- what may be a provider's webhook ----------------------------------------------------------------------------------


def _form_or_signed_json(media_type: str, query: str) -> bool:
    # A JSON body is signed by its hash in the query; without it nothing ties the body to the signature.
    return media_type == "application/x-www-form-urlencoded" or (
        (media_type == "application/json" or media_type.endswith("+json")) and "bodySHA256=" in query
    )


def _form_or_json(media_type: str, _: str) -> bool:
    return media_type in ("application/x-www-form-urlencoded", "application/json")


def _json(media_type: str, _: str) -> bool:
    return media_type == "application/json"


def _parts(media_type: str, _: str) -> bool:
    return media_type == email.FORM


# -- which of them wait in the receipts' lane --------------------------------------------------------------------------


def _always(_: bytes) -> bool:
    return True


def _never(_: bytes) -> bool:
    return False


# A quote within a text is escaped, so a customer can't write either of them.
_MESSAGES_KEY = re.compile(rb'"messages"\s*:')


def _only_statuses(body: bytes) -> bool:
    return b'"statuses"' in body and _MESSAGES_KEY.search(body) is None


# What customers wrote in a form that has no `message` around it (Kommo).
_ADDED_KEY = re.compile(rb"(?:^|&)add(?:\[|%5B)", re.IGNORECASE)


def _says_no_message(body: bytes) -> bool:
    return b"message" not in body and _ADDED_KEY.search(body) is None


# -- the providers -----------------------------------------------------------------------------------------------------

_TWILIO = Intake(
    verify=twilio.verify,
    signed="it must be made with the endpoint's auth token over the public URL {public_url} (PALOMAR_PUBLIC_URL) "
    "with this path and query",
    takes=_form_or_signed_json,
    taken="application/x-www-form-urlencoded, or JSON with bodySHA256 in the query",
    answer=b'<?xml version="1.0" encoding="UTF-8"?><Response/>',
    answer_type="text/xml",
    only_receipts=_never,
)

_KOMMO_CHATS = Intake(
    verify=kommo.verify,
    signed="X-Signature must be made with the channel secret of the endpoint's channel, over the body as it is",
    takes=_json,
    taken="application/json",
    answer=b"",
    answer_type="text/plain",
    only_receipts=_says_no_message,
    trailing=(0, 1),  # Kommo puts the scope id at its end
)

INTAKES: Mapping[str, Intake] = {
    "twilio": _TWILIO._replace(beside={"status": _TWILIO._replace(only_receipts=_always)}),
    "meta": Intake(
        verify=meta.verify,
        signed="X-Hub-Signature-256 must be made with the app secret of the endpoint's app, over the body as it is",
        takes=_json,
        taken="application/json",
        answer=b"",
        answer_type="text/plain",
        only_receipts=_only_statuses,
        challenge=meta.challenge,
        largest=3 * 1024 * 1024,
    ),
    "kommo": Intake(
        verify=kommo.holds_secret,
        signed="the URL must end with the secret that `palomar channels list` shows",
        takes=_form_or_json,
        taken="application/x-www-form-urlencoded, or JSON",
        answer=b"",
        answer_type="text/plain",
        only_receipts=_says_no_message,
        trailing=(1,),
        beside={kommo.CHATS: _KOMMO_CHATS},
        secret_path=True,
    ),
    "email": Intake(
        verify=email.verify,
        signed="the URL must end with the secret that `palomar channels add` printed for this endpoint",
        takes=_parts,
        taken="multipart/form-data, as an inbound-parse webhook posts a mail",
        answer=b"",
        answer_type="text/plain",
        only_receipts=_never,
        largest=10 * 1024 * 1024,
        trailing=(1,),
        secret_path=True,
        patience=3.0,
    ),
}
