"""Computes the options of a connection to PostgreSQL: its name and timeouts, TCP keepalive, TLS."""

import os
import socket
import ssl
from typing import TYPE_CHECKING

from shared.database.roles import Role
from shared.process.database_url import SystemRoots, TcpOptions
from shared.settings import Settings

if TYPE_CHECKING:
    import asyncpg


def server_settings(settings: Settings, role: Role, process: str) -> dict[str, str]:
    """The settings of a connection's session, set at its start or in each transaction.

    The application name holds the process id, so that an operator finds the process of a row in pg_stat_activity.
    """
    named = {"role": role, "application_name": f"palomar {process} {os.getpid()}", "timezone": "UTC"}
    return named | limits(settings)


def limits(settings: Settings) -> dict[str, str]:
    """The timeouts after which PostgreSQL ends a connection whose transaction is idle, or whose client has vanished.

    The relay can't publish any event that is newer than an open transaction which has written, of any tenant; and the
    transaction's locks hold up others.
    """
    found: dict[str, str] = {}
    if settings.database_idle_in_transaction:
        found["idle_in_transaction_session_timeout"] = f"{settings.database_idle_in_transaction * 1000:.0f}"
    if peer := settings.database_peer_timeout:
        found["tcp_user_timeout"] = f"{peer * 1000:.0f}"
        found["tcp_keepalives_idle"] = f"{max(1, peer // 2)}"
        found["tcp_keepalives_interval"] = f"{max(1, peer // 6)}"
        found["tcp_keepalives_count"] = "3"
    return found


def set_tcp_options(connection: "asyncpg.Connection[asyncpg.Record]", tcp: TcpOptions) -> None:
    """Set the keepalive of the socket, by which our kernel notices a server that vanished.

    asyncpg has no option for this, and no public way to reach the socket.
    """
    sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with socket.socket(fileno=os.dup(sock.fileno())) as ours:  # uvloop's own socket object can't set options
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, tcp.keepalives)
        for name, value in (
            ("TCP_KEEPIDLE", tcp.idle),
            ("TCP_KEEPINTVL", tcp.interval),
            ("TCP_KEEPCNT", tcp.count),
            ("TCP_USER_TIMEOUT", tcp.user_timeout),
        ):
            if value is not None and hasattr(socket, name):  # macOS lacks some
                ours.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def tls(roots: SystemRoots | None) -> ssl.SSLContext | None:
    """The TLS context of a connection; None leaves it to asyncpg, which reads sslmode and the files from the URL."""
    if roots is None:
        return None
    context = ssl.create_default_context()
    if roots.certificate is not None:
        context.load_cert_chain(roots.certificate, roots.key, roots.password)
    return context
