"""The numbers by which pacing judges an endpoint, each in one place (endpoint.md §4–§5). Durations are in seconds."""

import msgspec

from batchrun.errors import Kind

FREE_KINDS = frozenset({Kind.CONNECT, Kind.SERVER})
"""Faults of an endpoint that is not well, which cost nothing."""
SILENT_KINDS = FREE_KINDS | {Kind.TIMEOUT, Kind.DISCONNECTED, Kind.MALFORMED}
"""And those of one that may bill what it does not deliver."""

HARDLY_S = 0.25
"""A stated wait that is shorter says nothing: it takes no brake away."""


class Policy(msgspec.Struct, frozen=True):
    """When the gate closes, how it probes, and for how long.

    `max_attempts` are the job's: an endpoint that never answered is probed no more often.
    """

    max_attempts: int = 8

    first_probe_s: float = 2.0
    longest_probe_wait_s: float = 60.0
    """Between two probes that may each be billed, or that are refused for good."""
    longest_free_wait_s: float = 5.0
    """Between two probes whose fault costs nothing."""
    longest_unknown_wait_s: float = 20.0
    """The same, while nobody was ever answered."""
    scouts: int = 3
    """So many rows far ahead are asked at first in one closure, to tell rows that nobody would answer from an outage."""

    most_models: int = 100
    """Of so many models one row each is asked before a run is stopped because none is there."""

    connect_faults: int = 20
    """So many in a row with nothing between: an endpoint that answered can't be reached any more. One that never did is
    given up after `outage_rows`.
    """
    lasting_connect_faults: int = 5
    lasting_connect_s: float = 10.0
    """Or so few, that span so long."""
    refused_rows: int = 5
    """So many rows refused in the same words, and none answered yet: it is the job's fault, not the rows'."""
    outage_rows: int = 8
    """So many rows, each asked for the first time since anybody was answered, and none of them answered: an outage."""
    restart_s: float = 60.0
    """A server that died of one request answers the next one so soon."""
    lasting_s: float = 10.0
    """An outage that has lasted so much longer than an answer takes is waited for."""

    most_unknown_probes: int = 6
    """And so often at most, where each probe costs a request."""
    never_answered_s: float = 60.0
    """For how long an endpoint is probed that never answered anybody."""
    loading_s: float = 300.0
    """The same where it says that it is not ready yet (HTTP 503): a model may be loading."""
    least_patience_s: float = 120.0
    last_patience_s: float = 30.0
    """The least that the last rows of a job are asked for, while nobody is answered."""
    least_connect_patience_s: float = 30.0
    most_patience_s: float = 3600.0
    """What was answering and can't be reached, or refuses everybody, is waited for as long as it had been answering."""
    silent_s: float = 7200.0
    """An endpoint that has answered nobody for so long is given up, whatever it says."""


def clamped(seconds: float, least: float, most: float) -> float:
    return max(least, min(seconds, most))
