"""Runs inside mitmproxy: what happens to an answer on its way, where the request's text asks for it.

`[cut]` in a request's body, and so on for each name in `MISHAPS`, happens the first time that this body is seen: asked
again it gets through. `[cut always]` happens each time. Every request is noted in the file that LEDGER names.
"""

import asyncio
import contextlib
import json
import os
import re
import socket
import struct
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from mitmproxy import ctx, http

MISHAPS = ("reset", "drop", "cut", "hush", "end", "garble", "empty", "late", "drip", "slice")
_ASKED = re.compile(rb"\[(" + "|".join(MISHAPS).encode() + rb")( always)?\]")
_LATE_S = 0.4
_DRIP_S = 0.02
_HUSH_S = 30.0
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST


class Mishaps:
    """`reset`, `drop`: RST, or a plain close, before any answer. `cut`: RST in the middle of the answer. `hush`: half of
    it, and then nothing. `end`: half of it, ended politely. `garble`: no JSON any more. `empty`: no body. `late`: the
    headers take their time. `drip`: the bytes come a few at a time. `slice`: each byte comes alone.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._ledger = Path(os.environ["LEDGER"])

    def request(self, flow: http.HTTPFlow) -> None:
        if flow.request.method != "POST":
            return
        body = flow.request.raw_content or b""
        digest = sha256(body).digest()
        asked = _ASKED.search(body)
        happens = asked is not None and (asked[2] is not None or digest not in self._seen)
        self._seen.add(digest)
        what = asked[1].decode() if asked is not None and happens else ""
        flow.metadata["mishap"] = what
        with self._ledger.open("a") as ledger:
            ledger.write(json.dumps({"mishap": what, "path": flow.request.path}) + "\n")
        if what in ("reset", "drop"):
            self._hang_up(flow, reset=what == "reset")

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.metadata.get("mishap") == "slice":
            assert flow.response is not None
            flow.response.stream = _sliced

    async def response(self, flow: http.HTTPFlow) -> None:
        response = flow.response
        assert response is not None
        match flow.metadata.get("mishap"):
            case "cut" | "drip" | "hush" as what:
                await self._by_hand(flow, response, what)
            case "end":
                response.raw_content = _half(response)
            case "garble":
                response.raw_content = (response.raw_content or b"").replace(b'"choices":[', b'"choices":{[')
            case "empty":
                response.raw_content = b""
            case "late":
                await asyncio.sleep(_LATE_S)

    async def _by_hand(self, flow: http.HTTPFlow, response: http.Response, what: str) -> None:
        """Write the answer to the client's connection past the proxy, which knows no such misbehaviour."""
        writer = self._writer(flow)
        body = response.raw_content or b""
        head = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items() if _is_free(name))
        writer.write(f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
        if what == "drip":
            size = len(body) // 20 + 1
            for at in range(0, len(body), size):
                writer.write(body[at : at + size])
                await asyncio.sleep(_DRIP_S)
        else:
            writer.write(_half(response))
            await writer.drain()
            await asyncio.sleep(_HUSH_S if what == "hush" else _DRIP_S)
        self._hang_up(flow, reset=what == "cut")

    def _hang_up(self, flow: http.HTTPFlow, *, reset: bool) -> None:
        with contextlib.suppress(KeyError):  # the client may have hung up first
            writer = self._writer(flow)
            if reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.close()
        if flow.killable:
            flow.kill()

    def _writer(self, flow: http.HTTPFlow) -> asyncio.StreamWriter:
        handler = ctx.master.addons.get("proxyserver").connections[flow.client_conn.id]
        return handler.transports[handler.client].writer


def _half(response: http.Response) -> bytes:
    body = response.raw_content or b""
    return body[: len(body) // 2]


def _sliced(block: bytes) -> Iterable[bytes]:
    return [block[at : at + 1] for at in range(len(block))]


def _is_free(name: str) -> bool:
    return name.lower() not in ("content-length", "transfer-encoding", "connection", "keep-alive")


addons = [Mishaps()]
