"""Twilio's resources as its REST API gives them: accounts, messages, pages of a list. No I/O.

Facts from Twilio's documentation: messaging/api/message-resource.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote

from ops.sandbox.record import SentMessage
from ops.sandbox.twilio_forms import API_VERSION, shown_sender


def account_resource(sid: str, created: float) -> dict[str, object]:
    """The account as GET …/Accounts/{sid}.json gives it, without the token."""
    uri = f"/{API_VERSION}/Accounts/{sid}"
    return {
        "sid": sid,
        "friendly_name": "Palomar sandbox",
        "status": "active",
        "type": "Full",
        "owner_account_sid": sid,
        "date_created": _date(created),
        "date_updated": _date(created),
        "uri": f"{uri}.json",
        "subresource_uris": {"messages": f"{uri}/Messages.json"},
    }


def message_resource(message: SentMessage) -> dict[str, object]:
    """An accepted message as Twilio's REST API gives it."""
    uri = f"/{API_VERSION}/Accounts/{message.account}/Messages/{message.sid}"
    by_service = message.sender.startswith("MG")
    return {
        "sid": message.sid,
        "account_sid": message.account,
        "messaging_service_sid": message.sender if by_service else None,
        "to": message.to,
        "from": (shown_sender(message) if message.sent_at else None) if by_service else message.sender,
        "body": message.body,
        "status": message.status,
        "direction": "outbound-api",
        "num_segments": "0" if by_service else "1",
        "num_media": str(len(message.media_urls)),
        "error_code": int(message.error_code) if message.error_code else None,
        "error_message": message.error_message,
        "price": None,
        "price_unit": None,
        "api_version": API_VERSION,
        "date_created": _date(message.accepted_at),
        "date_updated": _date(message.sent_at or message.accepted_at),
        "date_sent": _date(message.sent_at),
        "uri": f"{uri}.json",
        "subresource_uris": {"media": f"{uri}/Media.json"},
    }


def page_resource(shown: Sequence[SentMessage], page: int, size: int) -> dict[str, object]:
    """One page of a list of messages, without the addresses of itself and its neighbours."""
    return {
        "messages": [message_resource(message) for message in shown],
        "page": page,
        "page_size": size,
        "start": page * size,
        "end": page * size + max(len(shown) - 1, 0),
    }


def page_uri(account: str, query: Mapping[str, str]) -> str:
    """The relative address of one page of a list."""
    pairs = "&".join(f"{quote(name)}={quote(value)}" for name, value in query.items())
    return f"/{API_VERSION}/Accounts/{account}/Messages.json?{pairs}"


def _date(moment: float | None) -> str | None:
    """RFC 2822 in GMT, as Twilio's 2010 API writes times; whole seconds."""
    return None if moment is None else format_datetime(datetime.fromtimestamp(int(moment), UTC))


def date_range(given: str) -> tuple[float, float]:
    """First and last second (Unix) of `2026-05-01` or `2026-05-01T10:00:00Z`. Raises ValueError."""
    moment = datetime.fromisoformat(given)
    start = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return start, start + 86_399 if "T" not in given else start
