"""How a channel at each provider is set up. A new provider is one new module here and one line in SETUPS."""

from collections.abc import Mapping

from ops.errors import Problem
from ops.onboarding import email, kommo, meta, twilio
from ops.onboarding.base import KINDS, Setup
from ops.onboarding.prompts import asked
from shared.domain.model import ChannelKind

SETUPS: Mapping[str, Setup] = {"email": email, "kommo": kommo, "meta": meta, "twilio": twilio}


def setup(provider: str) -> Setup:
    """Raises Problem naming those there are."""
    if provider not in SETUPS:
        raise Problem(f"There is no provider {provider!r}.", f"Name one of: {', '.join(SETUPS)}.")
    return SETUPS[provider]


def kind_of(provider: str, named: str | None) -> ChannelKind:
    """The kind of a channel to be added, asked for where the provider has several. Raises Problem."""
    its = setup(provider).KINDS
    named = asked("--kind", its[0] if named is None and len(its) == 1 else named, f"Kind ({' or '.join(KINDS)})")
    kind = next((one for one in KINDS if one == named), None)
    if kind is None:
        raise Problem(f"--kind: {named!r} is none.", f"Name one of: {', '.join(KINDS)}.")
    if kind in its:
        return kind
    if len(its) == 1:
        raise Problem(f"--kind: {provider.capitalize()}'s channels are {its[0]}, not {kind}.", "Leave --kind out.")
    what = "e-mail" if kind == "email" else kind
    others = " or ".join(name for name, other in SETUPS.items() if kind in other.KINDS)
    raise Problem(f"--kind: {provider.capitalize()} has no channels of {what}.", f"Use --provider {others}.")
