"""The accounts of the sandbox's Twilio and their customers: credentials, and who wrote when. No I/O."""

import base64
import time
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ops.sandbox.receipts import Receipts
from ops.sandbox.record import SentMessage
from ops.sandbox.twilio_forms import ACCOUNT_SID, MediaItem, is_whatsapp

MOST_CUSTOMERS = 200_000  # whose window is remembered
Sid = Annotated[str, Field(pattern=r"^AC[0-9a-f]{32}$")]


class Account(BaseModel):
    """An account the sandbox knows. In a strict one, free-form WhatsApp needs a customer's message in the window."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sid: Sid
    token: str = Field(min_length=1, max_length=200)
    enforce_window: bool = False
    window_by: Literal["answer", "receipt"] = Field(default="receipt", description="how 63016 is reported")
    window_seconds: float = Field(default=86_400.0, gt=0)
    receipts: Receipts = Field(default=("sent", "delivered", "read"), description="which of them its messages have")

    @property
    def authorization(self) -> str:
        return "Basic " + base64.b64encode(f"{self.sid}:{self.token}".encode()).decode()


class CustomerSays(BaseModel):
    """A customer writes to us: what `POST /sandbox/customer` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    sender: str = Field(alias="from", min_length=1)
    to: str = Field(min_length=1)
    text: str = ""
    webhook_url: str = Field(description="where the number's webhook points; loopback only")
    account: Sid = ACCOUNT_SID
    profile_name: str | None = None
    media: tuple[MediaItem, ...] = Field(default=(), description="pairs of URL and content type")
    message_sid: str | None = None
    times: int = Field(default=1, ge=1, le=100, description="the same webhook this often, all at once")
    extra: dict[str, str | None] = Field(default={}, description="over everything else; null takes a field away")


class Accounts:
    """The accounts there are, and for each customer the time of the last message: it opens a window."""

    def __init__(self, *accounts: Account) -> None:
        self._by_sid: dict[str, Account] = {}
        self._by_authorization: dict[str, Account] = {}
        self._last_written: dict[tuple[str, str], float] = {}  # (account, customer) → Unix seconds
        for account in accounts:
            self.add(account)

    def add(self, account: Account) -> None:
        """Add an account, or change the one of this sid."""
        known = self._by_sid.get(account.sid)
        if known is not None:
            self._by_authorization.pop(known.authorization, None)
        self._by_sid[account.sid] = account
        self._by_authorization[account.authorization] = account

    def get(self, sid: str) -> Account | None:
        return self._by_sid.get(sid)

    def of(self, authorization: str) -> Account | None:
        """The account whose Authorization header this is."""
        return self._by_authorization.get(authorization)

    def customer_wrote(self, account: Account, customer: str) -> None:
        key = (account.sid, customer)
        self._last_written.pop(key, None)  # so that the order of the dict is that of writing
        self._last_written[key] = time.time()
        if len(self._last_written) > MOST_CUSTOMERS:
            del self._last_written[next(iter(self._last_written))]

    def close_windows(self) -> None:
        """Forget which customers wrote."""
        self._last_written.clear()

    def window_closed(self, account: Account, message: SentMessage) -> bool:
        """Whether the account refuses this message because its customer has not written of late."""
        if not account.enforce_window or message.content_sid or not is_whatsapp(message.to):
            return False
        written = self._last_written.get((account.sid, message.to))
        return written is None or time.time() - written >= account.window_seconds
