"""The one place that stacks what stands round a call, from the outside in:

    retry(models(gate(quota(hold(limits(health(journalled(client))))))))

An attempt goes down it and comes back up it, and calls nothing above. What is to come has its place here too: `reask` of
wrong answers round retry, the `route` to one of several lanes (each a gate, limits, a client) between retry and gate,
`budget` between limits and health.
"""

from collections.abc import Collection

import msgspec

from batchrun.clock import Clock
from batchrun.events import Hear
from batchrun.job import Job
from batchrun.judge.estimate import Ceiling, most_completion_tokens
from batchrun.judge.prices import Prices
from batchrun.ledger.ledger import Ledger
from batchrun.pace.absent import Models
from batchrun.pace.gate import Gate
from batchrun.pace.health import Health
from batchrun.pace.hold import Hold
from batchrun.pace.limits import Limits
from batchrun.pace.policy import Policy
from batchrun.pace.quota import Quota
from batchrun.pace.retry import Retrying
from batchrun.records import Complete
from batchrun.runner.backlog import Backlog
from batchrun.stop import StopSign


class Stack:
    """What a run's attempts pass through. `stop` is the sign that ends it, `hear` is told what happens, `key_env` names
    the variable that holds the key, `endpoint` is the name of the one that is asked, `models` are those that the job and its
    variants ask for.
    """

    def __init__(
        self,
        job: Job,
        clock: Clock,
        stop: StopSign,
        backlog: Backlog,
        hear: Hear,
        key_env: str,
        endpoint: str,
        models: Collection[str] = (),
    ) -> None:
        assert isinstance(job.limits.concurrency, int)
        policy = Policy(max_attempts=job.retry.max_attempts)
        self._clock = clock
        self._endpoint = endpoint
        self.health = Health(clock, backlog, policy)
        self._gate = Gate(clock, stop, self.health, backlog, hear, policy, key_env, models)
        self.models = Models(clock, stop, self.health, hear, policy, models)
        self._quota = Quota(clock, stop, hear, job.retry.longest_wait_s)
        self.hold = Hold(clock, stop)
        self.limits = Limits(
            job.limits.concurrency,
            job.limits.requests_per_minute,
            clock,
            tokens_per_minute=job.limits.tokens_per_minute,
            bound=most_completion_tokens,
            check=self.hold.checked(self._quota.checked(self._gate.check)),
            hear=hear,
        )
        self._retrying = Retrying(job.retry, clock, stop, self.health, backlog, hear, policy)

    def around(self, client: Complete, ledger: Ledger, prices: Prices) -> Complete:
        """A call of the client with everything round it."""
        complete = ledger.journalled(client, Ceiling(prices, self._endpoint), self._clock)
        complete = self.health.watched(complete)
        complete = self.limits.wrap(complete)
        complete = self.hold.wrap(complete)
        complete = self._quota.wrap(complete)
        complete = self._gate.wrap(complete)
        complete = self.models.wrap(complete)
        return self._retrying.wrap(complete)

    def allow_attempts(self, most: int) -> None:
        """So many attempts are made from now on, of requests that have not failed yet."""
        self._retrying.settings = msgspec.structs.replace(self._retrying.settings, max_attempts=most)
