"""Decides whether a mail's From is proven, by the inbound service's verdicts on SPF and DKIM. No I/O; never raises.

SPF (RFC 7208) vouches for the domain of the envelope's sender, a DKIM signature (RFC 6376) for the signing domain.
Either proves the From only where it is of the same domain (DMARC, RFC 7489 §3.1). The mail's own headers, such as
Authentication-Results, prove nothing: any sender can write them.
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
    """Whether the only address in a From is proven; a From with several addresses or none is refuted.

    `senders` are canonical. `spf` and `dkim` are the service's verdicts; the authorship is unknown only where both are
    empty. A verdict such as `none` refutes it, because a forger gets that one by an envelope of any domain that
    publishes nothing.
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
    """Whether a domain vouches for another: for itself and for its children. A child does not vouch for its parent,
    because under some domains, such as those of dynamic DNS, anyone can have a child."""
    return domain == vouching or ("." in vouching and domain.endswith(f".{vouching}"))
