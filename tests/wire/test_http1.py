"""Our transport against servers made by hand: kept connections, proxies, TLS, and what is said where nobody answers."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from batchrun.clock import SystemClock
from batchrun.errors import EndpointError, JobError, Kind
from batchrun.records import Answer, Request
from batchrun.sections import Timeouts
from batchrun.wire.client import Client
from batchrun.wire.http1.connection import Connection
from batchrun.wire.http1.dial import Place, probe
from batchrun.wire.http1.pool import LONGEST_IDLE_S, REST_S, Habit, Pool
from batchrun.wire.proxy import is_excepted, proxy_for
from batchrun.wire.tls import VARIABLES, tls_context
from batchrun.wire.transport import open_transport

PLAIN = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(PLAIN), PLAIN)
RESTED_S = 2 * REST_S
"""Longer than a connection has to rest while nobody knows whether its place keeps any."""
REQUEST = Request(0, "0", "default", 0, b'{"model":"m"}', "h", "m")


class Side:
    """The server's side of one connection; `number` counts connections from 1."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number, self.reader, self.writer = number, reader, writer

    async def request(self) -> bytes:
        """The head of the next request, its body read too; b"" at the end."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await self.reader.readexactly(int(line[15:]))
        return head

    def reset(self) -> None:
        """Close with RST."""
        if self.writer.transport.is_closing():
            return
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Side], Awaitable[None]]


@asynccontextmanager
async def served(script: Script, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that plays `script` on every connection; its port."""
    count = 0
    playing: list[Any] = []
    writers: list[asyncio.StreamWriter] = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        playing.append(asyncio.current_task())
        writers.append(writer)
        try:
            await script(Side(count, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(play, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        for writer in writers:
            writer.transport.abort()
        if playing:
            await asyncio.wait(playing, timeout=5)


@asynccontextmanager
async def asking(url: str, environ: dict[str, str] | None = None) -> AsyncIterator[Callable[[], Awaitable[Answer]]]:
    transport = open_transport(url, environ or {})
    client = Client(url, transport, timeouts=Timeouts(connect=5), clock=SystemClock(), key="sk-secret")

    async def ask() -> Answer:
        return await client.complete(REQUEST)

    try:
        yield ask
    finally:
        await transport.aclose()


async def fault(url: str, environ: dict[str, str] | None = None) -> EndpointError:
    async with asking(url, environ) as ask:
        with pytest.raises(EndpointError) as caught:
            await ask()
        return caught.value


def address(port: int, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{port}/v1/chat/completions"


@pytest.mark.anyio
async def test_the_freshest_connection_is_used_first() -> None:
    """Of several kept ones the one that was used last: the others may have been closed meanwhile."""
    asked: list[int] = []
    together = asyncio.Event()

    async def script(side: Side) -> None:
        while await side.request():
            asked.append(side.number)
            if len(asked) == 3:
                together.set()
            await together.wait()
            if len(asked) == 3:
                await asyncio.sleep(0.02 * side.number)
            side.writer.write(ANSWER)

    async with served(script) as port, asking(address(port)) as ask:
        await asyncio.gather(ask(), ask(), ask())
        for _ in range(3):
            await asyncio.sleep(RESTED_S)
            await ask()
    assert asked[3:] == [3, 3, 3]


@pytest.mark.anyio
async def test_a_kept_connection_that_was_closed_costs_no_attempt() -> None:
    """The other side closes a kept connection just as it is used again, and reads nothing: the request goes out once
    more on a new one, whatever was in the air.
    """
    reads: list[int] = []
    sides: list[Side] = []

    async def script(side: Side) -> None:
        sides.append(side)
        while await side.request():
            reads.append(side.number)
            side.writer.write(ANSWER)

    async with served(script) as port, asking(address(port)) as ask:
        await ask()
        await asyncio.sleep(RESTED_S)
        # the end is in the client's socket, and its loop has not looked there yet
        sides[0].writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        assert (await ask()).completion == "hi"
    assert reads == [1, 2]


@pytest.mark.anyio
async def test_a_place_that_closes_right_behind_each_answer() -> None:
    """Its connections have no time to be used again, and no attempt is lost to that, however many are in flight."""
    loop = asyncio.get_running_loop()

    async def script(side: Side) -> None:
        while await side.request():
            side.writer.write(ANSWER)
            loop.call_soon(side.writer.close)

    async with served(script) as port, asking(address(port)) as ask:

        async def several() -> None:
            for place in range(12):
                assert (await ask()).completion == "hi"
                await asyncio.sleep(0.003 * (place % 4))

        await asyncio.gather(*(several() for _ in range(8)))


def test_what_is_learnt_of_a_place() -> None:
    """After a close, what was idle for nearly as long is not used; after a minute that is forgotten."""
    habit = Habit()
    assert (habit.longest_s(0.0), habit.least_s()) == (LONGEST_IDLE_S, REST_S)
    habit.kept(1.0)
    assert habit.least_s() == 0.0
    habit.closed(100.0, 5.0)
    habit.closed(101.0, 7.0)
    assert habit.longest_s(102.0) == 3.95
    assert habit.least_s() == REST_S
    habit.closed(103.0, 0.001)
    assert habit.longest_s(104.0) < 0
    assert habit.longest_s(164.0) == LONGEST_IDLE_S


@pytest.mark.anyio
@pytest.mark.parametrize(("idle_s", "kept_s"), [(2.0, 1.55), (0.1, LONGEST_IDLE_S)])
async def test_a_connection_that_was_forgotten_on_the_way(idle_s: float, kept_s: float) -> None:
    """Where nothing came for what was sent on an idle one, others are not used after such a rest; a slow answer on a busy one
    tells nothing.
    """
    pool, place = Pool(), Place("http", "h", 80)
    line = Connection(pool.lost)
    line.idle_since, line.used_at = 100.0, 100.0 + idle_s
    pool.silent(line, place)
    now = asyncio.get_running_loop().time()
    assert pool.habit(place).longest_s(now) == pytest.approx(kept_s)


@pytest.mark.anyio
async def test_a_kept_connection_that_ends_behind_a_request_is_unconfirmed() -> None:
    """Where the other side had read the request, it may be billed: it is not sent once more by itself."""
    reads: list[int] = []

    async def script(side: Side) -> None:
        while await side.request():
            reads.append(side.number)
            if len(reads) == 2:
                return
            side.writer.write(ANSWER)

    async with served(script) as port, asking(address(port)) as ask:
        await ask()
        await asyncio.sleep(RESTED_S)
        with pytest.raises(EndpointError) as caught:
            await ask()
    assert (caught.value.kind, caught.value.unconfirmed) == (Kind.DISCONNECTED, True)
    assert reads == [1, 1]


@pytest.mark.anyio
@pytest.mark.parametrize("reads", [True, False])
async def test_a_reset_is_unconfirmed(reads: bool) -> None:
    """A reset does not tell what was read before it: it is taken for the worse."""

    async def script(side: Side) -> None:
        if reads:
            await side.request()
        else:
            await side.reader.readexactly(10)
        side.reset()

    async with served(script) as port:
        error = await fault(address(port))
    assert (error.kind, error.unconfirmed) == (Kind.DISCONNECTED, True)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (ANSWER, 1),
        (ANSWER + b"\r\n", 1),
        (ANSWER + b"more", 2),
        (ANSWER.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), 2),
        (ANSWER.replace(b"1.1", b"1.0"), 2),
        (ANSWER.replace(b"OK\r\n", b"OK\r\nKeep-Alive: timeout=0\r\n"), 2),
    ],
)
async def test_which_connections_are_kept(answer: bytes, connections: int) -> None:
    """One whose answer was in order is used again; one that sent more than it should, or says close, is not."""
    numbers: list[int] = []

    async def script(side: Side) -> None:
        while await side.request():
            numbers.append(side.number)
            side.writer.write(answer)

    async with served(script) as port, asking(address(port)) as ask:
        for _ in range(2):
            assert (await ask()).completion == "hi"
            await asyncio.sleep(RESTED_S)
    assert max(numbers) == connections


@pytest.mark.anyio
async def test_a_plain_answer_without_an_end_is_taken_once_it_is_whole() -> None:
    """No length, and the connection stays open: the JSON itself says where it ends."""

    async def script(side: Side) -> None:
        await side.request()
        side.writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + PLAIN[:30])
        await asyncio.sleep(0.01)
        side.writer.write(PLAIN[30:])
        await side.reader.read()

    async with served(script) as port, asking(address(port)) as ask, asyncio.timeout(5):
        assert (await ask()).completion == "hi"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "spoken", [b"\x15\x03\x01\x00\x02\x02\x46", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\0" * 18]
)
async def test_another_protocol_is_a_fault_of_connecting(spoken: bytes) -> None:
    """A port that speaks TLS or HTTP/2 is named as that; nothing of it may have been billed."""

    async def script(side: Side) -> None:
        await side.reader.read(1024)
        side.writer.write(spoken)
        await side.writer.drain()

    async with served(script) as port:
        error = await fault(address(port))
    assert (error.kind, error.unconfirmed) == (Kind.CONNECT, False)
    assert "TLS" in error.message or "HTTP/2" in error.message


@pytest.mark.anyio
async def test_a_port_of_tls_that_closes_without_a_word(tmp_path: Path) -> None:
    """Most servers hang up on HTTP where they expect TLS: a handshake tells, once, and the address is named as wrong."""
    context, _ = certified(tmp_path)
    async with served(answers, context) as port:
        error = await fault(address(port))
    assert (error.kind, error.unconfirmed) == (Kind.CONNECT, False)
    assert "the port speaks TLS: write https://" in error.message


@pytest.mark.anyio
async def test_a_port_of_tls_is_named_to_every_request(tmp_path: Path) -> None:
    """What the handshake told holds for those beside the first, and for those that come later: the probe, too, names it."""
    context, _ = certified(tmp_path)
    async with served(answers, context) as port, asking(address(port)) as ask:
        errors = [*await asyncio.gather(ask(), ask(), ask(), return_exceptions=True)]
        errors += await asyncio.gather(ask(), return_exceptions=True)
    assert ["the port speaks TLS" in str(error) for error in errors] == [True] * 4


@pytest.mark.anyio
async def test_a_port_of_both_that_closes_without_a_word(tmp_path: Path) -> None:
    """A port that takes HTTP and TLS, and loses an answer on a connection's first request, has lost an answer: it may have been
    billed, and the address is not called wrong.
    """
    context, _ = certified(tmp_path)

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = listening.accept()
                first = line.recv(1, socket.MSG_PEEK)
                if first == b"\x16":
                    line = context.wrap_socket(line, server_side=True)
                elif first == b"?":
                    line.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                line.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        error = await fault(address(listening.getsockname()[1]))
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert (error.kind, error.unconfirmed) == (Kind.DISCONNECTED, True)


def test_the_system_looks_after_silent_connections() -> None:
    """Probes after 30 s of silence, every 10 s, three of them."""
    with socket.socket() as sock:
        probe(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        found = [
            sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in options if hasattr(socket, name)
        ]
        assert found in ([30, 10, 3], [10, 3])


EXCEPTIONS = [
    ("api.example.com", 443, "example.com", True),
    ("api.example.com", 443, ".example.com", True),
    ("api.example.com", 443, "*.example.com", True),
    ("example.com", 443, "EXAMPLE.com.", True),
    ("myexample.com", 443, "example.com", False),
    ("example.com", 443, "a, *", True),
    ("example.com", 8080, "example.com:8080", True),
    ("example.com", 443, "example.com:8080", False),
    ("10.1.2.3", 80, "10.0.0.0/8", True),
    ("10.1.2.3", 80, "192.168.0.0/16 10.1.2.3", True),
    ("11.1.2.3", 80, "10.0.0.0/8", False),
    ("10.1.2.3", 80, "10.0.0.0/8:80", True),
    ("10.1.2.3", 81, "10.0.0.0/8:80", False),
    ("fd00::1", 80, "fd00::/8", True),
    ("fd00::1", 80, "[fd00::1]", True),
    ("fd00::1", 80, "[fd00::1]:81", False),
    ("api.example.com", 443, "10.0.0.0/8", False),
    ("api.example.com", 443, "", False),
]


@pytest.mark.parametrize(("host", "port", "exceptions", "excepted"), EXCEPTIONS)
def test_no_proxy(host: str, port: int, exceptions: str, excepted: bool) -> None:
    """Names, all below them, addresses, networks and ports, as curl reads them."""
    assert is_excepted(host, port, exceptions) is excepted


def test_which_proxy_the_environment_names() -> None:
    """That of the scheme before the one for all, small letters before capitals; credentials are not shown."""
    environ = {"HTTP_PROXY": "corp:8080", "https_proxy": "http://me:p%40ss@corp", "ALL_PROXY": "socks5h://far:1080"}
    plain, secure = proxy_for("http://e/v1", environ), proxy_for("https://e/v1", environ)
    assert plain is not None
    assert secure is not None
    assert (plain.shown, plain.scheme, plain.variable) == ("corp:8080", "http", "HTTP_PROXY")
    assert (secure.shown, secure.password, secure.variable) == ("corp:3128", "p@ss", "https_proxy")
    far = proxy_for("http://e/v1", {"all_proxy": environ["ALL_PROXY"]})
    assert far is not None
    assert far.is_socks
    assert proxy_for("http://e/v1", {**environ, "NO_PROXY": "e"}) is None
    for wrong in ("ftp://corp", "http://corp:port", "http://"):
        with pytest.raises(JobError, match="http_proxy"):
            proxy_for("http://e/v1", {"http_proxy": wrong})


@pytest.mark.anyio
async def test_a_proxy_without_a_tunnel() -> None:
    """What is spoken without TLS is asked of the proxy, by its whole URL, with the proxy's credentials."""
    heads: list[bytes] = []

    async def script(side: Side) -> None:
        while head := await side.request():
            heads.append(head)
            side.writer.write(ANSWER)

    async with served(script) as port:
        environ = {"http_proxy": f"http://me:secret@127.0.0.1:{port}"}
        async with asking("http://endpoint.invalid/v1/chat/completions", environ) as ask:
            assert (await ask()).completion == "hi"
    assert heads[0].startswith(b"POST http://endpoint.invalid/v1/chat/completions HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n" in heads[0]


PROXIED = ["http://endpoint.invalid/v1/chat/completions", "https://endpoint.invalid/v1/chat/completions"]


@pytest.mark.anyio
@pytest.mark.parametrize("url", PROXIED)
async def test_a_proxy_that_wants_credentials(url: str) -> None:
    """With a tunnel or without, a 407 is about the proxy's user and password, not about the key."""

    async def script(side: Side) -> None:
        while await side.request():
            side.writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    async with served(script) as port:
        proxy = f"http://127.0.0.1:{port}"
        error = await fault(url, {"http_proxy": proxy, "https_proxy": proxy})
    assert (error.kind, error.unconfirmed) == (Kind.CREDENTIALS, False)
    assert "proxy" in error.message
    assert error.remedy is not None
    assert "the proxy's own user name and password" in error.remedy


@pytest.mark.anyio
@pytest.mark.parametrize("url", PROXIED)
@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h", "socks4"])
async def test_a_dead_proxy_is_named_as_such(url: str, scheme: str) -> None:
    """It is the proxy that can't be reached, not the endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = await fault(url, {"all_proxy": f"{scheme}://127.0.0.1:{port}"})
    assert (error.kind, error.unconfirmed) == (Kind.CONNECT, False)
    assert f"cannot connect to the proxy 127.0.0.1:{port}" in error.message
    assert error.remedy is not None
    assert "NO_PROXY" in error.remedy


@pytest.mark.anyio
async def test_a_proxy_that_does_not_lead_on() -> None:
    """What it answers to CONNECT is told, with where it should have led."""

    async def script(side: Side) -> None:
        await side.request()
        side.writer.write(b"HTTP/1.1 502 No Route\r\nContent-Length: 0\r\n\r\n")

    async with served(script) as port:
        error = await fault(PROXIED[1], {"https_proxy": f"127.0.0.1:{port}"})
    says = f"the proxy 127.0.0.1:{port} does not lead to endpoint.invalid:443: it answers 502 No Route"
    assert (error.message, error.kind) == (says, Kind.CONNECT)


async def socks5(side: Side, target: int, spoken: list[bytes]) -> None:
    """A SOCKS5 proxy without authentication (RFC 1928) that leads everything to one port of this machine."""
    spoken.append(await side.reader.readexactly(3))
    side.writer.write(b"\x05\x00")
    head = await side.reader.readexactly(5)
    spoken.append(head + await side.reader.readexactly(head[4] + 2))
    side.writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
    reader, writer = await asyncio.open_connection("127.0.0.1", target)

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(4096):
            sink.write(data)
        sink.close()

    await asyncio.gather(pipe(side.reader, writer), pipe(reader, side.writer))


@pytest.mark.anyio
async def test_a_socks_proxy() -> None:
    """It is spoken to in SOCKS alone, and looks the name up itself where `socks5h` says so."""
    spoken: list[bytes] = []

    async def script(side: Side) -> None:
        while await side.request():
            side.writer.write(ANSWER)

    async with served(script) as target, served(lambda side: socks5(side, target, spoken)) as port:
        environ = {"all_proxy": f"socks5h://127.0.0.1:{port}"}
        async with asking("http://endpoint.invalid/v1/chat/completions", environ) as ask:
            assert (await ask()).completion == "hi"
    assert spoken == [b"\x05\x01\x00", b"\x05\x01\x00\x03\x10endpoint.invalid\x00\x50"]


def test_a_socks_proxy_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SOCKS can't be spoken nothing is sent: the message names the proxy, its variable and the extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(JobError, match=r"127\.0\.0\.1:1080 \(all_proxy\).*batchrun\[socks\]"):
        open_transport("http://e/v1", {"all_proxy": "socks5://u:p@127.0.0.1:1080"})


@pytest.mark.parametrize("variable", VARIABLES)
def test_certificates_that_are_not_there(variable: str, tmp_path: Path) -> None:
    """A variable that names nothing, or a file without a certificate, is an error before anything is sent."""
    nothing = tmp_path / "empty.pem"
    nothing.write_text("no certificate\n")
    for path, says in ((tmp_path / "missing.pem", "does not exist"), (nothing, "holds no certificate")):
        with pytest.raises(JobError, match=f"{variable} names .*{says}"):
            open_transport("https://e/v1", {variable: str(path)})
    open_transport("http://e/v1", {variable: str(nothing)})


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1, and the file with the certificate that signed itself."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret.write_bytes(key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    return context, chain


async def answers(side: Side) -> None:
    while await side.request():
        side.writer.write(ANSWER)


@pytest.mark.anyio
@pytest.mark.parametrize("variable", [None, "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
async def test_who_is_trusted(variable: str | None, tmp_path: Path) -> None:
    """A certificate that nobody knows is refused, with the way to have it trusted; each variable is one."""
    context, chain = certified(tmp_path)
    async with served(answers, context) as port:
        url = address(port, "https")
        if variable is not None:
            async with asking(url, {variable: str(chain)}) as ask:
                for _ in range(2):
                    assert (await ask()).completion == "hi"
            return
        error = await fault(url)
    assert (error.kind, error.unconfirmed) == (Kind.CONNECT, False)
    assert "its certificate is not trusted" in error.message
    assert error.remedy is not None
    assert "SSL_CERT_FILE" in error.remedy
    assert "system's store" in error.remedy


@pytest.mark.anyio
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_tls_through_a_tunnel(scheme: str, tmp_path: Path) -> None:
    """The proxy, spoken to with TLS or without, sees CONNECT and its own credentials; the rest is the endpoint's."""
    context, chain = certified(tmp_path)
    heads: list[bytes] = []

    async with served(answers, context) as target:

        async def script(side: Side) -> None:
            heads.append(await side.request())
            reader, writer = await asyncio.open_connection("127.0.0.1", target)
            side.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

            async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(4096):
                    sink.write(data)
                sink.close()

            await asyncio.gather(pipe(side.reader, writer), pipe(reader, side.writer))

        async with served(script, context if scheme == "https" else None) as port:
            environ: dict[str, Any] = {
                "https_proxy": f"{scheme}://me:secret@127.0.0.1:{port}",
                "SSL_CERT_FILE": str(chain),
            }
            async with asking(address(target, "https"), environ) as ask:
                for _ in range(2):
                    assert (await ask()).completion == "hi"
                    await asyncio.sleep(RESTED_S)
    expected = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"
    assert heads == [expected % (target, target)]


def test_http_1_1_alone_is_offered() -> None:
    """The other side of TLS is told what will be spoken."""
    assert tls_context({}).verify_mode is ssl.CERT_REQUIRED
