"""Whether a mail's From is who wrote it, by what the inbound service found of its signatures. No I/O; never raises.

SPF (RFC 7208) vouches for the domain of the envelope's sender, a DKIM signature (RFC 6376) for the domain that signed;
either says something of the From only where that is of the same domain (DMARC, RFC 7489 §3.1). What the mail says of
itself, such as an Authentication-Results header, anybody can write.
"""

import re
from collections.abc import Sequence
from typing import Final

from shared.domain.model import Authorship

# `{@example.com : pass, @other.example : fail}`, as SendGrid writes it, or the same as JSON.
_SIGNED: Final = re.compile(
    r"@?([a-z0-9](?:[a-z0-9._-]{0,250}[a-z0-9])?)[\"']?\s{0,5}[:=]\s{0,5}[\"']?([a-z]{1,20})", re.I
)


def authorship(senders: Sequence[str], spf: str, dkim: str, envelope_from: str) -> Authorship:
    """What is known of the one canonical address in a From; of several, or of none, that it is nobody's.

    `spf` and `dkim` are the service's verdicts, empty where it tells none. Only then is nothing known: a verdict
    such as `none` is one too, which a forger gets by an envelope of a domain that publishes nothing.
    """
    if len(senders) != 1:
        return "refuted"
    domain = senders[0].rpartition("@")[2]
    signed = [(by.lower(), verdict.lower()) for by, verdict in _SIGNED.findall(dkim[:2000])]
    by_envelope = spf.strip().lower().partition(" ")[0]
    vouching = [by for by, verdict in signed if verdict == "pass"]
    if by_envelope == "pass":
        vouching.append(envelope_from.strip(" <>").rpartition("@")[2].lower())
    if any(_is_of(domain, by) for by in vouching):
        return "proven"
    return "refuted" if spf.strip() or dkim.strip() else "unknown"


def _is_of(domain: str, vouching: str) -> bool:
    """Whether one domain speaks for another: its own, or a parent of it. Not a child: under some domains, such as those
    of dynamic DNS, anybody may have one."""
    return domain == vouching or ("." in vouching and domain.endswith(f".{vouching}"))
