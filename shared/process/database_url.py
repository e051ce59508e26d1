"""What DATABASE_URL asks for, in the terms of each driver. No I/O.

An address that a host of databases hands out is written for libpq. psycopg, which migrates, is built on libpq and takes
all of it; asyncpg takes a part, and hands what it does not know to the server, which then refuses every connection.
So the rest is translated here where asyncpg has another way to do it, left out where it asks for nothing that we do not
do anyway, and else refused by a sentence before anything connects.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

FORM: Final = "postgresql://USER:PASSWORD@HOST:PORT/NAME"

# asyncpg reads these from the address by itself; the last two are the server's own.
_ASYNCPG: Final = frozenset(
    (
        "host", "port", "dbname", "user", "password", "passfile", "service", "sslmode", "sslcert", "sslkey",
        "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation", "ssl_min_protocol_version",
        "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib", "application_name", "options",
    )
)  # fmt: skip
# The values that ask for what asyncpg does anyway; every other value is refused.
_ALREADY_SO: Final = {
    "channel_binding": ("disable", "prefer"),
    "client_encoding": ("utf8", "UTF8", "auto"),
    "gssencmode": ("disable", "prefer"),
    "gssdelegation": ("0",),
    "load_balance_hosts": ("disable",),
    "sslcertmode": ("allow",),
    "sslcompression": ("0", "1"),  # no server offers it any more
    "sslsni": ("1",),
}
_REMEDIES: Final = {
    "channel_binding": "Write channel_binding=prefer; sslmode=verify-full with sslrootcert proves who the server is",
    "hostaddr": "Write the address as the host",
    "replication": "Remove it: Palomar does not replicate",
}
_KEEPALIVE_SECONDS: Final = ("keepalives_idle", "keepalives_interval")


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """How long a connection to a vanished server lives. None leaves a value to the system."""

    keepalives: bool = True
    idle: int | None = None  # seconds of silence before the first probe
    interval: int | None = None  # seconds between probes
    count: int | None = None  # probes without an answer until the connection is given up
    user_timeout: int | None = None  # milliseconds that sent data may stay unacknowledged


@dataclass(frozen=True, slots=True)
class SystemRoots:
    """TLS against the certificate authorities of the operating system, the server's name checked. The three name the
    client's own certificate; None where there is none."""

    certificate: str | None = None
    key: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """`dsn` is what asyncpg is given. `connect_timeout` is in seconds; None where the address names none."""

    dsn: str
    connect_timeout: float | None = None
    tcp: TcpOptions = TcpOptions()
    system_roots: SystemRoots | None = None


def parse(url: str) -> DatabaseUrl:
    """Translate an address. Raises ValueError with a sentence that names the parameter and the remedy, and holds no
    password."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError(f"this is no address; give {FORM}")
    given = _parameters(parts.query)
    for name, value in given.items():
        _check(name, value)
    roots = _system_roots(given)
    left_out = {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword"} if roots else set()
    kept = {name: value for name, value in given.items() if name in _ASYNCPG and name not in left_out}
    query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in kept.items())
    return DatabaseUrl(
        dsn=parts._replace(query=query).geturl(),
        connect_timeout=_connect_timeout(given.get("connect_timeout")),
        tcp=_tcp(given),
        system_roots=roots,
    )


def _parameters(query: str) -> dict[str, str]:
    """As libpq reads them: only %XX is decoded, a + is a plus, and a name that is given twice holds its last value."""
    found = {}
    for pair in filter(None, query.split("&")):
        name, separator, value = pair.partition("=")
        if not separator:
            raise ValueError(f"the parameter {unquote(name)!r} has no value; write NAME=VALUE")
        found[unquote(name)] = unquote(value)
    return found


_NUMBERS: Final = ("connect_timeout", "keepalives", *_KEEPALIVE_SECONDS, "keepalives_count", "tcp_user_timeout")


def _check(name: str, value: str) -> None:
    if name in _NUMBERS:
        _number(name, value)
    elif name not in _ASYNCPG and name != "fallback_application_name" and value not in _ALREADY_SO.get(name, ()):
        remedy = _REMEDIES.get(name, "Remove it")
        raise ValueError(f"the database driver can't do {name}={value}. {remedy}.")


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name}: {value!r} is no whole number.") from None


def _connect_timeout(value: str | None) -> float | None:
    """As libpq has it: zero and less wait without an end. Ours never do, so they leave the default."""
    seconds = _number("connect_timeout", value) if value else 0
    return float(seconds) if seconds > 0 else None


def _tcp(given: dict[str, str]) -> TcpOptions:
    """Zero leaves a value to the system, as in libpq."""

    def value(name: str) -> int | None:
        return max(_number(name, given[name]), 0) or None if name in given else None

    return TcpOptions(
        keepalives=_number("keepalives", given.get("keepalives", "1")) != 0,
        idle=value("keepalives_idle"),
        interval=value("keepalives_interval"),
        count=value("keepalives_count"),
        user_timeout=value("tcp_user_timeout"),
    )


def _system_roots(given: dict[str, str]) -> SystemRoots | None:
    """libpq has `sslrootcert=system` mean verify-full, and takes no weaker mode beside it."""
    if given.get("sslrootcert") != "system":
        return None
    mode = given.get("sslmode", "verify-full")
    if mode != "verify-full":
        raise ValueError(f"sslmode={mode} is too weak beside sslrootcert=system. Write sslmode=verify-full.")
    return SystemRoots(given.get("sslcert"), given.get("sslkey"), given.get("sslpassword"))
