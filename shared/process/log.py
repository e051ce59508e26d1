"""Configures the log of a process: JSON lines, without messages' texts, phone numbers in clear or credentials."""

import logging
import sys
from typing import Any, cast

import structlog
from structlog.contextvars import merge_contextvars
from structlog.types import EventDict, FilteringBoundLogger, WrappedLogger

# A field of one of these names is a programming error; its value is withheld rather than leaked.
_FORBIDDEN = frozenset({"body", "text", "content", "phone", "address", "token", "auth_token", "password", "secret"})


def _withhold(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name in _FORBIDDEN.intersection(event):
        event[name] = "[withheld]"
    return event


def configure(process: str, level: str = "info") -> None:
    """Set up this process's log: one JSON object a line on standard error, libraries' warnings included.

    Raises ValueError for an unknown level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"PALOMAR_LOG_LEVEL is {level!r}; use debug, info, warning or error")
    shared: list[structlog.types.Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _withhold,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # aiormq and aio-pika log every lost connection with a traceback; our own link logs it in one line.
    for noisy in ("aiormq", "aio_pika"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def get_logger(name: str, **fields: Any) -> FilteringBoundLogger:
    """A logger whose lines carry these fields."""
    return cast(FilteringBoundLogger, structlog.get_logger(module=name, **fields))
