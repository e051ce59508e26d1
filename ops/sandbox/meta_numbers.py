"""The phone numbers that the sandbox's Meta knows, and which customer wrote to which of them when. No I/O."""

import time
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ops.sandbox.meta_forms import ACCESS_TOKEN, ACCOUNT, APP_SECRET, PHONE_NUMBER_ID
from ops.sandbox.receipts import Receipts
from ops.sandbox.record import SentMessage

MOST_CUSTOMERS = 200_000  # whose window is remembered
Digits = Annotated[str, Field(pattern=r"^\d{5,20}$")]


class Number(BaseModel):
    """A phone number the sandbox knows. In a strict one, free-form messages need a customer's message in the window."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    phone_number_id: Digits
    access_token: str = Field(default=ACCESS_TOKEN, min_length=1, max_length=500)
    app_secret: str = Field(default=APP_SECRET, min_length=1, max_length=200)
    account: Digits = ACCOUNT
    webhook_url: str | None = Field(default=None, description="where its app's webhooks go; loopback only")
    enforce_window: bool = False
    window_by: Literal["answer", "receipt"] = Field(default="receipt", description="how 131047 is reported")
    window_seconds: float = Field(default=86_400.0, gt=0)
    batch_seconds: float = Field(
        default=0.0, ge=0, le=60, description="receipts of so many seconds come in one webhook, up to 1000, as at Meta"
    )
    receipts: Receipts = Field(default=("sent", "delivered", "read"), description="which of them its messages have")


class Numbers:
    """All numbers, and for each customer the time of the last message: it opens a window."""

    def __init__(self) -> None:
        self._by_id = {PHONE_NUMBER_ID: Number(phone_number_id=PHONE_NUMBER_ID)}
        self._last_written: dict[tuple[str, str], float] = {}  # (phone number id, customer) → Unix seconds

    def set(self, number: Number) -> None:
        """Add a number, or change the one of this id."""
        self._by_id[number.phone_number_id] = number

    def get(self, phone_number_id: str) -> Number | None:
        return self._by_id.get(phone_number_id)

    def knows(self, access_token: str) -> bool:
        """Whether this is the token of one of the numbers."""
        return any(number.access_token == access_token for number in self._by_id.values())

    def sees(self, access_token: str, account: str) -> bool:
        """Whether this is the token of a number of this business account."""
        return any((one.access_token, one.account) == (access_token, account) for one in self._by_id.values())

    def of_account(self, account: str) -> Number | None:
        """A number of this business account, with a webhook URL where any has one."""
        found = [number for number in self._by_id.values() if number.account == account]
        return next((one for one in found if one.webhook_url is not None), found[0] if found else None)

    def customer_wrote(self, number: Number, customer: str) -> None:
        key = (number.phone_number_id, customer)
        self._last_written.pop(key, None)  # so that the order of the dict is that of writing
        self._last_written[key] = time.time()
        if len(self._last_written) > MOST_CUSTOMERS:
            del self._last_written[next(iter(self._last_written))]

    def close_windows(self) -> None:
        """Forget which customers wrote."""
        self._last_written.clear()

    def in_window(self, number: Number, to: str) -> bool:
        """Whether this customer wrote to the number of late."""
        written = self._last_written.get((number.phone_number_id, to.removeprefix("+")))
        return written is not None and time.time() - written < number.window_seconds

    def window_closed(self, number: Number, message: SentMessage) -> bool:
        """Whether the number refuses this message because its customer has not written of late."""
        return number.enforce_window and not message.content_sid and not self.in_window(number, message.to)
