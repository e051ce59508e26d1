"""Records read receipts at the sandbox's Meta: which customers' messages we marked as read, and where we typed."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from ops.sandbox.answer import Refuse, answer, refused
from ops.sandbox.bodies import json_answer
from ops.sandbox.faults import FaultBook
from ops.sandbox.record import Call, Moment

MOST_REMEMBERED = 200_000  # messages of customers that are remembered
MOST_KEPT = 10_000  # read receipts
READ_RECEIPT = "read receipt"  # what a fault's `body_contains` is held against
INVALID = 100


@dataclass(slots=True, kw_only=True)
class ReadReceipt(Call):
    """One `status: read`, as it was asked for."""

    phone_number_id: str
    message_id: str
    typing: bool

    def view(self) -> dict[str, object]:
        asked = {"phone_number_id": self.phone_number_id, "message_id": self.message_id, "typing": self.typing}
        return Call.view(self) | asked


class Reads:
    """The read receipts of all numbers, and the messages they may be about."""

    def __init__(self, faults: FaultBook, refuse: Refuse) -> None:
        self._faults = faults
        self._refuse = refuse
        self._received: dict[tuple[str, str], str] = {}  # (phone number id, message id) → customer
        self._kept: deque[ReadReceipt] = deque(maxlen=MOST_KEPT)
        self._seq = 0

    def received(self, phone_number_id: str, message_id: str, customer: str) -> None:
        """A customer's message came to this number."""
        self._received[phone_number_id, message_id] = customer
        if len(self._received) > MOST_REMEMBERED:
            del self._received[next(iter(self._received))]

    def clear(self) -> None:
        self._received.clear()
        self._kept.clear()

    async def show(self, _: web.Request) -> web.Response:
        return json_answer([read.view() for read in self._kept])

    async def take(
        self, request: web.Request, received_at: Moment, phone_number_id: str, account: str, asked: Mapping[str, object]
    ) -> web.Response:
        """Meta's answer to a `status: read`."""
        self._seq += 1
        typing = asked.get("typing_indicator")
        read = ReadReceipt(
            seq=self._seq,
            received_at=received_at,
            phone_number_id=phone_number_id,
            message_id=str(asked.get("message_id") or ""),
            typing=typing is not None,
        )
        self._kept.append(read)

        def accept() -> web.Response:
            read.outcome = "accepted"
            return json_answer({"success": True})

        customer = self._received.get((phone_number_id, read.message_id))
        try:
            if asked.get("messaging_product") != "whatsapp":
                problem = "(#100) The parameter messaging_product is required."
            elif typing is not None and typing != {"type": "text"}:
                problem = "(#100) Invalid parameter: typing_indicator"
            elif customer is None:
                problem = "(#100) Invalid parameter: message_id"
            else:
                fault = self._faults.answer_fault("meta", to=customer, body=READ_RECEIPT, account=account)
                return await answer(request, read, fault, accept=accept, refuse=self._refuse)
            return refused(read, self._refuse(400, INVALID, problem), INVALID)
        finally:
            read.finished_at = Moment.now()
