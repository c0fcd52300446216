"""batchrun: bulk LLM completions that survive the night.

`run` and `arun` run a job, `Job` is one; see `batchrun.api`. Importing this package imports neither httpx nor pyarrow.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Job", "Outcome", "__version__", "arun", "check", "plan", "run"]

if TYPE_CHECKING:
    from batchrun.api import Job, Outcome, arun, check, plan, run


def __getattr__(name: str) -> Any:
    # late, so that `batchrun --help` and `batchrun --version` import no heavy library
    if name in __all__:
        from batchrun import api

        return getattr(api, name)
    raise AttributeError(f"module 'batchrun' has no attribute {name!r}")
