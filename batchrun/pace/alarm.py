"""Which fault, or which run of them, is everybody's: what makes the guard close its gate, and how it may be mended.

Counts and judges; it never waits and never asks.
"""

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.pace.pulse import MOST_PATIENCE_S, Answers
from batchrun.records import Request

CONNECT_FAULTS_IN_A_ROW = 20
LASTING_CONNECT_FAULTS = 5
LASTING_S = 10.0
REFUSED_ROWS = 5
"""So many rows refused for one same parameter, and none answered yet: it is the job's parameter, not the rows'."""
NEVER_ANSWERED_FAULTS = 100
NEVER_ANSWERED_S = 60.0
LEAST_PATIENCE_S = 30.0
SILENT_S = 7200.0
"""An endpoint that has answered nobody for so long is given up, whatever it says."""
_ROWS_OWN = ("messages", "input", "prompt", "content", "none", "null", "body")
_MENDS = {
    Kind.NOT_FOUND: "check [endpoint] base_url and model (--base-url, --model)",
    Kind.CREDIT: "top up the account, or raise its limit",
    Kind.CONNECT: "check that the endpoint is up and that [endpoint] base_url is right",
    Kind.RATE_LIMITED: "wait until the limit is renewed, or lower [limits] requests_per_minute",
    Kind.MALFORMED: "check that [endpoint] base_url is an OpenAI-compatible endpoint",
}
_GO_ON = "; the same command goes on from here"


def _is_page(error: EndpointError) -> bool:
    """A page for people under HTTP 200: of an endpoint that answered nobody before, it means another address."""
    return error.kind is Kind.SERVER and error.status == 200 and error.mend is not None


def mend_of(error: EndpointError, key_env: str | None) -> str | None:
    """What a person can do about a fault that every row would meet; None where the fault alone doesn't tell."""
    if error.mend is not None:
        return error.mend
    if error.kind is Kind.CREDENTIALS:
        named = key_env or "OPENAI_API_KEY"
        return f"check the key in the variable {named} ([endpoint] api_key_env names another)"
    if error.status is not None and 300 <= error.status < 400:
        return "if that is the endpoint's own address, set [endpoint] base_url to it"
    return _MENDS.get(Kind.MALFORMED if _is_page(error) else error.kind)


class Alarm:
    """Told of every answer and every fault of a run. `answers` are the first."""

    def __init__(self, clock: Clock, key_env: str | None = None) -> None:
        self.answers = Answers(clock)
        self._clock = clock
        self._key_env = key_env
        self._connect_faults = self._faults = 0
        self._connect_since = self._faults_since = 0.0
        self._refused: dict[str, set[tuple[int, str, int]]] = {}
        self._acquitted: dict[tuple[Kind, int | None], int] = {}

    def answered(self) -> None:
        self.answers.add()
        self.quiet()

    def quiet(self) -> None:
        """A sign of life: the endpoint said something, if only no to one row."""
        self._connect_faults = 0

    def acquit(self, error: EndpointError) -> None:
        """A fault of this sort was one row's own; the next one is too, as long as others are answered."""
        self._acquitted[error.kind, error.status] = self.answers.count

    def rings(self, request: Request, error: EndpointError) -> bool:
        """Count a fault; True where the gate must close."""
        if error.kind is Kind.CONNECT:
            return self._connect(self._clock.now())
        self.quiet()
        if error.kind in FATAL_KINDS:
            return not self._is_acquitted(error)
        if error.kind is Kind.BAD_REQUEST:
            return self._is_refused(request, error)
        return error.kind is not Kind.CONTENT_FILTER and self._lasts(error)

    def patience_s(self, error: EndpointError) -> float:
        """How long an endpoint that can't be reached is waited for: as long as it has been answering in this run, within
        half a minute and an hour. One that never answered isn't: its address is wrong, or it was never up.
        """
        if error.kind is not Kind.CONNECT or not self.answers.count:
            return 0.0
        return min(max(LEAST_PATIENCE_S, self.answers.answering_s), MOST_PATIENCE_S)

    def outage_patience_s(self) -> float:
        """For how long an endpoint that answers nobody is still waited for, seconds."""
        return SILENT_S - self.answers.silent_s if self.answers.count else NEVER_ANSWERED_S

    def is_common(self, first: EndpointError, again: EndpointError) -> bool:
        """Whether a probe's fault proves the one that closed the gate."""
        if again.kind in FATAL_KINDS or again.kind is Kind.CONNECT:
            return True
        if first.kind is Kind.BAD_REQUEST:
            return again.kind is first.kind and again.param == first.param
        return first.kind not in FATAL_KINDS and first.kind is not Kind.CONNECT and again.kind not in ROW_KINDS

    def mend(self, error: EndpointError) -> str:
        """What a person can do about it, and that nothing is lost meanwhile."""
        what = mend_of(error, self._key_env) or "the endpoint answers nobody: try again when it is well"
        if error.kind is Kind.BAD_REQUEST:
            what = f"every row so far was refused for `{error.param}`: change it under [params], or take it out"
        return what + _GO_ON

    def _connect(self, now: float) -> bool:
        if not self._connect_faults:
            self._connect_since = now
        self._connect_faults += 1
        lasting = self._connect_faults >= LASTING_CONNECT_FAULTS and now - self._connect_since >= LASTING_S
        return lasting or self._connect_faults >= CONNECT_FAULTS_IN_A_ROW

    def _is_acquitted(self, error: EndpointError) -> bool:
        answers = self._acquitted.get((error.kind, error.status))
        if answers is None or answers == self.answers.count:
            return False
        self._acquitted[error.kind, error.status] = self.answers.count
        return True

    def _is_refused(self, request: Request, error: EndpointError) -> bool:
        param = error.param
        if self.answers.count or not param or param.lower().startswith(_ROWS_OWN):
            return False
        rows = self._refused.setdefault(param, set())
        rows.add(request.key)
        return len(rows) >= REFUSED_ROWS

    def _lasts(self, error: EndpointError) -> bool:
        """Faults that pass, but have gone on for too long with nobody answered."""
        now = self._clock.now()
        if self.answers.silent_s >= SILENT_S:
            return True
        if self.answers.count or error.kind is Kind.RATE_LIMITED:
            return False
        if not self._faults:
            self._faults_since = now
        self._faults += 1
        enough_s = 0.0 if error.kind is Kind.MALFORMED or _is_page(error) else NEVER_ANSWERED_S
        return self._faults >= NEVER_ANSWERED_FAULTS and now - self._faults_since >= enough_s
