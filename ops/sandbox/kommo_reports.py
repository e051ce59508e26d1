"""Records the delivery statuses of agents' messages that we report to the sandbox's Kommo."""

from collections import deque
from dataclasses import dataclass

from aiohttp import web

from ops.sandbox.answer import Refuse, answer, refused
from ops.sandbox.bodies import json_answer
from ops.sandbox.faults import FaultBook
from ops.sandbox.record import Call, Moment

MOST_WRITTEN = 200_000  # managers' messages that are remembered
MOST_KEPT = 10_000  # delivery statuses
DELIVERY_STATUS = "delivery status"  # what a fault's `body_contains` is held against
CODES = range(901, 906)


@dataclass(slots=True, kw_only=True)
class DeliveryStatus(Call):
    """One update, as it was asked for; `problem` is the sentence that the manager is shown."""

    scope_id: str
    message_id: str
    status: int
    error: int | None
    problem: str

    def view(self) -> dict[str, object]:
        asked = {"scope_id": self.scope_id, "message_id": self.message_id, "status": self.status}
        return Call.view(self) | asked | {"error": self.error, "problem": self.problem}


class Reports:
    """The delivery statuses of all channels, and the messages they may be about."""

    def __init__(self, faults: FaultBook, refuse: Refuse) -> None:
        self._faults = faults
        self._refuse = refuse
        self._written: dict[tuple[str, str], str] = {}  # (scope id, message id) → chat
        self._kept: deque[DeliveryStatus] = deque(maxlen=MOST_KEPT)
        self._seq = 0

    def wrote(self, scope_id: str, message_id: str, chat_id: str) -> None:
        """A manager's message went out by this channel's webhook."""
        self._written[scope_id, message_id] = chat_id
        if len(self._written) > MOST_WRITTEN:
            del self._written[next(iter(self._written))]

    def clear(self) -> None:
        self._written.clear()
        self._kept.clear()

    async def show(self, _: web.Request) -> web.Response:
        return json_answer([report.view() for report in self._kept])

    async def take(self, request: web.Request, received_at: Moment, scope_id: str, asked: object) -> web.Response:
        """Kommo's answer to an update of a delivery status."""
        given = asked if isinstance(asked, dict) else {}
        message_id, status, error = request.match_info["msgid"], given.get("delivery_status"), given.get("error_code")
        self._seq += 1
        report = DeliveryStatus(
            seq=self._seq,
            received_at=received_at,
            scope_id=scope_id,
            message_id=message_id,
            status=status if isinstance(status, int) else 0,
            error=error if isinstance(error, int) else None,
            problem=str(given.get("error", "")),
        )
        self._kept.append(report)

        def accept() -> web.Response:
            report.outcome = "accepted"
            return web.Response()

        chat_id = self._written.get((scope_id, message_id))
        try:
            if chat_id is None:
                return refused(report, self._refuse(404, 404, "no such message"), 404)
            if problem := _problem(given, report):
                return refused(report, self._refuse(400, 400, problem), 400)
            fault = self._faults.answer_fault("kommo", to=chat_id, body=DELIVERY_STATUS, account=scope_id)
            return await answer(request, report, fault, accept=accept, refuse=self._refuse)
        finally:
            report.finished_at = Moment.now()


def _problem(given: dict[str, object], report: DeliveryStatus) -> str:
    if given.get("msgid") != report.message_id:
        return "msgid: must be the one in the URL"
    if report.status not in (-1, 1, 2):
        return "delivery_status: -1, 1 or 2"
    if report.status != -1:
        return "error_code and error: only of an error" if "error_code" in given or "error" in given else ""
    if report.error not in CODES:
        return "error_code: 901 to 905"
    return "" if report.problem or report.error != 905 else "error: required with 905"
