"""Translates DATABASE_URL, which is written for libpq, for asyncpg. No I/O.

A database provider writes its URLs for libpq. psycopg, which runs the migrations, is built on libpq and knows every
parameter. asyncpg knows some of them, and passes the others to the server, which then refuses every connection. So a
parameter that asyncpg lacks is translated where asyncpg has another option for it, dropped where its value asks for the
default, and otherwise refused with a remedy before any connection is made.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

FORM: Final = "postgresql://USER:PASSWORD@HOST:PORT/NAME"

# asyncpg reads these from the URL itself; the last two are the server's own.
_ASYNCPG: Final = frozenset(
    (
        "host", "port", "dbname", "user", "password", "passfile", "service", "sslmode", "sslcert", "sslkey",
        "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation", "ssl_min_protocol_version",
        "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib", "application_name", "options",
    )
)  # fmt: skip
# Parameter → values that ask for what asyncpg does by default; every other value is refused.
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
    """When a connection to a vanished server is closed. None leaves a value to the operating system."""

    keepalives: bool = True
    idle: int | None = None  # seconds of silence before the first probe
    interval: int | None = None  # seconds between probes
    count: int | None = None  # unanswered probes until the connection is closed
    user_timeout: int | None = None  # milliseconds that sent data may stay unacknowledged


@dataclass(frozen=True, slots=True)
class SystemRoots:
    """TLS that trusts the operating system's certificate authorities and checks the server's name.

    The fields are the client's own certificate, if it has one: two file names and the key's password.
    """

    certificate: str | None = None
    key: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """`dsn` is the URL for asyncpg. `connect_timeout` is in seconds; None where the URL has none."""

    dsn: str
    connect_timeout: float | None = None
    tcp: TcpOptions = TcpOptions()
    system_roots: SystemRoots | None = None


def parse(url: str) -> DatabaseUrl:
    """Translate a URL.

    Raises ValueError with a sentence that names the parameter and the remedy, and holds no password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError(f"this is no address; give {FORM}")
    given = _parameters(parts.query)
    for name, value in given.items():
        _check(name, value)
    roots = _system_roots(given)
    dropped = {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword"} if roots else set()
    passed = {name: value for name, value in given.items() if name in _ASYNCPG and name not in dropped}
    query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in passed.items())
    return DatabaseUrl(
        dsn=parts._replace(query=query).geturl(),
        connect_timeout=_connect_timeout(given.get("connect_timeout")),
        tcp=_tcp(given),
        system_roots=roots,
    )


def _parameters(query: str) -> dict[str, str]:
    """Read the parameters as libpq does: only %XX is decoded, + is a plus sign, the last of a repeated name wins."""
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
    """Seconds; None leaves our default, also for zero and less, which libpq takes for no timeout at all."""
    seconds = _number("connect_timeout", value) if value else 0
    return float(seconds) if seconds > 0 else None


def _tcp(given: dict[str, str]) -> TcpOptions:
    """The keepalive parameters. Zero leaves a value to the operating system, as in libpq."""

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
    """The TLS options for `sslrootcert=system`, which in libpq implies verify-full and excludes any weaker mode."""
    if given.get("sslrootcert") != "system":
        return None
    mode = given.get("sslmode", "verify-full")
    if mode != "verify-full":
        raise ValueError(f"sslmode={mode} is too weak beside sslrootcert=system. Write sslmode=verify-full.")
    return SystemRoots(given.get("sslcert"), given.get("sslkey"), given.get("sslpassword"))
