"""What rough servers do, one function a kind: answers that are hardly HTTP, bills, refusals. `test_field.py` says what is right.

Each is of a kind that people have reported of real relays, gateways and servers (endpoint.md §7).
"""

import asyncio
import json
from typing import Any

from .server import USAGE, Asked, Reply, scenario

GATEWAY = (
    "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr><center>nginx</center></body></html>"
)


def chunk(asked: Asked, delta: dict[str, Any], finish: str | None = None, **top: Any) -> dict[str, Any]:
    """One event of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": f"c{asked.number}", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **top}


# Frames: HTTP as it is really written


def body_of(reply: Reply) -> bytes:
    return json.dumps(reply.completion()).encode()


@scenario
async def large_header(asked: Asked, reply: Reply) -> None:
    """A policy or a cookie of 40 KB in one header."""
    reply.answer(headers={"Content-Security-Policy": "default-src 'self'; " * 2000})


@scenario
async def many_headers(asked: Asked, reply: Reply) -> None:
    """Each proxy on the way adds its own."""
    reply.answer(headers={f"X-Trace-{number}": "hop" for number in range(600)})


@scenario
async def length_beside_chunked(asked: Asked, reply: Reply) -> None:
    body = body_of(reply)
    head = f"HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: {len(body)}\nTransfer-Encoding: chunked"
    reply.raw(head, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))


@scenario
async def length_twice(asked: Asked, reply: Reply) -> None:
    body = body_of(reply)
    reply.raw(f"HTTP/1.1 200 OK\nContent-Length: {len(body)}\nContent-Length: {len(body)}", body)


@scenario
async def bytes_behind_the_body(asked: Asked, reply: Reply) -> None:
    """A line end too many behind every answer on a kept connection."""
    reply.answer()
    reply.raw("\r\n")


@scenario
async def rubbish_behind_the_body(asked: Asked, reply: Reply) -> None:
    """Half a sentence behind the body's stated length."""
    body = body_of(reply)
    reply.raw(f"HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: {len(body)}", body + b'{"extra":')


@scenario
async def early_hints(asked: Asked, reply: Reply) -> None:
    """Three provisional answers before the real one."""
    for line in ("100 Continue", "102 Processing", "103 Early Hints\nLink: </style.css>; rel=preload"):
        reply.raw(f"HTTP/1.1 {line}")
    await asyncio.sleep(0.01)
    reply.answer()


@scenario
async def no_reason_phrase(asked: Asked, reply: Reply) -> None:
    body = body_of(reply)
    reply.raw(f"HTTP/1.1 200\ncontent-TYPE:application/json\nCONTENT-length:{len(body)}", body)


@scenario
async def bare_line_ends(asked: Asked, reply: Reply) -> None:
    body = body_of(reply)
    reply.raw(f"HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: {len(body)}", body, line_end="\n")


@scenario
async def old_http(asked: Asked, reply: Reply) -> None:
    """HTTP/1.0: no length, and the end of the connection is the end of the answer."""
    reply.raw("HTTP/1.0 200 OK\nContent-Type: application/json", body_of(reply))
    reply.close()


@scenario
async def header_in_chinese(asked: Asked, reply: Reply) -> None:
    reply.answer(headers={"X-Channel": "上游渠道"})


@scenario
async def trailers(asked: Asked, reply: Reply) -> None:
    body = body_of(reply)
    head = "HTTP/1.1 200 OK\nContent-Type: application/json\nTransfer-Encoding: chunked\nTrailer: x-usage"
    reply.raw(head, b"%x\r\n%s\r\n0\r\nx-usage: 110\r\n\r\n" % (len(body), body))


@scenario
async def chunked_twice(asked: Asked, reply: Reply) -> None:
    """A proxy adds the header that was there already."""
    body = body_of(reply)
    head = "HTTP/1.1 200 OK\nContent-Type: application/json\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked"
    reply.raw(head, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))


@scenario
async def no_length_and_open(asked: Asked, reply: Reply) -> None:
    """A whole JSON answer without a length, on a connection that stays open."""
    reply.raw("HTTP/1.1 200 OK\nContent-Type: application/json", body_of(reply))
    await asyncio.sleep(3600)


@scenario
async def closes_soon_after(asked: Asked, reply: Reply) -> None:
    """Each connection is closed when it was idle for a moment: the next request may meet the end of it, unread."""
    await asyncio.sleep(0.01)
    reply.answer()
    reply.close_when_idle(after_s=0.02)


@scenario
async def redirects(asked: Asked, reply: Reply) -> None:
    """A 307 to another host would carry prompt and key along."""
    reply.send(307, "", {"Location": "http://elsewhere.example/v1/chat/completions"})


@scenario
async def tls_only(asked: Asked, reply: Reply) -> None:
    """nginx's page for HTTP that is spoken to its HTTPS port."""
    page = GATEWAY.format("400 The plain HTTP request was sent to HTTPS port")
    reply.send(400, page, {"Connection": "close"}, "text/html")
    reply.close()


@scenario
async def not_an_api(asked: Asked, reply: Reply) -> None:
    """The web page that stands beside an API."""
    reply.send(200, "<!doctype html><title>Welcome</title><p>It works!", content_type="text/html")


STATUSES = {1: 408, 2: 409, 3: 425, 4: 499, 5: 460, 6: 520, 7: 530, 8: 418, 9: 451, 10: 529}


@scenario
async def odd_statuses(asked: Asked, reply: Reply) -> None:
    """A status that few have heard of, with no body, for one row each, the first time it is asked."""
    if asked.row in STATUSES and asked.times == 1:
        reply.send(STATUSES[asked.row], "", content_type="text/plain")
    else:
        reply.answer()


@scenario
async def too_large_for_the_gateway(asked: Asked, reply: Reply) -> None:
    """413 with a page, for every body of more than 10 KB."""
    if int(asked.headers["content-length"]) > 10_000:
        reply.send(413, GATEWAY.format("413 Request Entity Too Large"), {"Connection": "close"}, "text/html")
        reply.close()
    else:
        reply.answer()


@scenario
async def deployment(asked: Asked, reply: Reply) -> None:
    """An Azure deployment: its path and its query whole, its key in a header of its own, and no bearer."""
    good = asked.path == "/openai/deployments/prod/chat/completions?api-version=2024-10-21"
    if good and asked.headers.get("api-key") == "azure-secret" and "authorization" not in asked.headers:
        reply.answer()
    else:
        reply.error(404, f"Resource not found: {asked.path}", code="404")


# Answers: a 200 that is hardly one

NOTHING = {"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 100}


@scenario
async def empty_at_first(asked: Asked, reply: Reply) -> None:
    """A third of the rows are answered with null at first, and well when asked again."""
    if asked.row % 3 == 0 and asked.times == 1:
        reply.answer(None, usage=NOTHING)
    else:
        reply.answer()


@scenario
async def empty_for_ever(asked: Asked, reply: Reply) -> None:
    """Row 3 is answered with nothing whenever it is asked."""
    reply.answer("" if asked.row == 3 else "fine", usage=NOTHING if asked.row == 3 else None)


@scenario
async def only_reasoning(asked: Asked, reply: Reply) -> None:
    """max_tokens went to the reasoning: nothing is left for an answer, however often it is asked."""
    usage = {"completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 10}}
    reply.answer(None, finish="length", message={"reasoning_content": "hmm " * 10}, usage=usage)


REASONS = ("malformed_function_call", "OTHER", "RECITATION", "content_filter: SAFETY", "error")


@scenario
async def finishes_without_an_answer(asked: Asked, reply: Reply) -> None:
    """A provider's own reason for having said nothing, the first time; well when asked again."""
    if asked.row < len(REASONS) and asked.times == 1:
        reply.answer(None, finish=REASONS[asked.row], usage=NOTHING)
    else:
        reply.answer()


@scenario
async def no_choices(asked: Asked, reply: Reply) -> None:
    """One row in ten has usage and no choice, each time."""
    reply.answer(**({"choices": []} if asked.row % 10 == 0 else {}))


@scenario
async def filtered(asked: Asked, reply: Reply) -> None:
    """One row in five is refused for its content, with an error of Azure's shape."""
    if asked.row % 5 == 0:
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True}}}
        message = "The response was filtered due to the prompt triggering the content management policy."
        reply.error(400, message, type=None, param="prompt", code="content_filter", innererror=inner)
    else:
        reply.answer()


@scenario
async def thinks_aloud(asked: Asked, reply: Reply) -> None:
    """Reasoning at the head of the content, in tags."""
    reply.answer("<think>Is it? It is.</think>yes")


@scenario
async def stream_breaks_with_a_price(asked: Asked, reply: Reply) -> None:
    """Every fourth row's first stream ends in an error after content, with what it took."""
    broken = {"error": {"code": 502, "message": "Provider disconnected"}}
    usage = {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}
    start = chunk(asked, {"role": "assistant", "content": "half "})
    if asked.row % 4 == 0 and asked.times == 1:
        reply.stream(start, chunk(asked, {"content": ""}, "error", usage=usage, **broken))
    else:
        reply.stream(start, chunk(asked, {"content": "and whole"}, "stop", usage=USAGE))


@scenario
async def stream_breaks(asked: Asked, reply: Reply) -> None:
    """The same, and nothing says what the half answer took."""
    start = chunk(asked, {"role": "assistant", "content": "half "})
    if asked.row % 4 == 0 and asked.times == 1:
        reply.stream(start, {"error": {"code": 502, "message": "Provider disconnected"}})
    else:
        reply.stream(start, chunk(asked, {"content": "and whole"}, "stop", usage=USAGE))


@scenario
async def stream_with_strange_events(asked: Asked, reply: Reply) -> None:
    """Azure's stream: filter results before, between and behind, without choices, ids or deltas."""
    safe = {"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
    reply.stream(
        {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [safe]},
        chunk(asked, {"role": "assistant", "content": "fine"}),
        {
            "id": "",
            "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"start_offset": 1}, **safe}],
        },
        chunk(asked, {}, "stop"),
        {
            "id": "",
            "model": "",
            "choices": [],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        },
    )


# Money


@scenario
async def another_name(asked: Asked, reply: Reply) -> None:
    """A relay's name for a model is asked, and the model behind it answers by its own."""
    reply.answer(model="gpt-4o")


@scenario
async def reasoning_counted_apart(asked: Asked, reply: Reply) -> None:
    """The total is more than prompt and completion: what is between them was generated, and is billed."""
    details = {"completion_tokens_details": {"reasoning_tokens": 290}}
    reply.answer(usage={"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 400, **details})


@scenario
async def cache_in_another_spelling(asked: Asked, reply: Reply) -> None:
    """Which part of a prompt was cached, as the relay of a third provider says it."""
    reply.answer(
        usage={"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010, "prompt_cache_hit_tokens": 900}
    )


@scenario
async def states_its_price(asked: Asked, reply: Reply) -> None:
    """What the answer cost, as the endpoint says, and the tier that it was served at."""
    reply.answer(usage={"cost": 0.0025}, service_tier="flex")


@scenario
async def gateway_gives_up(asked: Asked, reply: Reply) -> None:
    """Every fifth row's first attempt ends in the gateway's own timeout; the model behind it went on, and is paid."""
    if asked.row % 5 == 0 and asked.times == 1:
        reply.send((504, 524)[asked.row // 5 % 2], GATEWAY.format("Gateway Time-out"), content_type="text/html")
    else:
        reply.answer()


# Refusals

UNSUPPORTED = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)


@scenario
async def parameter_refused(asked: Asked, reply: Reply) -> None:
    reply.error(400, UNSUPPORTED, param="max_tokens", code="unsupported_parameter")


@scenario
async def refused_in_words(asked: Asked, reply: Reply) -> None:
    """Every row meets the same refusal, with a number in it, and nothing says which parameter it is."""
    reply.send(422, {"detail": f"Server is pinned to another model (request {asked.number})"})


@scenario
async def refused_by_a_path_in_the_body(asked: Asked, reply: Reply) -> None:
    """FastAPI's list of what is wrong, which names a place in the body as if it were the row's fault."""
    wrong = {
        "type": "less_than_equal",
        "loc": ["body", "temperature"],
        "msg": "Input should be at most 1",
        "input": 1.7,
    }
    reply.send(422, {"detail": [wrong]})


@scenario
async def the_same_500(asked: Asked, reply: Reply) -> None:
    """A deterministic fault of the server, told as its own each time."""
    reply.error(
        500, f"Engine core failed: unsupported sampling (id req-{asked.number:08x})", type="InternalServerError"
    )


@scenario
async def firewall(asked: Asked, reply: Reply) -> None:
    """A page of a firewall that dislikes some rows' words."""
    if "DROP TABLE" in json.dumps(asked.body):
        reply.send(
            403, "<html><title>Attention Required!</title><h1>Sorry, you have been blocked</h1>", None, "text/html"
        )
    else:
        await asyncio.sleep(0.01)
        reply.answer()


@scenario
async def challenge(asked: Asked, reply: Reply) -> None:
    """A page that lets browsers through alone."""
    page = '<!DOCTYPE html><html lang="en-US"><head><title>Just a moment...</title></head><body>Enable JavaScript and cookies'
    reply.send(403, page, {"Server": "cloudflare", "cf-mitigated": "challenge"}, "text/html; charset=UTF-8")


@scenario
async def chat_alone(asked: Asked, reply: Reply) -> None:
    """A server that chats and has no embeddings."""
    if asked.path.endswith("/chat/completions"):
        reply.answer()
    else:
        reply.send(404, {"detail": "Not Found"})


@scenario
async def slower_than_allowed(asked: Asked, reply: Reply) -> None:
    """Every answer takes longer than the job allows, and is paid all the same."""
    await asyncio.sleep(30)
    reply.answer()


@scenario
async def one_at_a_time_or_broken(asked: Asked, reply: Reply) -> None:
    """A server that breaks off what it was answering when another request comes."""
    asked.memory["last"] = asked.number
    await asyncio.sleep(0.02)
    if asked.memory["last"] != asked.number:
        reply.reset()
    else:
        reply.answer()


@scenario
async def day_is_over(asked: Asked, reply: Reply) -> None:
    """After ten answers, a refusal until tomorrow."""
    if asked.number <= 10:
        reply.answer()
    else:
        message = "Requests have exceeded the token rate limit of your pricing tier. Please retry after 86400 seconds."
        reply.error(429, message, headers={"Retry-After": "86400"}, code="429")
