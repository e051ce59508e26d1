"""Remembers which customers have opted out of SMS at the sandbox's Twilio.

Twilio acts on these words by itself where they are all of a text message: it answers the customer, names the word in
OptOutType, and refuses our later messages with 21610. https://www.twilio.com/docs/messaging/tutorials/advanced-opt-out
"""

from typing import Final

from ops.sandbox.twilio_forms import is_whatsapp

UNSUBSCRIBED: Final = 21610
MOST: Final = 200_000  # customers who are remembered
_TYPES: Final = {
    **dict.fromkeys(["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"], "STOP"),
    **dict.fromkeys(["START", "YES", "UNSTOP"], "START"),
    **dict.fromkeys(["HELP", "INFO"], "HELP"),
}


class OptOuts:
    """By account, number of ours and customer; a messaging service's are its account's."""

    def __init__(self) -> None:
        self._out: dict[tuple[str, str, str], None] = {}

    def received(self, account: str, ours: str, customer: str, text: str) -> str | None:
        """Take note of a customer's message; the OptOutType that Twilio tells with it."""
        found = None if is_whatsapp(customer) else _TYPES.get(text.strip().upper())
        for key in ((account, ours, customer), (account, "", customer)):
            if found == "STOP":
                self._out[key] = None
            elif found == "START":
                self._out.pop(key, None)
        while len(self._out) > MOST:
            del self._out[next(iter(self._out))]
        return found

    def refuses(self, account: str, sender: str, customer: str) -> bool:
        """Whether Twilio sends this customer nothing from there."""
        return (account, "" if sender.startswith("MG") else sender, customer) in self._out

    def clear(self) -> None:
        self._out.clear()
