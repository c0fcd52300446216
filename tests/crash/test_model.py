"""Any history of runs, kills and changes, against a model of the rules (contract.md §7, promises 1 to 3).

The model counts by what a request asks, not by where it stands. It knows nothing of shards, journals or parts; what was
served it takes from the endpoint's own ledger. A kill may lose what was in flight: from then on its counts are bounds.
"""

import contextlib
import decimal
import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from soak import Soak

from batchrun.embedded import Behaviour, Fault
from served import Endpoints, patient_client

Ask = tuple[int, str]
"""What a request asks: the number in its question, and its temperature as JSON, empty where none is given."""

NUMBERS = range(4)
EDITS = ("insert", "append", "remove", "change", "duplicate", "move", "reverse")
TEMPERATURES = ("", "0")
PROBES = 3
REFUSED = (1, 2)  # the numbers that one of the two endpoints refuses
ROWS = 7
STREAMED = ',"stream":true,"stream_options":{"include_usage":true}}'
SUMS = ("attempts", "unconfirmed_attempts", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd")


def question(number: int) -> str:
    return f"What is {number} + 1?"


def bodies(ask: Ask) -> Iterator[str]:
    """The bodies that ask this on the wire: whether the answer is streamed is no part of what is asked."""
    number, temperature = ask
    shown = f',"temperature":{temperature}' if temperature else ""
    body = f'{{"messages":[{{"content":"{question(number)}","role":"user"}}],"model":"m"{shown}}}'
    yield from (body, body[:-1] + STREAMED)


ASKS = {
    hashlib.sha256(body.encode()).hexdigest()[:16]: ask
    for ask in itertools.product(NUMBERS, TEMPERATURES)
    for body in bodies(ask)
}


class Endpoint:
    """A running endpoint, and what its ledger holds that was not read yet."""

    def __init__(self, url: str, ledger: Path) -> None:
        self.url = url
        self._ledger = ledger
        self._read = 0
        self._client = patient_client()

    def served(self) -> Counter[Ask]:
        """What was asked since the last time, once all that a dead client had sent is read."""
        deadline = time.monotonic() + 10
        while True:
            shown = self._client.get(self.url.removesuffix("/v1") + "/stats").json()
            if shown["in_flight"] == 0 and shown["open_connections"] <= 1:
                break
            assert time.monotonic() < deadline, shown
            time.sleep(0.002)
        lines = self._ledger.read_text().splitlines()
        new, self._read = [json.loads(line) for line in lines[self._read :]], len(lines)
        return Counter(ASKS[one["sha"]] for one in new if one["event"] == "received")

    def close(self) -> None:
        self._client.close()


class Model:
    """What the rules let one expect of the next run. All counts are by what is asked.

    `ok` are the answers given since the last --fresh, of which `losable` may have been in flight at a kill, not more
    than `budget` in all; `cut` those of them that the run just before, which needed `cut_in`, may have lost. `failed`
    and `standing` are the most and the least failures in the state that a run finds.
    """

    def __init__(self) -> None:
        self.ok: Counter[Ask] = Counter()
        self.failed: Counter[Ask] = Counter()
        self.standing: Counter[Ask] = Counter()
        self.losable: Counter[Ask] = Counter()
        self.budget = 0
        self.cut: Counter[Ask] = Counter()
        self.cut_in: Counter[Ask] = Counter()
        self.most_cut = 0
        self.served: Counter[Ask] = Counter()

    def excess(self, need: Counter[Ask], served: Counter[Ask], *, whole: bool) -> Counter[Ask]:
        """What was asked although it had been answered: it must have been in flight at a kill. Asserts the bounds."""
        for ask in need | served:
            wanted = need[ask] - self.ok[ask]
            least = wanted - self.failed[ask]
            assert not whole or served[ask] >= least, f"{ask}: asked {served[ask]} times, of at least {least}"
        over = served - (need - self.ok - self.standing)
        assert over <= self.losable, f"asked again: {over}, of which may be lost: {self.losable}"
        assert over.total() <= self.budget, f"asked again: {over}, of which {self.budget} may be lost"
        return over

    def killed(self, need: Counter[Ask], served: Counter[Ask], refused: Counter[Ask], flag: str, most: int) -> None:
        """A run with at most so many requests in flight was killed at some moment: it did some of its work, or all."""
        if flag == "--fresh":  # nobody knows whether the old answers are set aside already
            self.losable += self.ok + self.failed
            self.budget = self.losable.total()
        self.standing = Counter() if flag else self.standing & (need - self.ok)
        self.excess(need, served, whole=False)
        self.ok += served - refused
        self.failed += refused
        self.standing += refused
        in_flight = Counter({ask: min(most, times) for ask, times in served.items()})
        self.cut = in_flight + (self.cut if need == self.cut_in else Counter())
        self.cut_in = need
        self.losable += in_flight
        self.budget += min(most, served.total())
        self.most_cut += most
        self.served += served

    def ended(self, need: Counter[Ask], served: Counter[Ask], refused: Counter[Ask], flag: str, results: Any) -> None:
        """A run came to its end, with these results: all that was asked, and nothing that need not be."""
        if flag == "--fresh":
            self.__init__()  # type: ignore[misc]
        if flag:
            self.failed = self.standing = Counter()
        over = self.excess(need, served, whole=True)
        self.served += served
        ok, failed, sure, unconfirmed, confessed = (Counter[Ask]() for _ in range(5))
        for ask, result in results:
            (ok if result["status"] == "ok" else failed)[ask] += 1
            sure[ask] += result["attempts"] - result["unconfirmed_attempts"]
            unconfirmed[ask] += result["unconfirmed_attempts"]
            # of a refusal the journal may know that the attempt failed, and not yet the result
            confessed[ask] += result["attempts"] - 1 if ask[0] in REFUSED else result["unconfirmed_attempts"]
        assert failed <= self.failed + refused, "a failure came back that was neither in the last state nor new"
        assert sure <= self.served, f"{sure} attempts are counted, {self.served} were made"
        # what was lost earlier than in the run just before may be confessed where it is not needed now
        known = Counter({ask: times for ask, times in over.items() if self.losable[ask] == self.cut[ask]})
        assert known <= confessed, f"attempts cut off and not confessed: {known - confessed}"
        assert unconfirmed.total() <= self.most_cut, "more attempts are confessed than were cut off"
        self.ok += served - refused
        for ask in served:  # who asks has nothing in store: all answers that there are stand in the results
            self.ok[ask] = ok[ask]
            self.losable[ask] = 0
        self.budget -= over.total()
        self.failed = self.standing = failed
        self.cut = Counter()


class Step(NamedTuple):
    """Changes of the job and its input, and a run: to its end, or killed if it makes as many changes to the disk."""

    edits: list[tuple[str, int, int]] = []
    temperature: str = ""
    samples: int = 1
    flag: str = ""
    concurrency: int = 2
    pace: str = ""
    refusing: bool = False
    kill_at: int = 0
    torn: bool = False


STEPS = st.builds(
    Step,
    edits=st.lists(st.tuples(st.sampled_from(EDITS), st.integers(0, ROWS - 1), st.sampled_from(NUMBERS)), max_size=2),
    temperature=st.sampled_from(TEMPERATURES),
    samples=st.sampled_from([1, 1, 1, 2, 3]),
    flag=st.sampled_from([""] * 6 + ["--retry-failed", "--fresh"]),
    concurrency=st.integers(1, 3),
    pace=st.sampled_from(["", "--stream", "--no-stream --timeout=9"]),
    refusing=st.booleans(),
    kill_at=st.just(0) | st.integers(1, 40),
    torn=st.booleans(),
)


class History:
    """A job with its input and run directory, taken from step to step."""

    def __init__(self, bench: Any, folder: Path, endpoints: list[Endpoint], rows: list[int]) -> None:
        self.bench = bench
        self.folder = folder
        self.endpoints = endpoints
        self.rows = rows
        self.input = folder.parent / "rows.jsonl"
        self.input.write_text("")
        self.model = Model()
        self.hashes: dict[Ask, str] = {}
        self.told: list[str] = []
        self.temperature = ""
        self.samples = 1

    def take(self, step: Step) -> None:
        for edit in step.edits:
            self.edit(*edit)
        self.temperature, self.samples = step.temperature, step.samples
        rows = "".join(json.dumps({"number": number, "prompt": question(number)}) + "\n" for number in self.rows)
        if rows != self.input.read_text():
            self.input.write_text(rows)
        settings = ["--yes", f"--samples={self.samples}", f"--concurrency={step.concurrency}", *step.pace.split()]
        settings += filter(None, [self.temperature and f"--param=temperature={self.temperature}", step.flag])
        endpoint = self.endpoints[step.refusing]
        ended = self.bench.run(self.folder, *settings, url=endpoint.url, fuse=step.kill_at, torn=step.torn)
        served = endpoint.served()
        told = f"rows {self.rows}, {'refusing' if step.refusing else 'fixed'}, {' '.join(settings)}"
        how = f"killed at {step.kill_at}{' torn' * step.torn}" if ended.code == -9 else f"exit {ended.code}"
        self.told.append(f"{told}: {how}, served {dict(served)}")
        try:
            self.compare(step, ended, served)
        except Exception as error:
            # a kill is not met to the microsecond another time: what is seen only once must be told at once
            error.add_note("\n".join([*self.told, ended.said]))
            raise

    def edit(self, how: str, at: int, number: int) -> None:
        at %= len(self.rows)
        if how == "reverse":
            self.rows.reverse()
        elif how == "change":
            self.rows[at] = number
        elif how == "move":
            self.rows.insert(number % len(self.rows), self.rows.pop(at))
        elif how == "remove":
            self.rows[at : at + 1] = [] if len(self.rows) > 1 else self.rows
        elif len(self.rows) < ROWS:
            place = len(self.rows) if how == "append" else at
            self.rows.insert(place, self.rows[number % len(self.rows)] if how == "duplicate" else number)

    def compare(self, step: Step, ended: Any, served: Counter[Ask]) -> None:
        refused = Counter({ask: times for ask, times in served.items() if step.refusing and ask[0] in REFUSED})
        need = Counter({(number, self.temperature): self.samples * n for number, n in Counter(self.rows).items()})
        # rows that are all refused in the same words stop a run; a few are asked once more to find that out
        probed = Counter(dict.fromkeys(refused, PROBES))
        self.model.losable += probed
        self.model.budget += PROBES * step.refusing
        if ended.code == -9 or (ended.code == 3 and step.refusing):
            if (self.folder / "out" / "results.parquet").exists():
                pq.read_table(self.folder / "out" / "results.parquet")  # whole or not at all
            self.model.killed(need, served, refused, step.flag, step.concurrency)
        else:
            results = self.results()
            assert ended.code == int(any(result["status"] == "failed" for result in results)), ended.said
            asks = [(number, self.temperature) for number in self.rows for _ in range(self.samples)]
            self.model.ended(need, served, refused, step.flag, zip(asks, results, strict=True))

    def results(self) -> list[dict[str, Any]]:
        """The results of a run that has ended, each right and in its place, and the bill right too."""
        out = self.folder / "out"
        results: list[dict[str, Any]] = pq.read_table(out / "results.parquet").to_pylist()
        places = [(row, sample, number) for row, number in enumerate(self.rows) for sample in range(self.samples)]
        assert [(one["row"], one["sample"], one["number"]) for one in results] == places
        for one in results:
            said = (one["status"], one["completion"], one["error_status"])
            right = said == ("ok", str(one["number"] + 1), None)
            assert right or (said == ("failed", None, 400) and one["number"] in REFUSED), one
            assert one["attempts"] > one["unconfirmed_attempts"], one
            ask = (one["number"], self.temperature)
            assert self.hashes.setdefault(ask, one["request_hash"]) == one["request_hash"]
        assert len(set(self.hashes.values())) == len(self.hashes)
        *groups, total = pq.read_table(out / "cost_summary.parquet").to_pylist()
        for status in ("ok", "failed"):
            count = sum(one["status"] == status for one in results)
            assert count == total[status] == sum(group[status] for group in groups)
        for name in SUMS:
            assert added(results, name) == added([total], name) == added(groups, name), name
        assert json.loads((out / "run.json").read_bytes())["state"] == "complete"
        left = [*out.rglob(".*.tmp"), *(out / ".state").glob("journal-*"), *out.glob("results/*")]
        assert not left, f"left behind: {left}"
        return results


def added(rows: list[dict[str, Any]], name: str) -> decimal.Decimal:
    return sum((decimal.Decimal(repr(row[name] or 0)) for row in rows), decimal.Decimal(0))


@pytest.fixture
def begin(
    benches: list[Any], embedded: Endpoints, site: Any, tmp_path: Path
) -> Iterator[Callable[[list[int]], History]]:
    """Begins a history in a folder of its own, before two endpoints: the second refuses some questions."""
    refusing = Behaviour(faults=tuple(Fault(status=400, match=question(number)) for number in REFUSED))
    with contextlib.ExitStack() as stack:
        endpoints = []
        for name, behaviour in (("fixed", Behaviour()), ("refusing", refusing)):
            ledger = tmp_path / name
            url = stack.enter_context(embedded.serving(behaviour, ledger))
            endpoints.append(stack.enter_context(contextlib.closing(Endpoint(url, ledger))))
        yield lambda rows: History(benches[0], site.fresh(), endpoints, rows)


def check(begin: Callable[[list[int]], History], seed: int | None = None, **settings: Any) -> None:
    @hypothesis.settings(database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), **settings)
    @hypothesis.given(
        st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=ROWS), st.lists(STEPS, min_size=3, max_size=10)
    )
    def history(rows: list[int], steps: list[Step]) -> None:
        one = begin(rows)
        for step in [*steps, Step()]:
            one.take(step)

    (history if seed is None else hypothesis.seed(seed)(history))()


def test_any_history(begin: Callable[[list[int]], History]) -> None:
    """Whatever was run, killed and changed before: one result for each request, in order and right, nothing asked twice."""
    # a failure tells its own history; to look for a shorter one, which takes minutes, is left to the soak
    check(begin, max_examples=9, derandomize=True, phases=[hypothesis.Phase.generate])


@pytest.mark.soak
def test_many_histories(begin: Callable[[list[int]], History], soak: Soak) -> None:
    """The same over other histories each time."""
    while soak.goes_on():
        check(begin, seed=soak.chance.randrange(2**32), max_examples=10)
