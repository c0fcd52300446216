"""The ASGI app of the embedded endpoint: routes, and the way of one chat request through it.

The way that needs no waiting (no delay, no slots, no fault) sets no timer and starts no task. It must never hold a body
longer than its request.
"""

import asyncio
import hmac
import time
from contextlib import nullcontext
from copy import copy
from typing import Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from batchrun.embedded import play, wire
from batchrun.embedded.answers import answer, pieces
from batchrun.embedded.behaviour import Behaviour
from batchrun.embedded.connection import ClientGone, break_off, is_gone, open_connections, while_connected
from batchrun.embedded.faults import Fault, Script
from batchrun.embedded.quota import Quota
from batchrun.embedded.requests import ChatRequest, parse_request
from batchrun.embedded.shapes import SHAPES, Shape, as_chat
from batchrun.embedded.stats import Stats
from batchrun.embedded.tokens import count_tokens

_MAX_BODY = 64 * 2**20
Outcome = Literal["ok", "error", "aborted"]
_NEEDS_NO_ANSWER = frozenset({"status", "garbage", "html"})


class Chat:
    """POST /v1/chat/completions, as an ASGI app of its own: starlette's Request and Response would double its cost.

    `shaped` makes one for another shape of request, with the same books, faults, quota and slots.
    """

    _shape: Shape | None = None

    def __init__(self, behaviour: Behaviour, stats: Stats) -> None:
        self._behaviour = behaviour
        self._stats = stats
        self._script = Script(behaviour.faults, behaviour.seed)
        self._quota = Quota(behaviour.requests_per_minute, behaviour.tokens_per_minute)
        self._slots = asyncio.Semaphore(behaviour.slots) if behaviour.slots else nullcontext()
        self._key = None if behaviour.api_key is None else behaviour.api_key.encode()

    def shaped(self, shape: Shape) -> "Chat":
        other = copy(self)
        other._shape = shape
        return other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await _read(receive)
        except wire.ApiError as error:
            await play.send_plain(send, error.status, error.body, [(b"connection", b"close")])
            return
        if body is None:
            return
        # the same body on two paths is two requests
        number, digest = self._stats.receive(body if self._shape is None else scope["path"].encode() + body)
        outcome: Outcome = "aborted"
        try:
            outcome = await self._serve(scope, receive, send, body, number, digest)
        except wire.ApiError as error:
            await play.send_plain(send, error.status, error.body, [*error.headers, _request_id(number, digest)])
            outcome = "error"
        except ClientGone:
            pass  # nobody is left to be answered
        finally:
            if outcome == "error":
                self._stats.errors += 1
            elif outcome == "aborted":
                self._stats.aborted += 1

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, body: bytes, number: int, digest: int
    ) -> Outcome:
        """Answer one request; an "ok" is counted already. Raises ApiError, ClientGone."""
        fault = self._script.choose(number, body, digest)
        if fault is not None and fault.action == "reset":
            await break_off(scope, receive, reset=True)
            return "aborted"
        if fault is not None and fault.action in _NEEDS_NO_ANSWER:
            await play.send_error(send, fault)
            return "error"
        self.authorise(scope)
        given, chat = ({}, body) if self._shape is None else as_chat(self._shape, body)
        behaviour = self._behaviour
        request = parse_request(chat, behaviour.models, behaviour.context_length, behaviour.tokenizer)
        speaks = self._shape is None or self._shape.limit is not None
        choices = answer(request, behaviour.seed) if speaks else []
        charged = request.prompt_tokens + (request.max_tokens or 0) * request.n
        headers = [_request_id(number, digest)]
        if self._quota.limited:
            now = asyncio.get_running_loop().time()
            self._quota.admit(charged, now)
            headers += self._quota.headers(now)
        usage = _usage(request, choices)
        self._quota.settle(charged, usage.total_tokens)
        stream = request.stream
        if fault is not None and fault.action in ("as_json", "as_stream"):
            stream, fault = fault.action == "as_stream", None
        if self._shape is None:
            reply = _reply(request, choices, usage, headers, digest, stream=stream)
        else:
            whole = self._shape.reply(given, f"{digest:016x}", int(time.time()), request, choices, usage)
            reply = play.Reply(stream=False, head=(), body=(wire.encode(whole),), tail=(), headers=headers)
        outcome: Outcome = "ok"
        if fault is None and behaviour.instant:
            if is_gone(scope):
                return "aborted"
            await play.send_reply(send, reply)
        else:
            async with while_connected(receive), self._slots:
                outcome = await self._send_waiting(scope, receive, send, reply, usage.completion_tokens, fault)
        if outcome == "ok":
            self._stats.answer(number, digest, usage.prompt_tokens, usage.completion_tokens)
        return outcome

    async def _send_waiting(
        self, scope: Scope, receive: Receive, send: Send, reply: play.Reply, tokens: int, fault: Fault | None
    ) -> Outcome:
        if fault is None:
            behaviour = self._behaviour
            await play.send_paced(send, reply, tokens, behaviour.first_token_s, behaviour.tokens_per_s)
        elif fault.action == "stall":
            await play.send_stalled(send, reply, fault)
        elif fault.action == "slow":
            await play.send_slowly(send, reply, fault.seconds)
        elif fault.action == "cut":
            return "error" if await play.send_cut(send, scope, receive, reply) else "aborted"
        else:
            await play.send_error_inside(send, reply, fault)
            return "error"
        return "ok"

    def authorise(self, scope: Scope) -> None:
        if self._key is None:
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = given.partition(b" ")
        if not key:
            raise wire.ApiError(401, "You didn't provide an API key in an Authorization header (Bearer YOUR_KEY).")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self._key):
            raise wire.ApiError(401, "Incorrect API key provided.", code="invalid_api_key")


async def _read(receive: Receive) -> bytes | None:
    """Read the whole body; None if the client left before its end. Raises ApiError 413."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _MAX_BODY:
            raise wire.ApiError(413, f"The request body is larger than {_MAX_BODY} bytes.", code="request_too_large")
    return b"".join(parts) if message["type"] == "http.request" else None


def _request_id(number: int, digest: int) -> play.Header:
    return (b"x-request-id", b"req_%016x_%d" % (digest, number))


def _usage(request: ChatRequest, choices: list[wire.Choice]) -> wire.Usage:
    completion_tokens = sum(count_tokens(choice.text, request.tokenizer) for choice in choices)
    return wire.Usage(request.prompt_tokens, completion_tokens, request.prompt_tokens + completion_tokens)


def _reply(
    request: ChatRequest,
    choices: list[wire.Choice],
    usage: wire.Usage,
    headers: list[play.Header],
    digest: int,
    *,
    stream: bool,
) -> play.Reply:
    name, created = f"chatcmpl-{digest:016x}", int(time.time())
    if not stream:
        whole = wire.completion(name, created, request.model, choices, usage)
        return play.Reply(stream=False, head=(), body=(whole,), tail=(), headers=headers)
    head, body, tail = wire.chunks(
        name,
        created,
        request.model,
        choices,
        [pieces(choice.text) for choice in choices],
        usage if request.include_usage else None,
    )
    return play.Reply(stream=True, head=head, body=body, tail=tail, headers=headers)


def build_app(behaviour: Behaviour, ledger: str | None = None) -> Starlette:
    """Build the endpoint as an ASGI app. `ledger` is the path of a file that gets one JSON line for each event."""
    stats = Stats(ledger)
    chat = Chat(behaviour, stats)
    models = [
        {"id": name, "object": "model", "created": 1_735_689_600, "owned_by": "embedded"}
        for name in behaviour.listed_models
    ]

    async def show_models(request: Request) -> Response:
        chat.authorise(request.scope)
        return _json(200, {"object": "list", "data": models})

    async def show_stats(request: Request) -> Response:
        return _json(200, stats.shown(open_connections(request.scope)))

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"Invalid URL ({request.method} {request.url.path})"
        if error.status_code == 405:
            message = f"Not allowed to {request.method} on {request.url.path}"
        body = wire.ApiError(error.status_code, message, code="unknown_url" if error.status_code == 404 else None).body
        return Response(body, error.status_code, dict(error.headers or {}), "application/json")

    async def refuse_key(_request: Request, error: Exception) -> Response:
        assert isinstance(error, wire.ApiError)
        return Response(error.body, error.status, media_type="application/json")

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/chat/completions", chat, methods=["POST"]),
            *(
                Route(root + path, chat.shaped(shape), methods=["POST"])
                for path, shape in SHAPES.items()
                for root in ("/v1", "")
            ),
            Route("/v1/models", show_models),
            Route("/models", show_models),
            Route("/stats", show_stats),
        ],
        exception_handlers={HTTPException: refuse, wire.ApiError: refuse_key},
    )
    app.router.redirect_slashes = False  # a redirect would carry prompts and keys elsewhere
    return app


def _json(status: int, value: object) -> Response:
    return Response(wire.encode(value), status, media_type="application/json")
