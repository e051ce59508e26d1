"""Servers of the test's own with TLS, of an authority of its own, and an HTTP proxy that opens ways."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Tls:
    """What the server has, and what its clients trust."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@contextmanager
def tls_for(*names: str) -> Iterator[Tls]:
    """A certificate for these names and for 127.0.0.1, which signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Palomar's tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [*(x509.DNSName(name) for name in names), x509.IPAddress(ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with TemporaryDirectory() as folder:
        file = Path(folder) / "both.pem"
        file.write_bytes(private + pem)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(file)
        yield Tls(server, ssl.create_default_context(cadata=pem.decode()))


@dataclass
class Receiver:
    """A server that notes who calls it. `connections` counts those that were opened."""

    port: int = 0
    connections: int = 0
    open_now: Callable[[], int] = int
    posts: list[tuple[str, str, bytes]] = field(default_factory=list)  # (Host, path, body)
    status: int = 200
    answer: bytes = b"thanks"
    headers: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def receiving(tls: Tls | None = None) -> AsyncIterator[Receiver]:
    found = Receiver()

    class Counting(web.Server):
        def __call__(self) -> web.RequestHandler:
            found.connections += 1
            return super().__call__()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        found.posts.append((request.headers.get("Host", ""), request.path_qs, await request.read()))
        return web.Response(status=found.status, body=found.answer, headers=found.headers)

    server = Counting(handler)
    found.open_now = lambda: len(server.connections)
    listening = await asyncio.get_running_loop().create_server(
        server, "127.0.0.1", 0, ssl=None if tls is None else tls.server
    )
    found.port = listening.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        listening.close()
        await server.shutdown(0.1)


@dataclass
class Ways:
    """A proxy whose every way leads to one port of this machine, wherever it is asked to lead."""

    leads_to: int
    url: str = ""
    asked: list[str] = field(default_factory=list)  # the first line and Host of each CONNECT
    status: str = "200 Connection established"
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        host = next(line.partition(": ")[2] for line in lines if line.lower().startswith("host:"))
        self.asked.append(f"{lines[0]} | {host}")
        opens = self.status.startswith("200")
        fields = "" if opens else "Content-Length: 0\r\n"
        writer.write(f"HTTP/1.1 {self.status}\r\n{fields}\r\n".encode())
        if opens:
            behind, to = await asyncio.open_connection("127.0.0.1", self.leads_to)
            await asyncio.gather(_pump(reader, to), _pump(behind, writer))
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def opening_ways(leads_to: int) -> AsyncIterator[Ways]:
    ways = Ways(leads_to)
    server = await asyncio.start_server(ways.serve, "127.0.0.1", 0)
    ways.url = f"http://somebody:word@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield ways
    finally:
        server.close()
