"""Addresses as hosts of databases hand them out, against a real server: plain TCP and TLS end in a door of the test's
own, behind which the server's unix socket is."""

import asyncio
import datetime
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared import database
from shared.settings import Settings

SSL_REQUEST = 8  # bytes; https://www.postgresql.org/docs/current/protocol-message-formats.html
ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def over_tcp(database_url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The same database behind a TCP port of this machine; yields its address without parameters."""
    parts = urlsplit(database_url)
    unix = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if tls is not None:
            await reader.readexactly(SSL_REQUEST)
            writer.write(b"S")
            await writer.start_tls(tls)
        behind_reader, behind_writer = await asyncio.open_unix_connection(unix)
        await asyncio.gather(_pipe(reader, behind_writer), _pipe(behind_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"postgresql://{parts.username}@localhost:{port}{parts.path}"
    finally:
        server.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def settings_for(url: str) -> Settings:
    return Settings.model_validate({"DATABASE_URL": url})


async def test_the_parameters_of_a_hosted_database_connect(database_url: str) -> None:
    asked = "connect_timeout=10&channel_binding=prefer&gssencmode=disable&sslmode=disable&application_name=x"
    async with over_tcp(database_url) as url, database.make_pool(settings_for(f"{url}?{asked}"), process="t") as pool:
        assert await pool.fetchval("SELECT current_user") == "palomar_worker"


async def test_keepalives_are_set_on_the_connection_as_the_address_asks(database_url: str) -> None:
    asked = "sslmode=disable&keepalives_idle=31&keepalives_interval=7&keepalives_count=3&tcp_user_timeout=9000"
    async with over_tcp(database_url) as url:
        connection = await database.connect(settings_for(f"{url}?{asked}"), process="t")
        sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        try:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert [
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            ] == [31, 7, 3, 9000]
        finally:
            await connection.close()


async def test_sslrootcert_system_takes_a_certificate_that_the_machine_trusts_and_no_other(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, context = self_signed(tmp_path)
    async with over_tcp(database_url, context) as url:
        settings = settings_for(f"{url}?sslrootcert=system")
        with pytest.raises(ssl.SSLCertVerificationError):
            await database.connect(settings, process="t")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # what the machine trusts, to OpenSSL
        connection = await database.connect(settings, process="t")
        try:
            assert await connection.fetchval("SELECT 1") == 1
        finally:
            await connection.close()


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for localhost, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, private)
    return certificate, context


@pytest.mark.parametrize(
    "process", [("ingress", "receive"), ("workers", "persist"), ("ops", "status"), ("schema", "verify")]
)
def test_every_process_refuses_what_the_driver_cannot_do_once_and_in_a_sentence(
    process: tuple[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *process],
        env={**os.environ, "DATABASE_URL": "postgresql://a:geheim@127.0.0.1:1/x?channel_binding=require"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.count("channel_binding=require. Write channel_binding=prefer") == 1
    assert "Traceback" not in done.stderr
    assert "geheim" not in done.stderr + done.stdout
