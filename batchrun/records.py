"""The nouns that flow through the house: Row, Variant, Request, Usage, Answer, Result, and the shard they stand in.

Records only: no I/O, no defaults of a job (those are job.py's), nothing that knows how a record is made or stored.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from batchrun.money import Cost

CHAT = "/chat/completions"
COMPLETIONS = "/completions"
EMBEDDINGS = "/embeddings"
RESPONSES = "/responses"
PATHS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)
"""What can be asked of an endpoint, below its base URL."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One record of the input. `data` is the record as it was, `error` why it can't be used, `where` its file:line.

    `names` are its columns where `data` holds only those that are read, None where it holds them all; `filled` says that
    its nulls may stand only because a schema gives every record every field.
    """

    index: int
    id: str
    data: dict[str, Any]
    where: str
    error: str | None = None
    names: tuple[str, ...] | None = None
    filled: bool = False


class Variant(msgspec.Struct, frozen=True):
    """One cell of a sweep: what differs from the job. `prompt` holds replaced system, user or messages templates."""

    name: str = "default"
    params: dict[str, Any] = {}
    prompt: dict[str, Any] = {}


class Request(msgspec.Struct, frozen=True, gc=False):
    """One (row, variant, sample), ready to send.

    `body` is canonical JSON (UTF-8, sorted keys) without `stream` and `stream_options`: those change how an answer
    travels, not what it is, so `hash`, the identity, leaves them out. `path` is one of PATHS. `shard` is the number of the
    shard that the row stands in.
    """

    row: int
    id: str
    variant: str
    sample: int
    body: bytes
    hash: str
    model: str
    stream: bool = False
    path: str = CHAT
    shard: int = 0

    @property
    def key(self) -> tuple[int, str, int]:
        return (self.row, self.variant, self.sample)


class TokenDetails(msgspec.Struct, frozen=True, gc=False):
    """Tokens that have a price of their own, as parts of a Usage: written to a cache (`cache_write`, of them
    `cache_write_1h` for an hour), sound in the prompt and in the answer, and what tools put into the prompt.
    """

    cache_write: int = 0
    cache_write_1h: int = 0
    audio_prompt: int = 0
    audio_completion: int = 0
    tool: int = 0


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts of one answer, and what else its usage states.

    `cached` is part of `prompt`. `completion`, `reasoning` and `total` are as reported: some endpoints count reasoning
    apart, and `total` is then more than `prompt` and `completion`. `endpoint_cost_usd` is what the endpoint itself says
    that the answer cost, `service_tier` the tier that it was served at.
    """

    prompt: int
    completion: int
    total: int
    cached: int | None = None
    reasoning: int | None = None
    source: str = "reported"
    details: TokenDetails | None = None
    service_tier: str | None = None
    endpoint_cost_usd: float | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A whole answer of the endpoint, as it came. `completion` is the text of choice 0; times are in seconds.

    `embeddings` are the vectors of an embeddings request, one an input, each packed as `array("d")`. `endpoint` is the name
    of the endpoint that gave it. `has_media` says that there was sound or an image in it, which only `raw` keeps. `cost` is
    what the answer is known to have cost, None where it has no price; `price_source` is where its price is from, or why it
    has none.
    """

    completion: str | None
    usage: Usage
    finish_reason: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    tool_calls: str | None = None
    model: str | None = None
    response_id: str | None = None
    system_fingerprint: str | None = None
    created: int | None = None
    status: int = 200
    raw: str | None = None
    latency_s: float | None = None
    first_token_s: float | None = None
    embeddings: list[bytes] | None = None
    endpoint: str | None = None
    has_media: bool = False
    cost: Cost | None = None
    price_source: str | None = None


class StatedLimit(msgspec.Struct, frozen=True, gc=False):
    """One limit as an endpoint's headers state it. `unit` is requests, tokens, input_tokens or output_tokens; `scope` is
    whose limit it is, where an endpoint has several of one unit.

    `remaining` units are left, `reset_s` seconds pass until all of it is there again; `window_s` is what the limit is
    counted over, where its name says so. None is what was not said.
    """

    unit: str
    limit: float
    remaining: float | None = None
    reset_s: float | None = None
    window_s: float | None = None
    scope: str = ""


class Result(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a request ended in: the journal's record, and all that results.parquet says of it before it is judged.

    `started_at` is microseconds since the epoch, UTC. `request_hash` is the identity of the request that was asked,
    `embeddings` are packed as an Answer's. `cost` and `input_cost`, its prompts' share, are in pico-dollars, of all attempts
    that are known to be billed: None where no price is known. `price_source` is where the price is from, or why there is
    none. They are decided once, when the answer comes.
    """

    row: int
    id: str
    variant: str
    sample: int
    request_hash: str
    status: str
    completion: str | None = None
    finish_reason: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    tool_calls: str | None = None
    model: str | None = None
    endpoint: str | None = None
    response_id: str | None = None
    system_fingerprint: str | None = None
    created: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    usage_source: str | None = None
    attempts: int = 0
    unconfirmed_attempts: int = 0
    latency_s: float | None = None
    first_token_s: float | None = None
    started_at: int | None = None
    error_kind: str | None = None
    error_status: int | None = None
    error_message: str | None = None
    response: str | None = None
    asked_model: str | None = None
    embeddings: list[bytes] | None = None
    service_tier: str | None = None
    endpoint_cost_usd: float | None = None
    cost: int | None = None
    input_cost: int | None = None
    price_source: str | None = None

    @property
    def key(self) -> tuple[int, str, int]:
        return (self.row, self.variant, self.sample)

    @property
    def is_empty(self) -> bool:
        """Whether nothing that a person asked for is in it."""
        return not ((self.completion or "").strip() or self.tool_calls or self.refusal or self.embeddings)

    def is_retried(self, kinds: frozenset[str] | None) -> bool:
        """Whether its request is asked again for --retry-failed: where it failed with one of `kinds`, or at all where there
        are none; never for None. A row that can't become a request is no request to ask again.
        """
        if kinds is None or self.status == "ok" or not self.request_hash:
            return False
        return not kinds or self.error_kind in kinds


class ShardInfo(msgspec.Struct, frozen=True):
    """A slice of consecutive input rows. `file` and `offset` say where its first row starts: a byte offset in a JSONL
    file (before decompression where there is none, after it otherwise), a row number in a Parquet file.

    `id_marks` is how often the number of a row without an id is marked, 0 where no row of the input has one; `repeated` are
    the rows whose custom_id stands in an earlier row too. `skipped` rows before its first are not asked since `where` does
    not hold for them; `picked` are its rows where they are a sample's.
    """

    number: int
    first_row: int
    rows: int
    file: int
    offset: int
    line: int
    digest: str
    id_marks: int = 0
    repeated: tuple[int, ...] = ()
    skipped: int = 0
    picked: tuple[int, ...] = ()


class Shard(msgspec.Struct, frozen=True):
    """A shard in memory. `table` is the arrow table of its input columns where the source has one, or what keeps it until it
    is needed; then `rows` may have been let go.
    """

    info: ShardInfo
    rows: list[Row]
    table: Any = None


Complete = Callable[[Request], Awaitable[Answer]]
"""The one verb of the house. The HTTP client is one; pacing and retrying each wrap one."""
