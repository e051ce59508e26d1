"""The providers that the fault tests run over: how each tells of a customer, and how a message is known again there.

A provider more is one class here and its name in ALL.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from uuid import UUID

from ops.sandbox import kommo_forms, meta_forms
from ops.sandbox.meta_forms import APP_SECRET, PHONE_NUMBER_ID
from ops.sandbox.observations import SeenMessage
from ops.sandbox.twilio_forms import AUTH_TOKEN, inbound_form, new_sid, webhook_headers
from tests.support.kommo_stage import add_kommo
from tests.support.meta_stage import add_app, add_number
from tests.support.stage import FORM, Ours, Stage

# What a provider does wrong all the time: of a share of the sends the connection is dropped, mostly after the message
# was taken; a share is throttled; many answers are slow, so that a kill finds them under way; receipts come thrice
# and out of order.
_FAULTS: Final[tuple[Mapping[str, object], ...]] = (
    {"action": "accept_then_drop", "probability": 0.04, "seed": 1},
    {"action": "drop_before", "probability": 0.01, "seed": 5},
    {"action": "429", "probability": 0.04, "seed": 2, "retry_after": 1},
    {"action": "slow", "probability": 0.3, "seed": 6, "delay_ms": 300},
    {"action": "slow", "probability": 0.4, "seed": 7, "delay_ms": 300, "accepted_first": True},
    {"action": "receipts_repeated", "copies": 3, "probability": 0.5, "seed": 3},
    {"action": "receipts_shuffled", "probability": 0.5, "seed": 4},
)


@dataclass(frozen=True, slots=True)
class Said:
    """A customer's message: the provider's id of it, the customer's number in E.164, and the words."""

    sid: str
    customer: str
    text: str


@dataclass(frozen=True, slots=True)
class WithReceipt:
    """A message of ours that the provider took, of which a receipt came before."""

    sid: str
    customer: str
    message_id: UUID


class Provider(Protocol):
    """What differs from one provider to the other. `gathers`: seconds for which messages wait to share a webhook."""

    name: str
    gathers: float
    faults: Sequence[Mapping[str, object]]
    leases: Mapping[str, object]  # settings that differ from the tests' own
    asked: bool  # whether its API can be asked what became of a message; else only its receipts say so

    async def add_channel(self, stage: Stage, channel: Mapping[str, object] | None) -> Ours: ...

    def address(self, customer: str) -> str:
        """How a customer's number is written here."""
        ...

    def path(self, ours: Ours) -> str:
        """Of the URL where webhooks come in."""
        ...

    def new_id(self) -> str:
        """Of a customer's message."""
        ...

    def webhook(
        self, ours: Ours, url: str, said: Sequence[Said], repeated: Sequence[WithReceipt]
    ) -> tuple[bytes, Mapping[str, str]]:
        """One webhook of all these messages and receipts, signed: body and headers."""
        ...

    def our_id(self, seen: SeenMessage) -> UUID:
        """Our message id, as it travels with every send."""
        ...

    def receipts(self, body: bytes) -> Iterator[tuple[str, str]]:
        """(id, the provider's word) of each receipt in a webhook."""
        ...


class AtTwilio:
    """One form for one message or receipt. What no receipt tells, a listing does."""

    name: str = "twilio"
    gathers: float = 0.0
    faults: Sequence[Mapping[str, object]] = tuple(
        {"provider": "twilio", **rule} for rule in (*_FAULTS, {"action": "no_receipts", "probability": 0.4, "seed": 8})
    )
    leases: Mapping[str, object] = {}
    asked: bool = True

    async def add_channel(self, stage: Stage, channel: Mapping[str, object] | None) -> Ours:
        return await stage.add_channel(channel)

    def address(self, customer: str) -> str:
        return customer

    def path(self, ours: Ours) -> str:
        return f"/webhooks/twilio/{ours.endpoint_id}"

    def new_id(self) -> str:
        return new_sid("SM")

    def webhook(
        self, ours: Ours, url: str, said: Sequence[Said], repeated: Sequence[WithReceipt]
    ) -> tuple[bytes, Mapping[str, str]]:
        (one,) = said
        form = inbound_form(
            sender=ours.party(one.customer), to=ours.party(ours.address), text=one.text, message_sid=one.sid
        )
        return urlencode(form).encode(), {**webhook_headers(url, form, AUTH_TOKEN), "Content-Type": FORM}

    def our_id(self, seen: SeenMessage) -> UUID:
        assert seen.status_callback is not None, f"{seen.sid} went out without a StatusCallback"
        return UUID(parse_qs(urlsplit(seen.status_callback).query)["m"][0])

    def receipts(self, body: bytes) -> Iterator[tuple[str, str]]:
        form = parse_qs(body.decode())
        yield form["MessageSid"][0], form["MessageStatus"][0]


class AtMeta:
    """One JSON body for all that gathered: several customers' messages, and receipts that were sent before.

    Meta lists no messages: only a receipt tells what became of one of unknown outcome, so none is kept back here, and
    it is given the time that it may take while ingress is away.
    """

    name: str = "meta"
    gathers: float = 0.2
    faults: Sequence[Mapping[str, object]] = tuple({"provider": "meta", **rule} for rule in _FAULTS)
    leases: Mapping[str, object] = {"unknown_give_up_after": 20.0}
    asked: bool = False

    async def add_channel(self, stage: Stage, channel: Mapping[str, object] | None) -> Ours:
        app = await add_app(stage)
        url = f"{stage.settings.public_url}/webhooks/meta/{app}"
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=url)
        return await add_number(stage, app, PHONE_NUMBER_ID, channel=channel)

    def address(self, customer: str) -> str:
        return customer

    def path(self, ours: Ours) -> str:
        return f"/webhooks/meta/{ours.endpoint_id}"

    def new_id(self) -> str:
        return meta_forms.new_id()

    def webhook(
        self, ours: Ours, url: str, said: Sequence[Said], repeated: Sequence[WithReceipt]
    ) -> tuple[bytes, Mapping[str, str]]:
        """Messages of one customer stand in one change, each customer's in an entry of its own."""
        entries: list[dict[str, Any]] = []
        by_customer: dict[str, dict[str, Any]] = {}
        for one in said:
            whole = meta_forms.inbound_body(
                sender=one.customer, phone_number_id=ours.address, text=one.text, message_id=one.sid
            )
            value = whole["entry"][0]["changes"][0]["value"]
            if one.customer in by_customer:
                by_customer[one.customer]["messages"] += value["messages"]
            else:
                by_customer[one.customer] = value
                entries += whole["entry"]
        if repeated:
            statuses = [
                {
                    "id": one.sid,
                    "status": "sent",
                    "timestamp": str(int(time.time())),
                    "recipient_id": one.customer.removeprefix("+"),
                    "biz_opaque_callback_data": str(one.message_id),
                }
                for one in repeated
            ]
            entries[0]["changes"][0]["value"]["statuses"] = statuses
        body = json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode()
        return body, meta_forms.webhook_headers(body, APP_SECRET)

    def our_id(self, seen: SeenMessage) -> UUID:
        assert seen.opaque is not None, f"{seen.sid} went out without biz_opaque_callback_data"
        return UUID(seen.opaque)

    def receipts(self, body: bytes) -> Iterator[tuple[str, str]]:
        for entry in json.loads(body)["entry"]:
            for change in entry["changes"]:
                for status in change["value"]["statuses"]:
                    yield status["id"], status["status"]


class AtKommo:
    """One form for whatever gathered, its fields numbered. No receipts: a chat's history tells of each message."""

    name: str = "kommo"
    gathers: float = 0.2
    faults: Sequence[Mapping[str, object]] = tuple(
        {"provider": "kommo", **rule} for rule in _FAULTS if not str(rule["action"]).startswith("receipts")
    )
    leases: Mapping[str, object] = {}
    asked: bool = True

    async def add_channel(self, stage: Stage, channel: Mapping[str, object] | None) -> Ours:
        # Not at the 7 a second that Kommo allows: the customers of a fault run write more than that.
        return await add_kommo(stage, {"rate": 80, **(channel or {})})

    def address(self, customer: str) -> str:
        return kommo_forms.chat_of(customer)

    def path(self, ours: Ours) -> str:
        return f"/webhooks/kommo/{ours.endpoint_id}/{kommo_forms.URL_SECRET}"

    def new_id(self) -> str:
        return kommo_forms.new_id()

    def webhook(
        self, ours: Ours, url: str, said: Sequence[Said], repeated: Sequence[WithReceipt]
    ) -> tuple[bytes, Mapping[str, str]]:
        parts = []
        for number, one in enumerate(said):
            alone = kommo_forms.crm_body(chat_id=self.address(one.customer), text=one.text, message_id=one.sid).decode()
            parts += [(name.replace("[0]", f"[{number}]"), value) for name, value in parse_qsl(alone)]
        return urlencode(dict(parts)).encode(), kommo_forms.CRM_HEADERS

    def our_id(self, seen: SeenMessage) -> UUID:
        assert seen.opaque is not None, f"{seen.sid} went out without a msgid"
        return UUID(seen.opaque)

    def receipts(self, body: bytes) -> Iterator[tuple[str, str]]:
        return iter(())


TWILIO: Final[Provider] = AtTwilio()
META: Final[Provider] = AtMeta()
KOMMO: Final[Provider] = AtKommo()
ALL: Final[tuple[Provider, ...]] = (TWILIO, META, KOMMO)
