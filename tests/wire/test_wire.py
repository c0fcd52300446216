"""The client against a server made by hand that misbehaves below HTTP: drips, silence, bombs (endpoint.md §5–§6)."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import brotli
import httpx
import httpx_aiohttp
import pytest

from batchrun.clock import SystemClock
from batchrun.embedded import Behaviour, Fault, embedded_endpoint
from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer, Request
from batchrun.sections import Timeouts
from batchrun.wire import refusal as refusal_module
from batchrun.wire.client import Client
from batchrun.wire.transport import open_transport

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
STREAM = CHUNK + END + b"data: [DONE]\n\n"
PLAIN = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIP_S = 0.005


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


class Line:
    """One connection, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> None:
        head = await self.reader.readuntil(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self.reader.readexactly(size)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes) -> None:
        """The same bytes again and again, until the client has gone."""
        while not self.reader.at_eof():
            await self.send(data)
            await asyncio.sleep(DRIP_S)

    async def gone(self) -> None:
        while await self.reader.read(1024):
            pass


class Server:
    """Plays `script` on every connection. `open` counts those the client has not closed, `seen` all."""

    def __init__(self, script: Callable[[Line], Awaitable[None]]) -> None:
        self.script = script
        self.open = self.seen = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.empty = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.seen += 1
        self.empty.clear()
        line = Line(reader, writer)
        try:
            await self.script(line)
            await line.gone()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()
            if not self.open:
                self.empty.set()


@asynccontextmanager
async def served(script: Callable[[Line], Awaitable[None]], scheme: str = "http") -> AsyncIterator[tuple[Server, str]]:
    made = Server(script)
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield made, f"{scheme}://127.0.0.1:{port}/v1/chat/completions"


def aiohttps(_url: str) -> httpx.AsyncBaseTransport:
    """Another transport behind the same seam, to see that nothing is built upon our own."""

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())

    return httpx_aiohttp.AiohttpTransport(verify=False, client=session)


Open = Callable[[str], httpx.AsyncBaseTransport]
CARRIERS: list[Open] = [open_transport, aiohttps]


async def ask(
    url: str, timeouts: Timeouts, *, stream: bool = True, times: int = 1, opens: Open = open_transport
) -> Answer:
    transport = opens(url)
    try:
        client = Client(url, transport, timeouts=timeouts, clock=SystemClock(), key="sk-secret")
        for _ in range(times):
            answer = await client.complete(Request(0, "0", "default", 0, b'{"model":"m"}', "h", "m", stream))
            await asyncio.sleep(0.01 if times > 1 else 0.0)  # longer than a new place's connections have to rest
        return answer
    finally:
        await transport.aclose()


async def head_drips(line: Line) -> None:
    await line.request()
    await line.send(b"HTTP/1.1 200 OK\r\n")
    await line.drip(b"X-A: b\r\n")


async def never_answers(line: Line) -> None:
    await line.request()


async def comments(line: Line) -> None:
    await line.request()
    await line.send(CHUNKED)
    await line.drip(chunk(b": ping\n\n"))


async def empty_chunks(line: Line) -> None:
    await line.request()
    await line.send(CHUNKED)
    await line.drip(chunk(ROLE))


async def blank_lines(line: Line) -> None:
    await line.request()
    await line.send(CHUNKED)
    await line.drip(chunk(b"\n"))


async def falls_silent(line: Line) -> None:
    await line.request()
    await line.send(CHUNKED + chunk(CHUNK))


async def comments_in_the_middle(line: Line) -> None:
    await line.request()
    await line.send(CHUNKED + chunk(CHUNK))
    await line.drip(chunk(b": ping\n\n"))


async def blanks_within_json(line: Line) -> None:
    await line.request()
    await line.send(CHUNKED + chunk(b"{"))
    await line.drip(chunk(b" \n"))


async def content_for_ever(line: Line) -> None:
    await line.request()
    await line.send(CHUNKED)
    await line.drip(chunk(CHUNK))


async def bytes_of_json_for_ever(line: Line) -> None:
    await line.request()
    await line.send(CHUNKED + chunk(b'{"choices": "'))
    await line.drip(chunk(b"x"))


FIRST = Timeouts(first_token=0.06)
BETWEEN = Timeouts(between_tokens=0.06)
TOTAL = Timeouts(total=0.06)
DRIPS = [
    (head_drips, True, FIRST, "first_token"),
    (never_answers, True, FIRST, "first_token"),
    (comments, True, FIRST, "first_token"),
    (empty_chunks, True, FIRST, "first_token"),
    (blank_lines, True, FIRST, "first_token"),
    (falls_silent, True, BETWEEN, "between_tokens"),
    (comments_in_the_middle, True, BETWEEN, "between_tokens"),
    (blanks_within_json, True, BETWEEN, "between_tokens"),
    (content_for_ever, True, TOTAL, "total"),
    (bytes_of_json_for_ever, True, TOTAL, "total"),
    (head_drips, False, TOTAL, "total"),
    (never_answers, False, TOTAL, "total"),
    (blank_lines, False, TOTAL, "total"),
    (bytes_of_json_for_ever, False, TOTAL, "total"),
    (content_for_ever, False, TOTAL, "total"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("opens", CARRIERS)
@pytest.mark.parametrize(("script", "stream", "timeouts", "name"), DRIPS)
async def test_no_drip_defeats_a_timeout(
    script: Callable[[Line], Awaitable[None]], stream: bool, timeouts: Timeouts, name: str, opens: Open
) -> None:
    """Each timeout ends its attempt, unconfirmed, says which it was, and closes the connection."""
    async with served(script) as (server, url):
        with pytest.raises(EndpointError, match=rf"\[timeouts\] {name}") as caught:
            await ask(url, timeouts, stream=stream, opens=opens)
        assert (caught.value.kind, caught.value.unconfirmed) == (Kind.TIMEOUT, True)
        await asyncio.wait_for(server.empty.wait(), 10)
        assert (server.seen, server.open) == (1, 0)


@pytest.mark.anyio
async def test_the_embedded_endpoint_sees_every_timeout_close_its_connection() -> None:
    """After a timeout of each kind the endpoint has no connection open but the one that asks it."""
    stall = [Fault(action="stall", seconds=30, match=part, part=part) for part in ("before", "headers", "middle")]
    with embedded_endpoint(Behaviour(faults=tuple(stall))) as base_url:
        transport = open_transport(base_url)
        timeouts = Timeouts(first_token=0.2, between_tokens=0.2)
        client = Client(f"{base_url}/chat/completions", transport, timeouts=timeouts, clock=SystemClock())
        for part in ("before", "headers", "middle"):
            text = f"Say hello to everybody {part}"
            body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
            with pytest.raises(EndpointError) as caught:
                await client.complete(Request(0, "0", "default", 0, body, "h", "m", True))
            assert caught.value.kind is Kind.TIMEOUT
        async with httpx.AsyncClient(trust_env=False) as asking, asyncio.timeout(5):
            seen = None
            while seen != (1, 0, 3):  # it notices a moment later
                stats = (await asking.get(base_url.removesuffix("/v1") + "/stats")).json()
                seen = (stats["open_connections"], stats["in_flight"], stats["aborted"])
        await transport.aclose()


@pytest.mark.anyio
async def test_why_there_is_no_connection() -> None:
    """A fault of connecting names host, port and reason in plain words: refused, no such name, no TLS."""

    async def garbled(line: Line) -> None:
        await line.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with served(garbled) as (_, url):
        port = httpx.URL(url).port
        for target, says in (
            ("http://127.0.0.1:9/v1/chat/completions", "cannot connect to 127.0.0.1:9: Connection refused"),
            ("http://no-such-host.invalid/v1/chat/completions", "cannot connect to no-such-host.invalid:80: "),
            (url.replace("http:", "https:"), f"cannot connect to 127.0.0.1:{port}: TLS failed: "),
        ):
            with pytest.raises(EndpointError) as caught:
                await ask(target, Timeouts(connect=5))
            assert says in caught.value.message
            assert (caught.value.kind, caught.value.unconfirmed) == (Kind.CONNECT, False)


@pytest.mark.anyio
async def test_connect_that_hangs_in_tls() -> None:
    """A handshake that never ends is a connect fault: nothing was sent."""

    async def silent(line: Line) -> None:
        await line.gone()

    async with served(silent, "https") as (server, url):
        with pytest.raises(EndpointError, match="cannot connect") as caught:
            await ask(url, Timeouts(connect=0.1))
        assert (caught.value.kind, caught.value.unconfirmed) == (Kind.CONNECT, False)
        await asyncio.wait_for(server.empty.wait(), 10)


@pytest.mark.anyio
@pytest.mark.parametrize("opens", CARRIERS)
@pytest.mark.parametrize("drips", [True, False])
async def test_a_status_stands_without_its_body(monkeypatch: pytest.MonkeyPatch, drips: bool, opens: Open) -> None:
    """An error whose body drips for ever, or breaks off, is judged by its status and headers."""
    monkeypatch.setattr(refusal_module, "ERROR_BODY_S", 0.05)

    async def limited(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 429 x\r\nRetry-After: 3\r\nTransfer-Encoding: chunked\r\n\r\n")
        if drips:
            await line.drip(chunk(b" "))
        else:
            await line.send(b"40\r\n{")
            line.writer.close()

    async with served(limited) as (server, url):
        with pytest.raises(EndpointError, match="HTTP 429") as caught:
            await ask(url, Timeouts(), opens=opens)
        assert (caught.value.kind, caught.value.retry_after_s) == (Kind.RATE_LIMITED, 3.0)
        await asyncio.wait_for(server.empty.wait(), 10)


@pytest.mark.anyio
@pytest.mark.parametrize("opens", CARRIERS)
@pytest.mark.parametrize("ends", [True, False])
async def test_connections_after_done(ends: bool, opens: Open) -> None:
    """A connection whose body ends soon behind [DONE] is used again; one that is held open there is given up."""

    async def answers(line: Line) -> None:
        while True:
            await line.request()
            await line.send(CHUNKED + chunk(STREAM))
            if not ends:
                return
            await asyncio.sleep(DRIP_S)
            await line.send(b"0\r\n\r\n")

    async with served(answers) as (server, url):
        answer = await ask(url, Timeouts(), times=3, opens=opens)
        assert (answer.completion, answer.finish_reason) == ("hi", "stop")
        assert server.seen == (1 if ends else 3)


class Blocks(httpx.AsyncByteStream):
    def __init__(self, blocks: list[bytes]) -> None:
        self.blocks = blocks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self.blocks:
            yield block


async def received(encoding: str, *blocks: bytes) -> Answer:
    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=Blocks(list(blocks)), headers={"content-encoding": encoding})

    client = Client("http://h/v1", Transport(), timeouts=Timeouts(), clock=SystemClock())
    return await client.complete(Request(0, "0", "default", 0, b"{}", "h", "m", True))


def raw_deflate(body: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(body) + made.flush()


PACKINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", lambda body: gzip.compress(body[:40]) + gzip.compress(body[40:])),
    ("gzip", lambda body: gzip.compress(body) + b"\0" * 20),
    ("gzip", lambda body: body),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("identity", lambda body: body),
    ("gzip, br", lambda body: brotli.compress(gzip.compress(body))),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("encoding", "pack"), PACKINGS)
@pytest.mark.parametrize("body", [STREAM, PLAIN])
async def test_compressed_answers(encoding: str, pack: Callable[[bytes], bytes], body: bytes) -> None:
    """gzip, deflate with and without its header, and br are read, whatever the cuts; a lie about gzip is forgiven."""
    packed = pack(body)
    for size in (1, 7, len(packed)):
        answer = await received(encoding, *(packed[at : at + size] for at in range(0, len(packed), size)))
        assert (answer.completion, answer.finish_reason) == ("hi", "stop")


BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "deflate": lambda data: zlib.compress(data, 1),
    "br": lambda data: brotli.compress(data, quality=3),
    "gzip, gzip": lambda data: gzip.compress(gzip.compress(data, 1), 1),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("encoding", "packed"), BOMBS.items(), ids=BOMBS)
async def test_a_bomb_is_malformed(encoding: str, packed: Callable[[bytes], bytes]) -> None:
    """A small body that unpacks to more than 64 MiB is malformed."""
    bomb = packed(b"{" + b" " * (66 << 20))
    assert len(bomb) < 1 << 20
    with pytest.raises(EndpointError, match="larger than 64 MiB") as caught:
        await received(encoding, bomb)
    assert caught.value.kind is Kind.MALFORMED


REFUSED = [
    ("zstd", b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    ("gzip", gzip.compress(PLAIN, mtime=0)[:12] + b"xxxxxxxxxxxxxxxx", "not readable as gzip"),
    ("br", b"\xff" * 30, "not readable as br"),
    ("gzip, gzip, gzip", b"", "3 times over"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("encoding", "body", "says"), REFUSED)
async def test_what_cannot_be_unpacked_is_malformed(encoding: str, body: bytes, says: str) -> None:
    """A coding that is not known, or is broken, is malformed and says so."""
    with pytest.raises(EndpointError, match=says) as caught:
        await received(encoding, body)
    assert caught.value.kind is Kind.MALFORMED
