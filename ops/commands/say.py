"""palomar say: play a customer who writes this text, wait for the answer, show every hop."""

import asyncio
from typing import Annotated

import typer

from ops.demo.tenants import DEMOS, USUAL
from ops.errors import Problem
from ops.say import converse
from shared.domain import addresses
from shared.settings import settings


def say(
    text: Annotated[str, typer.Argument(help="what the customer writes")],
    customer: Annotated[str | None, typer.Option("--from", help="the customer's number, or e-mail address")] = None,
    provider: Annotated[str, typer.Option(help=f"one of: {', '.join(DEMOS)}")] = USUAL,
) -> None:
    """Send a signed webhook as the sandbox's customer, and print the answer and the time of each hop."""
    channel = DEMOS.get(provider)
    if channel is None:
        raise Problem(f"--provider: {provider!r} is none.", f"Name one of: {', '.join(DEMOS)}.")
    if customer is not None and channel.kind == "email" and addresses.email(customer) is None:
        raise Problem(f"--from: {customer!r} is no e-mail address.", f"Write it as {channel.customer}.")
    if customer is not None and channel.kind != "email" and addresses.phone(customer) is None:
        raise Problem(f"--from: {customer!r} is no phone number.", "Write it as +34600000001.")
    asyncio.run(converse(settings(), text, channel=channel, customer=customer))
