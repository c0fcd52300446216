"""batchrun: bulk LLM completions that survive the night.

`run` runs a job, `plan` says what it would do and cost, `check` tries its first request; `arun`, `aplan` and `acheck` are
the same, to be awaited. `Job` is a job, `Outcome` what a run came to. Importing this package imports neither httpx nor pyarrow.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Job",
    "JobError",
    "Outcome",
    "Outlook",
    "RunError",
    "Trial",
    "__version__",
    "acheck",
    "aplan",
    "arun",
    "check",
    "plan",
    "run",
]

if TYPE_CHECKING:
    from batchrun.api import Job, JobError, Outcome, Outlook, RunError, Trial, acheck, aplan, arun, check, plan, run


def __getattr__(name: str) -> Any:
    # late, so that `batchrun --help` and `batchrun --version` import no heavy library
    if name in __all__:
        from batchrun import api

        return getattr(api, name)
    raise AttributeError(f"module 'batchrun' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
