"""Twilio's errors: their texts, and the JSON of a refusal. No I/O."""

_KNOWN_ERRORS = {
    20001: "Invalid parameter",
    20003: "Authenticate",
    20404: "The requested resource was not found",
    20429: "Too Many Requests",
    20500: "Internal Server Error",
    20503: "Service Unavailable",
    21211: "Invalid 'To' Phone Number",
    21610: "Attempt to send to unsubscribed recipient",
    30003: "Unreachable destination handset",
    30005: "Unknown destination handset",
    30007: "Message filtered",
    63003: "Channel could not find To address",
    63007: "Twilio could not find a Channel with the specified From address",
    63016: "Failed to send freeform message because you are outside the allowed window. If you are using WhatsApp, "
    "please use a Message Template.",
    63018: "Rate limit exceeded for Channel",
}


def error_message(code: int) -> str:
    return _KNOWN_ERRORS.get(code, f"Error {code}")


def error_body(status: int, code: int | str, message: str) -> dict[str, object]:
    """Twilio's JSON of a refusal."""
    return {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
