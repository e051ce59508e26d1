"""Asks the broker for the depth of each queue over AMQP: exact at the moment, and possible with any broker."""

from collections.abc import Mapping
from dataclasses import dataclass

import aiormq

from shared.queue import topology
from shared.queue.connection import connected
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Depth:
    """A queue's envelopes that are ready, and its consumers."""

    envelopes: int
    consumers: int


class NotDeclared(Exception):
    """The broker has none of our queues: no process of ours has made them yet."""


class BrokeOff(Exception):
    """The broker ended the session before it had answered."""


def retry_steps(settings: Settings) -> list[str]:
    """The queues in which jobs wait to be tried again."""
    return [step.name for step in topology.retry_schedule(settings.retry_delays)]


def retrying(settings: Settings, counted: Mapping[str, Depth]) -> int:
    """The envelopes that wait to be tried again."""
    return sum(counted[step].envelopes for step in retry_steps(settings))


async def ask(settings: Settings, name: str) -> dict[str, Depth]:
    """The depth of each work queue, of its dead letters, and of each retry step, by name.

    `name` is the connection's. Raises BrokerAway, NotDeclared or BrokeOff.
    """
    names = [of for queue in topology.QUEUES for of in (queue.name, queue.dead_letters)] + retry_steps(settings)
    async with connected(settings.amqp_url.get_secret_value(), name) as connection:
        try:
            channel = await connection.channel()
            depths = {}
            for one in names:
                declared = (await channel.declare_queue(one, passive=True)).declaration_result
                depths[one] = Depth(declared.message_count or 0, declared.consumer_count or 0)
            return depths
        except aiormq.ChannelNotFoundEntity:
            raise NotDeclared from None
        except (aiormq.AMQPError, OSError, TimeoutError) as error:
            raise BrokeOff(type(error).__name__) from error
