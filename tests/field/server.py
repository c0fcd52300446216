"""A small rough server: raw sockets on loopback, so that it can write what no HTTP library would.

A scenario is a coroutine function (asked, reply) and decides what is written for each request; it is chosen by name. What
it must remember stands in `asked.memory`, which lasts as long as the server.
"""

import asyncio
import collections
import contextlib
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
}


@dataclass
class Asked:
    """One request as it was read. `row` is the number in its prompt ("row 7 …"), `times` how often that row was asked by now,
    `nth` its place on its connection, from 0. Header names are in lower case.
    """

    number: int
    connection: int
    nth: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    row: int
    times: int
    memory: dict[str, Any]


class Reply:
    """Writes what a scenario wants. The connection is kept unless it is closed or reset."""

    def __init__(self, asked: Asked, writer: asyncio.StreamWriter, last: Mapping[int, int]) -> None:
        self._asked = asked
        self._last = last
        self._writer = writer
        self.closed = False

    def raw(self, head: str, body: bytes = b"", *, line_end: str = "\r\n") -> None:
        """A head, its lines given one below the other, and what follows it, as they are."""
        lines = [*head.strip().splitlines(), "", ""]
        self._writer.write(line_end.join(line.strip() for line in lines).encode() + body)

    def send(
        self,
        status: int,
        body: Any,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        """A well-formed answer; `body` is JSON unless it is text."""
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}", f"Content-Type: {content_type}"]
        lines += [f"Content-Length: {len(data)}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        self.raw("\n".join(lines), data)

    def answer(self, text: str | None = "fine", *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        """A chat completion; `more` goes to `completion`."""
        self.send(200, self.completion(text, **more), headers)

    def completion(
        self,
        text: str | None = "fine",
        *,
        finish: str | None = "stop",
        usage: Mapping[str, Any] | None = None,
        message: Mapping[str, Any] | None = None,
        **top: Any,
    ) -> dict[str, Any]:
        """The body of a chat completion. `message` adds to the message, `top` to the whole or replaces in it."""
        said = {"role": "assistant", "content": text, **(message or {})}
        return {
            "id": f"chatcmpl-{self._asked.number}",
            "object": "chat.completion",
            "created": 1_767_225_600,
            "model": self._asked.body.get("model"),
            "choices": [{"index": 0, "message": said, "finish_reason": finish}],
            "usage": {**USAGE, **(usage or {})},
            **top,
        }

    def error(self, status: int, message: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        """An error of OpenAI's shape."""
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}
        self.send(status, {"error": error}, headers)

    def stream(self, *events: Any, done: bool = True) -> None:
        """A stream of these events in one piece."""
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + ("data: [DONE]\n\n" if done else "")
        self.send(200, text, content_type="text/event-stream")

    def close(self) -> None:
        """Close the connection behind what was written."""
        self.closed = True

    def close_when_idle(self, after_s: float) -> None:
        """Close the connection so much later, unless another request has been read from it by then."""

        def close() -> None:
            if self._last.get(self._asked.connection) == self._asked.number:
                self._writer.close()

        asyncio.get_running_loop().call_later(after_s, close)

    def reset(self) -> None:
        self._writer.transport.abort()
        self.closed = True


Scenario = Callable[[Asked, Reply], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Scenario) -> Scenario:
    """Make a scenario known by the name of its function."""
    assert play.__name__ not in SCENARIOS
    SCENARIOS[play.__name__] = play
    return play


@dataclass
class Server:
    """A running server, and what it saw. `last` is the number of the last request of each connection."""

    port: int = 0
    received: int = 0
    connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    rows: collections.Counter[int] = field(default_factory=collections.Counter)
    paths: collections.Counter[str] = field(default_factory=collections.Counter)
    memory: dict[str, Any] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def meet(self, play: Scenario, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        connection = self.connections
        ends = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.closing(writer), contextlib.suppress(*ends):
            nth = 0
            while (asked := await self._read(reader, connection, nth)) is not None:
                reply = Reply(asked, writer, self.last)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    await play(asked, reply)
                finally:
                    self.in_flight -= 1
                await writer.drain()
                if reply.closed:
                    break
                nth += 1

    async def _read(self, reader: asyncio.StreamReader, connection: int, nth: int) -> Asked | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
        path = first.split(" ")[1]
        found = re.search(r"row (\d+)", json.dumps(body))
        row = int(found[1]) if found else -1
        self.received += 1
        self.rows[row] += 1
        self.paths[path] += 1
        self.last[connection] = self.received
        return Asked(self.received, connection, nth, path, headers, body, row, self.rows[row], self.memory)


@contextlib.contextmanager
def serving(play: Scenario) -> Iterator[Server]:
    """A server on a free port of loopback, in a thread of its own, for as long as this lasts."""
    server, ready = Server(), threading.Event()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.meet(play, reader, writer)

        listening = await asyncio.start_server(meet, "127.0.0.1", 0, backlog=1024)
        server.port = listening.sockets[0].getsockname()[1]
        ready.set()
        await ended.wait()
        listening.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # each connection hears of its end

    def run() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
