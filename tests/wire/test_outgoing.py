"""What goes out: headers of the job, also those whose values come from the environment (contract.md §5)."""

import logging
import resource

import pytest

from batchrun.errors import JobError
from batchrun.job import Job
from batchrun.runner.assembly import Assembly
from batchrun.wire import descriptors
from batchrun.wire.outgoing import headers_for, is_reference, read_headers

ENVIRON = {"AZURE_KEY": "k-123", "PROJECT": "p"}


def test_a_value_comes_from_the_environment() -> None:
    """`${NAME}` is that variable's value, anywhere in it; it is a secret, whatever the header is called."""
    read = read_headers({"x-team": "${PROJECT}-a", "api-key": "${AZURE_KEY}", "x-title": "t"}, ENVIRON)
    assert read.sent == {"x-team": "p-a", "api-key": "k-123", "x-title": "t"}
    assert read.secrets == {"p", "k-123"}


@pytest.mark.parametrize(
    ("headers", "has_key"),
    [
        ({"api-key": "${AZURE_KEY}"}, True),
        ({"x-goog-api-key": "literal"}, True),
        ({"Authorization": "Basic abc"}, True),
        ({"x-title": "t"}, False),
        ({}, False),
    ],
)
def test_no_bearer_beside_a_key_of_its_own(headers: dict[str, str], has_key: bool) -> None:
    """A job whose headers bring a key sends no other beside it."""
    assert read_headers(headers, ENVIRON).has_key is has_key


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"api-key": "${MISSING}"}, 'headers = { "api-key" = … }: the variable MISSING is not set'),
        ({"api-key": "a\nb"}, "characters that no HTTP header can carry"),
        ({"api-key": "schlüssel"}, "characters that no HTTP header can carry"),
        ({"api key": "x"}, "characters that no HTTP header can carry"),
    ],
)
def test_what_cannot_be_sent_is_found_before_anything_is(headers: dict[str, str], says: str) -> None:
    """The message names the header, and the variable; never a value."""
    with pytest.raises(JobError) as caught:
        read_headers(headers, ENVIRON)
    assert says in str(caught.value)
    assert "schl" not in str(caught.value)


def test_what_is_no_secret_in_a_header() -> None:
    """A reference names a secret and is none: a run directory keeps it, and can be gone on with."""
    assert [is_reference(value) for value in ("${A}", "Bearer ${A_1}")] == [True, True]
    assert not any(map(is_reference, ("x", "abc-${A}", "${A}${B}", "${}", "sk 1 ${A}")))


def test_the_jobs_headers_win() -> None:
    """However they are spelt; the others are those of the API page."""
    made = headers_for("h", "key", {"authorization": "Other", "Accept": "x"})
    assert (made["authorization"], made["Accept"]) == ("Other", "x")
    assert "Authorization" not in made


def assembly(headers: dict[str, str], **more: str) -> Assembly:
    endpoint = {"base_url": "http://h/v1", "model": "m", "headers": headers, **more}
    job = Job(input={"path": "samples/reviews.jsonl"}, endpoint=endpoint, output={"path": "x"})  # type: ignore[arg-type]
    return Assembly(job, {**ENVIRON, "OPENAI_API_KEY": "sk-default", "NAMED": "sk-named"})


def test_a_key_in_a_header_stands_alone() -> None:
    """The default key is not sent beside it; one that is named is."""
    key = {"api-key": "${AZURE_KEY}"}
    assert assembly(key)._key is None
    assert assembly(key, api_key_env="NAMED")._key == "sk-named"
    assert assembly({"x-title": "t"})._key == "sk-default"


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room", "raised"),
    [
        (1024, 4096, 64, 64, None),
        (64, 4096, 200, 200, 278),
        (64, resource.RLIM_INFINITY, 200, 200, 278),
        (64, 168, 200, 100, 168),
        (40, 40, 200, 1, 40),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 5000, 5000, None),
    ],
)
def test_the_limit_of_open_files(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, room: int, raised: int | None
) -> None:
    """It is raised as far as needed and allowed; where that isn't enough, there is room for less, never for none."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(descriptors, "_open_now", lambda: 10)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limits: told.append(limits))
    assert descriptors.room_for(wanted) == room
    assert told == ([] if raised is None else [(raised, hard)])


def test_less_is_in_flight_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is fitted to what may be open, and the note says what to raise."""
    notes: list[str] = []
    monkeypatch.setattr("batchrun.runner.assembly.room_for", lambda _wanted: 9)
    job = Job(input={"path": "samples/reviews.jsonl"}, endpoint={"base_url": "embedded:", "model": "m"}, output={"path": "x"})  # type: ignore[arg-type]  # fmt: skip
    assert Assembly(job, {}, notes.append).job.limits.concurrency == 9
    assert notes == [
        "the limit of open files (ulimit -n) leaves room for 9 requests in flight, not 64: raise it for more"
    ]


def test_debugging_is_off_by_default() -> None:
    """The traceback of what was unforeseen is for `--debug` alone."""
    assert not logging.getLogger("batchrun.wire.client").isEnabledFor(logging.DEBUG)
