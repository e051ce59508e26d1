"""What the sandbox answers to its control API: the calls that it received, and the webhooks that it delivered."""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ops.sandbox.record import Outcome


class Shape(BaseModel):
    """A field that this version does not know is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Instant(Shape):
    wall: float
    monotonic: float


class SeenReceipt(Shape):
    status: str
    error_code: str | None
    posted_at: float
    http_status: int | None
    attempts: int


class SeenCall(Shape):
    """One request the sandbox got. `code` is the provider's code of a refusal."""

    seq: int
    received_at: Instant
    finished_at: Instant | None
    outcome: Outcome
    code: str | None
    answered: bool


class SeenMessage(SeenCall):
    """A message the sandbox was asked to send, with the receipts it POSTed."""

    provider: str
    sid: str
    account: str
    to: str
    sender: str = Field(alias="from")
    body: str
    media_urls: tuple[str, ...]
    content_sid: str | None
    content_variables: str | None
    status_callback: str | None
    opaque: str | None
    marketing: bool  # by Meta's path for marketing messages
    status: str
    statuses: tuple[SeenReceipt, ...]


class SeenSend(NamedTuple):
    """One call that sends a message. `at` is in Unix seconds, exact to a microsecond, and never goes back. `own_id` is
    the id that we gave the message."""

    at: float
    to: str
    own_id: str
    sender: str
    accepted: bool


class SendSummary(Shape):
    """The sum of such calls. `repeated_…`: recipients and ids of accepted messages that came more than once."""

    calls: int
    accepted: int
    recipients: int
    repeated_recipients: dict[str, int]
    repeated_ids: dict[str, int]
    next: int


class SeenRead(SeenCall):
    """A read receipt that Meta's sandbox was given, and whether it shows that we type."""

    phone_number_id: str
    message_id: str
    typing: bool


class SeenReport(SeenCall):
    """A delivery status that Kommo's sandbox was given of a manager's message: 1 delivered, -1 not."""

    scope_id: str
    message_id: str
    status: int
    error: int | None
    problem: str


class SeenTurn(Shape):
    role: str
    content: str


class SeenCompletion(SeenCall):
    model: str
    messages: tuple[SeenTurn, ...]
    max_tokens: int | None
    text: str


class WebhookAnswer(Shape):
    """How our side answered one inbound webhook. `status` is None where no answer came; `error` says why."""

    status: int | None
    elapsed_ms: float
    answer: str  # the body
    attempts: int
    error: str | None


class CustomerAnswer(WebhookAnswer):
    """The first of `deliveries`, and all of them where the webhook was repeated."""

    message_sid: str | None
    deliveries: tuple[WebhookAnswer, ...]


class QualityAnswer(Shape):
    """How many messages are held, or were released or dropped, and how our side answered the template's webhook."""

    held: int
    webhook: WebhookAnswer | None


class SeenLimit(Shape):
    """A sender's limit, and how many calls were refused by its rate and by its pair limit."""

    model_config = ConfigDict(frozen=True, extra="allow")

    provider: str
    sender: str
    exceeded: dict[str, int]


class SeenFile(Shape):
    """A file of the sandbox as a message names it; `sha256` as Meta's webhooks write it."""

    id: str
    url: str
    mime_type: str
    sha256: str
    hex: str


class SeenFetch(Shape):
    """One call for a file: for Twilio's resource or Meta's address of it (`api`, `located`), or for its `bytes`."""

    step: str
    host: str
    authorization: bool
    status: int


class StandingFault(Shape):
    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    provider: str
    action: str
    applied: int
