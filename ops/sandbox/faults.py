"""Faults on demand: rules that say which calls go wrong and how, and the choice of those that apply to a call.

A rule is JSON: `{"provider": "twilio", "action": "429", "retry_after": 2, "match": {"to": "+52…"}, "times": 3}`.
Of the rules that spoil an answer the first that matches applies; the rules that spoil receipts apply together.
"""

import random
import uuid
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

MOST_RULES = 1000
Probability = Annotated[float, Field(ge=0, le=1)]
Delay = Annotated[float, Field(ge=0, le=3600)]


class Match(BaseModel):
    """What a call must have; a field left out matches everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str | None = Field(default=None, description="recipient, exactly as sent; not of a model")
    body_contains: str | None = Field(
        default=None,
        description="in the message, or in the prompt's last user message; a read receipt's is `read receipt`, "
        "that of what we tell Kommo of a manager's `delivery status`",
    )
    account: str | None = Field(
        default=None,
        description="Twilio's account sid, Meta's WhatsApp business account, Kommo's scope id, the model's API key",
    )

    def fits(self, *, to: str | None, body: str, account: str) -> bool:
        return (
            (self.to is None or self.to == to)
            and (self.body_contains is None or self.body_contains in body)
            and (self.account is None or self.account == account)
        )


class Rule(BaseModel):
    """What every rule has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(default_factory=lambda: uuid.uuid4().hex, min_length=1, description="the same id again replaces")
    provider: Literal["twilio", "meta", "kommo", "email", "openai"]
    match: Match = Match()
    probability: Probability = 1.0
    seed: int = Field(default=0, description="of this rule's own dice: the same calls meet the same fate again")
    times: int | None = Field(default=None, ge=1, description="the rule has expired once it was applied this often")


class TooMany(Rule):
    action: Literal["429"]
    retry_after: int | None = Field(default=None, ge=0, description="seconds, sent as Retry-After")


class ServerError(Rule):
    action: Literal["5xx"]
    status: int = Field(default=503, ge=500, le=599)


class Refusal(Rule):
    action: Literal["error"]
    status: int = Field(400, ge=400, le=499)
    code: int | str
    message: str = ""


class Hang(Rule):
    """Nothing is accepted and nothing is answered; the connection is dropped after `seconds`."""

    action: Literal["hang"]
    seconds: Delay = 60.0


class AcceptThenDrop(Rule):
    """The message is accepted and its receipts follow, but the connection is dropped with no answer."""

    action: Literal["accept_then_drop"]


class DropBefore(Rule):
    """The connection is dropped and nothing is accepted."""

    action: Literal["drop_before"]


class Slow(Rule):
    """The normal answer, late. With `accepted_first` the message is taken at once, so receipts overtake the answer."""

    action: Literal["slow"]
    delay_ms: float = Field(default=1000.0, ge=0, le=3_600_000)
    accepted_first: bool = False


class ListedLate(Rule):
    """Accepted at once, and missing from the provider's list for a while."""

    provider: Literal["twilio"]
    action: Literal["listed_late"]
    seconds: Delay


class ReceiptRule(Rule):
    provider: Literal["twilio", "meta"]


class ReceiptError(ReceiptRule):
    """Accepted, but a receipt says later that it failed."""

    action: Literal["receipt_error"]
    status: Literal["undelivered", "failed"] = "undelivered"
    code: int
    message: str = ""
    after_sent: bool = Field(default=True, description="whether a `sent` receipt comes first")


class NoReceipts(ReceiptRule):
    action: Literal["no_receipts"]


class LateReceipts(ReceiptRule):
    action: Literal["late_receipts"]
    seconds: Delay


class ReceiptsShuffled(ReceiptRule):
    """In an order that is never the true one."""

    action: Literal["receipts_shuffled"]


class ReceiptsRepeated(ReceiptRule):
    action: Literal["receipts_repeated"]
    copies: int = Field(default=2, ge=2, le=20, description="how often each receipt is POSTed")


AnswerFault = TooMany | ServerError | Refusal | Hang | AcceptThenDrop | DropBefore | Slow
ReceiptFault = ReceiptError | NoReceipts | LateReceipts | ReceiptsShuffled | ReceiptsRepeated
Fault = Annotated[AnswerFault | ReceiptFault | ListedLate, Field(discriminator="action")]
FAULTS: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


class TooManyRulesError(ValueError):
    """The book is full."""


class _Standing:
    """A rule with its own dice and how often it was applied."""

    def __init__(self, rule: AnswerFault | ReceiptFault | ListedLate) -> None:
        self.rule = rule
        self.applied = 0
        self._dice = random.Random(rule.seed)

    def strikes(self, provider: str, to: str | None, body: str, account: str) -> bool:
        rule = self.rule
        if rule.provider != provider or (rule.times is not None and self.applied >= rule.times):
            return False
        if not rule.match.fits(to=to, body=body, account=account):
            return False
        if rule.probability < 1 and self._dice.random() >= rule.probability:
            return False
        self.applied += 1
        return True


class FaultBook:
    """The rules in force, in the order they were given."""

    def __init__(self) -> None:
        self._standing: dict[str, _Standing] = {}

    def add(self, rules: Sequence[AnswerFault | ReceiptFault | ListedLate]) -> list[str]:
        """Add rules, or replace those with the same id; their ids. Raises TooManyRulesError beyond 1000."""
        ids = [rule.id for rule in rules]
        if len(self._standing.keys() | set(ids)) > MOST_RULES:
            raise TooManyRulesError(f"at most {MOST_RULES} rules; DELETE /sandbox/faults clears them")
        for rule in rules:
            self._standing[rule.id] = _Standing(rule)
        return ids

    def clear(self) -> None:
        self._standing.clear()

    def answer_fault(self, provider: str, *, to: str | None, body: str, account: str) -> AnswerFault | None:
        """What shall spoil the answer to this call; the first rule that strikes."""
        for standing in self._standing.values():
            rule = standing.rule
            if isinstance(rule, AnswerFault) and standing.strikes(provider, to, body, account):
                return rule
        return None

    def receipt_faults(self, provider: str, *, to: str, body: str, account: str) -> list[ReceiptFault]:
        """All that shall spoil the receipts of this message. Ask once per accepted message: asking counts."""
        return list(self._receipt_faults(provider, to, body, account))

    def _receipt_faults(self, provider: str, to: str, body: str, account: str) -> Iterator[ReceiptFault]:
        for standing in self._standing.values():
            rule = standing.rule
            if isinstance(rule, ReceiptFault) and standing.strikes(provider, to, body, account):
                yield rule

    def listed_after(self, provider: str, *, to: str, body: str, account: str) -> float:
        """Seconds for which this message is missing from the list. Ask once per accepted message: asking counts."""
        return sum(
            standing.rule.seconds
            for standing in self._standing.values()
            if isinstance(standing.rule, ListedLate) and standing.strikes(provider, to, body, account)
        )

    def view(self) -> list[dict[str, object]]:
        """Every rule with how often it was applied; an expired one stays listed until the book is cleared."""
        return [
            standing.rule.model_dump(mode="json") | {"applied": standing.applied}
            for standing in self._standing.values()
        ]
