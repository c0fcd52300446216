"""Sends one prepared reply, as it is or as a fault wants it, at the speed that the settings ask for.

It knows bytes, time and the connection; it must never know what an answer says.
"""

import asyncio
from collections.abc import Sequence

import msgspec
from starlette.types import Receive, Scope, Send

from batchrun.embedded import wire
from batchrun.embedded.connection import break_off
from batchrun.embedded.faults import Fault

Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")
_TICK_S = (
    0.01  # tokens that fall due within it are sent together: a timer for each token would cost more than the token
)


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A whole answer. A stream has events in `head`, `body` and `tail`; a plain JSON answer is one piece in `body`."""

    stream: bool
    head: Sequence[bytes]
    body: Sequence[bytes]
    tail: Sequence[bytes]
    headers: list[Header]

    @property
    def content(self) -> bytes:
        return b"".join([*self.head, *self.body, *self.tail])


async def send_plain(
    send: Send, status: int, body: bytes, headers: Sequence[Header] = (), content_type: Header = JSON
) -> None:
    await _start(send, status, [content_type, (b"content-length", b"%d" % len(body)), *headers])
    await send({"type": "http.response.body", "body": body})


async def send_reply(send: Send, reply: Reply) -> None:
    """All at once."""
    if reply.stream:
        await _start_reply(send, reply)
        await send({"type": "http.response.body", "body": reply.content})
    else:
        await send_plain(send, 200, reply.body[0], reply.headers)


async def send_paced(send: Send, reply: Reply, tokens: int, first_token_s: float, tokens_per_s: float) -> None:
    """At the speed of a model: a stream token by token, a plain answer when its last token is due."""
    started = asyncio.get_running_loop().time()
    if first_token_s:
        await asyncio.sleep(first_token_s)
    if not tokens_per_s:
        return await send_reply(send, reply)
    if not reply.stream:
        await asyncio.sleep(tokens / tokens_per_s)
        return await send_reply(send, reply)
    await _start_reply(send, reply)
    await _more(send, b"".join(reply.head))
    at, pace = 0, tokens_per_s * len(reply.body) / max(tokens, 1)
    while at < len(reply.body):
        elapsed = asyncio.get_running_loop().time() - started - first_token_s
        due = min(len(reply.body), max(at + 1, int(elapsed * pace) + 1))
        await _more(send, b"".join(reply.body[at:due]))
        at = due
        await asyncio.sleep(max(_TICK_S, 1 / pace))
    await send({"type": "http.response.body", "body": b"".join(reply.tail)})
    return None


async def send_stalled(send: Send, reply: Reply, fault: Fault) -> None:
    """Silence of `fault.seconds` before the headers, behind them, or in the middle; then the rest."""
    if fault.part == "before":
        await asyncio.sleep(fault.seconds)
        return await send_reply(send, reply)
    await _start_reply(send, reply)
    content = reply.content
    said = _middle(reply) if fault.part == "middle" else 0
    await _more(send, content[:said])
    await asyncio.sleep(fault.seconds)
    await send({"type": "http.response.body", "body": content[said:]})
    return None


async def send_slowly(send: Send, reply: Reply, seconds: float) -> None:
    """In up to twenty parts, cut without regard to events or characters."""
    await _start_reply(send, reply)
    content = reply.content
    size = max(1, -(-len(content) // 20))
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    for part in parts:
        await asyncio.sleep(seconds / len(parts))
        await _more(send, part)
    await send({"type": "http.response.body", "body": b""})


async def send_cut(send: Send, scope: Scope, receive: Receive, reply: Reply) -> bool:
    """Half of it. A stream ends in good order; a JSON body breaks off. Whether a complete HTTP answer was sent."""
    await _start_reply(send, reply)
    half = reply.content[: _middle(reply)]
    if reply.stream:
        await send({"type": "http.response.body", "body": half})
        return True
    await _more(send, half)
    await break_off(scope, receive, reset=False)
    return False


async def send_error_inside(send: Send, reply: Reply, fault: Fault) -> None:
    """Send an error under HTTP 200; in a stream behind half of the answer, with [DONE] behind it as relays do."""
    error = fault.body if fault.body is not None else wire.error_body(fault.status or 500)
    if not reply.stream:
        return await send_plain(send, 200, wire.encode(error), reply.headers)
    await _start_reply(send, reply)
    await send({"type": "http.response.body", "body": reply.content[: _middle(reply)] + wire.event(error) + wire.DONE})
    return None


async def send_error(send: Send, fault: Fault) -> None:
    """Send a scripted status, HTML page or garbage: whatever needs no answer."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fault.headers.items()]
    if fault.action == "garbage":
        await send_plain(send, fault.status or 200, wire.GARBAGE, headers)
    elif fault.action == "html":
        page = fault.body.encode() if isinstance(fault.body, str) else wire.HTML_PAGE
        await send_plain(send, fault.status or 502, page, headers, (b"content-type", b"text/html"))
    elif isinstance(fault.body, str):
        await send_plain(
            send, fault.status, fault.body.encode(), headers, (b"content-type", b"text/plain; charset=utf-8")
        )
    else:
        body = fault.body if fault.body is not None else wire.error_body(fault.status)
        await send_plain(send, fault.status, wire.encode(body), headers)


def _middle(reply: Reply) -> int:
    """Where to break off: half a JSON body, or behind half of a stream's tokens."""
    if not reply.stream:
        return len(reply.body[0]) // 2
    return sum(map(len, reply.head)) + sum(map(len, reply.body[: len(reply.body) // 2]))


async def _start_reply(send: Send, reply: Reply) -> None:
    if reply.stream:
        kind = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    else:
        kind = [JSON, (b"content-length", b"%d" % len(reply.body[0]))]
    await _start(send, 200, [*kind, *reply.headers])


async def _start(send: Send, status: int, headers: list[Header]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _more(send: Send, body: bytes) -> None:
    if body:
        await send({"type": "http.response.body", "body": body, "more_body": True})
