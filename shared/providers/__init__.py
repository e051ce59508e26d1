"""Finds a provider by its name: each folder here is one, and knows all of it.

A new provider is a folder here that declares a `Provider`, a module in ops/onboarding, and a migration that adds its
name to the SQL function providers(). Providers reach neither the database nor the broker.
"""

from functools import cache
from importlib import import_module

from shared.domain.channels import Channel
from shared.domain.provider_names import names
from shared.providers.declaration import Provider

__all__ = ["Provider", "names", "provider", "rate_of"]


@cache
def provider(name: str) -> Provider:
    """The provider of this name. Raises LookupError that names all there are."""
    if name not in names():
        raise LookupError(f"no provider {name!r}; there are: {', '.join(names())}")
    found = import_module(f"shared.providers.{name}").PROVIDER
    assert isinstance(found, Provider), f"shared.providers.{name}.PROVIDER is a Provider"
    return found


def rate_of(channel: Channel) -> float:
    """Messages a second that the channel may send: its setting, else its provider's."""
    return channel.settings.rate or provider(channel.provider).rate
