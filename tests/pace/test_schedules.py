"""Any schedule of outages shorter than two hours, any number of rows and places: no good row fails (endpoint.md §4).

`pytest -m soak` tries ten thousand of them; a failing one is named by its seed.
"""

import random
from typing import NamedTuple

import anyio
import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.pace.policy import SILENT_KINDS
from batchrun.records import Answer, Request
from batchrun.stop import Stopped
from virtual import VirtualLoop

from .run import Run, answer_of

KINDS = sorted(SILENT_KINDS)
LONGEST_S = 7100.0
FEW, MANY, PIECE = 60, 10_000, 500


class Outage(NamedTuple):
    begins: float
    ends: float
    kind: Kind


class Endpoint:
    """One that is out now and then. Half of them break what is on the wire when an outage begins, half let it finish; half
    answer always in the same time.
    """

    def __init__(self, draws: random.Random) -> None:
        self.rows = int(10 ** draws.uniform(0, 2.7))
        self.places = int(10 ** draws.uniform(0, 1.9))
        self.answer_s = 10 ** draws.uniform(-1, 1.3)
        self.varies = draws.random() < 0.5
        self.breaks = draws.random() < 0.5
        self.outages: list[Outage] = []
        at = 0.0
        for _ in range(draws.randint(1, 5)):
            at += 10 ** draws.uniform(-1, 3)
            seconds = min(10 ** draws.uniform(0, 3.85), LONGEST_S)
            self.outages.append(Outage(at, at + seconds, draws.choice(KINDS)))
            at += seconds
        self._draws = draws

    async def answer(self, run: Run) -> Answer:
        """One attempt, as `run` makes it now."""
        at = run.at
        out = next((one for one in self.outages if one.begins <= at < one.ends), None)
        if out is not None:
            await anyio.sleep(60.0 if out.kind is Kind.TIMEOUT else 0.1)
            raise EndpointError(out.kind, f"{out.kind}!")
        takes_s = self.answer_s * (self._draws.uniform(0.3, 2.0) if self.varies else 1.0)
        breaking = next((one for one in self.outages if at < one.begins < at + takes_s), None)
        if self.breaks and breaking is not None:
            await anyio.sleep(breaking.begins - at + (60.0 if breaking.kind is Kind.TIMEOUT else 0.0))
            raise EndpointError(breaking.kind, "broken off")
        await anyio.sleep(takes_s)
        return answer_of(takes_s)


def told(seed: int) -> tuple[Endpoint, Run]:
    """The whole story of one schedule."""
    endpoint = Endpoint(random.Random(seed))
    before = random.getstate()
    random.seed(seed)

    async def story() -> Run:
        run = Run(lambda _row, _at: None, places=endpoint.places, seed=seed)

        async def attempt(_request: Request) -> Answer:
            return await endpoint.answer(run)

        run.stack(attempt)
        await run(range(endpoint.rows))
        return run

    try:
        return endpoint, anyio.run(story, backend_options={"loop_factory": VirtualLoop})
    finally:
        random.setstate(before)


def check(seeds: range) -> None:
    for seed in seeds:
        endpoint, run = told(seed)
        failed = {row for row, end in run.ended.items() if isinstance(end, Kind)}
        assert not failed, f"seed {seed}: {endpoint.rows} rows, {endpoint.places} places, {endpoint.outages}: {failed}"
        assert run.sign.stop is not None or len(run.rows(Answer)) == endpoint.rows, f"seed {seed}"
        assert run.sign.stop is not None or not run.rows(Stopped), f"seed {seed}"


def test_no_good_row_fails() -> None:
    """A good row is answered, or the run was stopped and the row stays to be done: it never fails."""
    check(range(FEW))


@pytest.mark.soak
@pytest.mark.parametrize("begin", range(FEW, MANY, PIECE))
def test_no_good_row_fails_in_ten_thousand_schedules(begin: int) -> None:
    """The same, for many more."""
    check(range(begin, min(begin + PIECE, MANY)))
