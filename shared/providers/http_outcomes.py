"""Turns a call of a provider's HTTP API into its outcome, where that does not depend on the provider.

What a provider's error codes mean is in its own errors.py.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

import aiohttp

from shared.domain import addresses
from shared.providers.base import Ambiguous, Refusal, Unreachable
from shared.providers.http_client import NOT_SENT

T = TypeVar("T")
Named = Callable[[BaseException], str]  # an error in words that may be logged and stored

PASSING: Final = frozenset(("connect", "timeout", "401", "402", "403", "404", "429"))
"""Codes of failed messages that name no error of a provider, and that a later attempt may not meet: there was no
connection, the provider throttled us, or it refused the credentials."""
LONGEST_DETAIL: Final = 500  # characters of a provider's sentence


@dataclass(frozen=True, slots=True)
class Answer:
    """An unsuccessful answer. `code` is empty where the body names none; `subcode` is Meta's alone."""

    status: int
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    subcode: str = ""


async def outcome_of(call: Awaitable[T], within: float, named: Named) -> T | Unreachable | Ambiguous:
    """What a send's call returns, or the class of what it raises. It is given so many seconds. Raises nothing but
    CancelledError."""
    try:
        async with asyncio.timeout(within):
            return await call
    except NOT_SENT as error:
        return Unreachable("connect", named(error))  # resolving, connecting or TLS failed: nothing had left
    except TimeoutError:
        return Ambiguous("timeout", f"no answer within {within:g} s")
    except Exception as error:  # cut off, answered with no JSON, …: the request may have been served all the same
        return Ambiguous("unreadable", named(error))


def remedy_of(error: Exception, provider: str, named: Named) -> str:
    """Why a check of credentials got no answer of this provider, with the remedy."""
    setting = f"PALOMAR_{provider.upper()}_API_URL"
    if isinstance(error, aiohttp.ClientError | TimeoutError):
        return f"{provider} can't be reached ({named(error)}): check the network and {setting}"
    return f"what answers is not {provider} ({type(error).__name__}): check {setting}"


def class_table(classes: Iterable[tuple[type[Refusal], str]]) -> dict[str, type[Refusal]]:
    """Error code → class, of each class's codes, separated by blanks."""
    return {code: refusal for refusal, codes in classes for code in codes.split()}


def without_numbers(text: str) -> str:
    """A provider's sentence with phone numbers masked, also those without a plus, cut to LONGEST_DETAIL."""
    return re.sub(r"\+?\b[0-9]{9,15}\b", lambda number: addresses.mask(number[0]), text)[:LONGEST_DETAIL]
