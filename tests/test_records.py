"""What flows through the house can be handed to another process: records and errors make the round trip of a pickle."""

import pickle

import pytest

from batchrun.errors import EndpointError, JobError, Kind, LedgerError
from batchrun.job import Job
from batchrun.records import Answer, Request, Result, Row, Shard, ShardInfo, Usage, Variant

USAGE = Usage(10, 5, 15, cached=2, reasoning=1)
RECORDS = [
    Row(0, "a", {"text": "x"}, "in.jsonl:1"),
    Variant("v", {"temperature": 0}),
    Request(0, "a", "default", 0, b"{}", "h", "m", stream=True),
    Answer("hi", USAGE, finish_reason="stop", embeddings=[b"12345678"], endpoint="one"),
    Result(0, "a", "default", 0, "h", "ok", completion="hi"),
    ShardInfo(0, 0, 2, 0, 0, 1, "d"),
    Shard(ShardInfo(0, 0, 2, 0, 0, 1, "d"), [Row(0, "a", {}, "in.jsonl:1")]),
    Job(endpoint={"base_url": "embedded:", "model": "m"}),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_can_be_pickled(record: object) -> None:
    """A record that was pickled is the same record."""
    assert pickle.loads(pickle.dumps(record)) == record


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_endpoint_error_can_be_pickled_with_all_it_says(protocol: int) -> None:
    """A fault of another process's attempt says what it said there."""
    error = EndpointError(
        Kind.RATE_LIMITED,
        "HTTP 429: slow down",
        status=429,
        retry_after_s=3.5,
        unconfirmed=True,
        body="{}",
        param="x",
        should_retry=False,
        usage=USAGE,
    )
    error.began_at, error.endpoint = 17.0, "one"
    back = pickle.loads(pickle.dumps(error, protocol))
    assert vars(back) == vars(error)
    assert (str(back), back.args) == (str(error), error.args)


@pytest.mark.parametrize("kind", [JobError, LedgerError])
def test_the_other_errors_can_be_pickled(kind: type[Exception]) -> None:
    """Message and exit code come through."""
    back = pickle.loads(pickle.dumps(kind("in.jsonl:3: wrong")))
    assert (type(back), str(back)) == (kind, "in.jsonl:3: wrong")
