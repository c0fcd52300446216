"""HTTP/1.1 as relays, gateways and load balancers really write it: heads and bodies, whatever the cuts."""

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.wire.http1.errors import Cut, Unreachable
from batchrun.wire.http1.framing import HEAD_CAP, body_of, read_head, refuse_other_protocols, split_head

BODY = b'{"choices": []}'
CHUNKS = b"5\r\n%b\r\n%x; ext=1\r\n%b\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:])
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def answered(data: bytes, size: int = 1 << 20, *, ended: bool = False) -> tuple[Any, bytes, Any]:
    """Head, body and framing of an answer that comes in pieces of `size` bytes, and ends with its connection or not."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    buffer, seen, head, body, content = b"", 0, None, None, b""
    for piece in pieces:
        if body is not None:
            content += body.feed(piece)
            continue
        buffer += piece
        found = split_head(buffer, seen)
        seen = len(buffer)
        if found is not None:
            head = read_head(found[0])
            body = body_of(head)
            content += body.feed(found[1])
    assert head is not None
    assert body is not None
    if ended:
        body.end()
    return head, content, body


def head(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK\r\n") -> bytes:
    return first + b"".join(lines) + b"\r\n"


WHOLE: dict[str, tuple[bytes, bool]] = {
    "a length": (head(LENGTH) + BODY, True),
    "a length twice": (head(LENGTH, LENGTH) + BODY, True),
    "a length twice in one line": (head(b"Content-Length: 15, 15\r\n") + BODY, True),
    "chunks": (head(CHUNKED) + CHUNKS + b"0\r\n\r\n", True),
    "chunked twice": (head(CHUNKED, CHUNKED) + CHUNKS + b"0\r\n\r\n", True),
    "a length beside chunks": (head(LENGTH, CHUNKED) + CHUNKS + b"0\r\n\r\n", False),
    "a wrong length beside chunks": (head(b"Content-Length: 3\r\n", CHUNKED) + CHUNKS + b"0\r\n\r\n", False),
    "trailers": (head(CHUNKED) + CHUNKS + b"0\r\nx-usage: 15\r\nb: c\r\n\r\n", True),
    "chunks with bare line feeds": (head(CHUNKED) + (CHUNKS + b"0\r\n\r\n").replace(b"\r\n", b"\n"), True),
    "sizes with blanks": (head(CHUNKED) + b"f  \r\n%b\r\n 000 \r\n\r\n" % BODY, True),
    "bytes behind the body": (head(LENGTH) + BODY + b"garbage", False),
    "bytes behind the chunks": (head(CHUNKED) + CHUNKS + b"0\r\n\r\nHTTP/1.1 200 OK\r\n", False),
    "a line end behind the body": (head(LENGTH) + BODY + b"\r\n", True),
    "no reason": (head(LENGTH, first=b"HTTP/1.1 200\r\n") + BODY, True),
    "line feeds alone": (head(LENGTH).replace(b"\r\n", b"\n") + BODY, True),
    "Chinese in a header": (head("X-Channel: 上游渠道\r\n".encode(), LENGTH) + BODY, True),
    "a blank before a colon": (head(b"X Bad Name : 1\r\n", b"Content-Length : 15\r\n") + BODY, True),
    "a line without a colon": (head(b"nonsense\r\n", LENGTH) + BODY, True),
    "a folded line": (head(b"X-A: b\r\n  c\r\n", LENGTH) + BODY, True),
    "a large header": (head(b"X-Policy: %b\r\n" % (b"x" * 65536), LENGTH) + BODY, True),
    "a thousand headers": (head(*[b"X-%d: y\r\n" % n for n in range(1000)], LENGTH) + BODY, True),
    "close": (head(b"Connection: close\r\n", LENGTH) + BODY, True),
}
UNTIL_CLOSED: dict[str, bytes] = {
    "no length": head() + BODY,
    "HTTP/1.0": head(first=b"HTTP/1.0 200 OK\r\n") + BODY,
    "a length that is none": head(b"Content-Length: many\r\n") + BODY,
    "identity": head(b"Transfer-Encoding: identity\r\n") + BODY,
}


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize(("sent", "may_be_kept"), WHOLE.values(), ids=WHOLE)
def test_whole_answers(sent: bytes, may_be_kept: bool, size: int) -> None:
    """The body is the same at any cut, and whole; what is doubtful is read, and its connection not used again."""
    if len(sent) > 1 << 14 and size < 7:
        size = 97
    _, content, body = answered(sent, size)
    assert (content, body.done) == (BODY, True)
    assert body.extra is not may_be_kept


@pytest.mark.parametrize("sent", UNTIL_CLOSED.values(), ids=UNTIL_CLOSED)
def test_bodies_that_end_with_their_connection(sent: bytes) -> None:
    """Where nothing says how long it is, a body is whole when its connection ends."""
    _, content, body = answered(sent, 7, ended=True)
    assert (content, body.done, body.extra) == (BODY, True, True)


@pytest.mark.parametrize(
    "sent", [head(LENGTH) + BODY[:-1], head(CHUNKED) + CHUNKS, head(CHUNKED) + CHUNKS[:-4], head(CHUNKED)]
)
def test_a_body_that_is_cut_is_not_whole(sent: bytes) -> None:
    """An end before the stated one is a lost connection."""
    with pytest.raises(Cut):
        answered(sent, ended=True)


def test_the_last_line_of_chunks_may_be_missing() -> None:
    """Some write the last chunk and close without the empty line behind it: all of the body is there."""
    assert answered(head(CHUNKED) + CHUNKS + b"0\r\n", ended=True)[1] == BODY


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_that_have_no_body(status: bytes) -> None:
    """Their status says that nothing follows, whatever the headers say."""
    _, content, body = answered(head(LENGTH, first=b"HTTP/1.1 %b\r\n" % status))
    assert (content, body.done) == (b"", True)


def test_the_head_as_it_came() -> None:
    """Status, reason and headers; when the connection is kept, and for how long."""
    found = read_head(b"HTTP/1.1 429 Slow  Down\r\nKeep-Alive: max=9, Timeout=5\r\nA:b\r\nA: c \r\n d")
    assert found[:3] == (429, b"Slow  Down", [(b"Keep-Alive", b"max=9, Timeout=5"), (b"A", b"b"), (b"A", b"c d")])
    assert (found.keeps, found.keeps_s) == (True, 5.0)
    for first, connection, keeps in (
        (b"HTTP/1.1 200", b"Close", False),
        (b"HTTP/1.0 200", b"x", False),
        (b"HTTP/1.0 200", b"Keep-Alive", True),
    ):
        assert read_head(first + b"\r\nconnection: " + connection).keeps is keeps


@pytest.mark.parametrize(
    "sent",
    [
        head(LENGTH, b"Content-Length: 16\r\n") + BODY,
        head(CHUNKED) + b"xyz\r\n",
        head(CHUNKED) + b"-5\r\n",
        head(CHUNKED) + b"2\r\nabc\r\n",
        head(CHUNKED) + b"5" * (1 << 15),
        head(first=b"HTTP/1.1 OK\r\n"),
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * (HEAD_CAP + 1),
    ],
)
def test_what_cannot_be_read_safely(sent: bytes) -> None:
    """Two different lengths, a chunk without a size, a head without an end: nobody can say where the answer ends."""
    with pytest.raises(httpx.RemoteProtocolError):
        answered(sent)


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "the port speaks TLS: write https://"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "speaks HTTP/2 alone"),
        (b"\x00\x00\x08\x07\x00\x00\x00\x00\x00", "speaks HTTP/2 alone"),
    ],
)
def test_other_protocols_are_named(sent: bytes, says: str) -> None:
    """What speaks TLS or HTTP/2 is told by its first bytes."""
    with pytest.raises(Unreachable, match=says):
        refuse_other_protocols(sent)


def test_what_speaks_nothing_known_is_shown() -> None:
    """The first bytes stand in the message. A beginning of HTTP is waited for."""
    with pytest.raises(httpx.RemoteProtocolError, match="SSH-2"):
        refuse_other_protocols(b"SSH-2.0-OpenSSH_9.2\r\n")
    refuse_other_protocols(b"HT")


@given(st.binary(max_size=400), st.sampled_from([CHUNKED, LENGTH, b""]), st.integers(1, 50))
def test_any_bytes_are_read_or_refused(data: bytes, framing: bytes, size: int) -> None:
    """Whatever follows a head is a body or a known error, the same at every cut."""

    def outcome(size: int) -> Any:
        try:
            _, content, body = answered(head(framing) + data, size, ended=True)
        except (httpx.RemoteProtocolError, Cut) as error:
            return type(error)
        return content, body.done

    assert outcome(size) == outcome(1 << 20)
