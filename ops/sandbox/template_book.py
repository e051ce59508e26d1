"""Holds the message templates of the accounts that the sandbox plays, as each provider's own list has them. No I/O.

An account without templates of its own has the two that each provider's documentation begins with.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Template = Mapping[str, Any]

DEFAULTS: Mapping[str, Sequence[Template]] = {
    "meta": (
        {
            "id": "594425479261596", "name": "hello_world", "language": "en_US", "status": "APPROVED",
            "category": "UTILITY", "components": [{"type": "BODY", "text": "Hello. This is a test of our number."}],
        },
        {
            "id": "1667192013751005", "name": "order_update", "language": "en_US", "status": "PENDING",
            "category": "MARKETING",
            "components": [{"type": "BODY", "text": "Your order {{1}} is on its way, {{2}}."}],
        },
    ),
    "twilio": (
        {
            "sid": "HX0123456789abcdef0123456789abcdef", "friendly_name": "appointment_reminder", "language": "en",
            "variables": {"1": "12/1", "2": "3pm"},
            "types": {"twilio/text": {"body": "Your appointment is on {{1}} at {{2}}."}},
            "approval_requests": {"name": "appointment_reminder", "category": "UTILITY", "status": "approved"},
        },
        {
            "sid": "HXfedcba9876543210fedcba9876543210", "friendly_name": "spring_offer", "language": "es",
            "variables": {}, "types": {"twilio/text": {"body": "Todo a mitad de precio."}},
            "approval_requests": {"name": "spring_offer", "category": "MARKETING", "status": "pending"},
        },
    ),
}  # fmt: skip


class TemplateBook:
    """The templates of all accounts. A state that Meta's sandbox gives a template replaces the one in its list."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], Sequence[Template]] = {}
        self._states: dict[tuple[str, str], str] = {}  # (business account, name) → `PAUSED`

    def set(self, provider: str, account: str, templates: Sequence[Template]) -> None:
        self._of[provider, account] = templates

    def clear(self) -> None:
        """Give every account the usual templates again."""
        self._of.clear()
        self._states.clear()

    def all(self, provider: str, account: str) -> list[Template]:
        """The templates of an account, in its order."""
        listed = self._of.get((provider, account), DEFAULTS[provider])
        if provider != "meta" or not self._states:
            return list(listed)
        states = ((one, self._states.get((account, str(one.get("name"))))) for one in listed)
        return [one if state is None else {**one, "status": state} for one, state in states]

    def of_meta(self, account: str, name: str) -> Template | None:
        """The first of Meta's templates of this name."""
        return next((one for one in self.all("meta", account) if one.get("name") == name), None)

    def set_state(self, account: str, name: str, state: str | None) -> None:
        """Give a template of Meta's this state, such as `PAUSED`; None: the one in the list."""
        if state is None:
            self._states.pop((account, name), None)
        else:
            self._states[account, name] = state
