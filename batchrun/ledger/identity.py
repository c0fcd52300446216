"""What a run's private state holds for, in one record: the same files, the same requests, the same columns.

Everything that decides whether something of an earlier call may be used again is composed here and nowhere else.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from batchrun.job import Job
from batchrun.records import ShardInfo

_SCAN = 5
"""What a scan looks for. An inventory made by one that looked for less is made again."""


class Shards(msgspec.Struct, frozen=True):
    """The shards of a run, and the requests and columns that their parts and journals hold for."""

    requests: str
    columns: str
    shards: tuple[ShardInfo, ...]


class Identity(msgspec.Struct, frozen=True):
    """Fingerprints: `files` of the input's files and of all that decides which of their rows are taken, `requests` of all
    that shapes a request or its place, `columns` of the layout of results, empty before the input was scanned.

    The empty one holds for nothing: all that stands beside it is found again by what it answers.
    """

    files: str = ""
    requests: str = ""
    columns: str = ""

    def scans_like(self, other: "Identity") -> bool:
        """Whether a scan for either finds the same."""
        return (self.files, self.requests) == (other.files, other.requests)

    def shards(self, shards: tuple[ShardInfo, ...]) -> Shards:
        return Shards(self.requests, self.columns, shards)


def identity(job: Job, files: Sequence[Any], columns: str = "") -> Identity:
    """The identity of a job over `files` (records of their paths, sizes and stamps); `columns` is its layout's
    fingerprint.
    """
    params = {key: value for key, value in job.params.items() if key not in ("stream", "stream_options")}
    prompt = msgspec.structs.replace(job.prompt, same=False)
    requests = _fingerprint(params, prompt, job.sweep, job.variant, job.samples, job.endpoint.model, job.input.id)
    chosen = (job.input.limit, job.input.where, job.input.sample, job.input.seed, job.input.on_bad_row)
    return Identity(_fingerprint(_SCAN, files, *chosen), requests, columns)


def _fingerprint(*kept: Any) -> str:
    encoded = msgspec.json.encode(kept, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()
