"""A process that takes little memory, and starts without what nobody needs. For processes of our own: never in a notebook.

pyarrow imports pandas, where it is installed, before the first array that it makes: half a second and 55 MB of every command.
Results don't depend on it, and no command makes a data frame. And what large buffers took goes back to the system at once,
where allocators would keep it for each thread: a quarter of the peak.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_M_MMAP_THRESHOLD = -3  # of mallopt(3)
_LARGE = 1 << 20


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG002
        if fullname == "pandas":
            raise ModuleNotFoundError("the command line goes without pandas", name=fullname)
        return None


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Before pyarrow is imported, for as long as the command takes."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library that knows no such setting
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
