"""Finds how a channel of a provider is set up: the module of this folder that has the provider's name."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from ops.errors import Problem
from ops.onboarding.base import KINDS, Setup
from ops.onboarding.prompts import asked
from shared.actions import channels as actions
from shared.domain.model import ChannelKind
from shared.domain.provider_names import names

SETUPS: Mapping[str, Setup] = {
    module.name: cast(Setup, import_module(f"{__name__}.{module.name}"))
    for module in iter_modules(__path__)
    if module.name in names()
}


def setup(provider: str) -> Setup:
    """Raises Problem naming those there are."""
    if provider not in SETUPS:
        raise Problem(f"There is no provider {provider!r}.", f"Name one of: {', '.join(SETUPS)}.")
    return SETUPS[provider]


def kind_of(provider: str, named: str | None) -> ChannelKind:
    """The kind of a channel to be added, asked for where the provider has several. Raises Problem."""
    setup(provider)
    its = actions.onboarding(provider).kinds
    named = asked("--kind", its[0] if named is None and len(its) == 1 else named, f"Kind ({' or '.join(KINDS)})")
    kind = next((one for one in KINDS if one == named), None)
    if kind is None:
        raise Problem(f"--kind: {named!r} is none.", f"Name one of: {', '.join(KINDS)}.")
    if kind in its:
        return kind
    if len(its) == 1:
        raise Problem(f"--kind: {provider.capitalize()}'s channels are {its[0]}, not {kind}.", "Leave --kind out.")
    what = "e-mail" if kind == "email" else kind
    others = " or ".join(name for name in SETUPS if kind in actions.onboarding(name).kinds)
    raise Problem(f"--kind: {provider.capitalize()} has no channels of {what}.", f"Use --provider {others}.")
