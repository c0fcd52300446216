"""What a scan shows to be the job's own fault, though each row for itself has it: told before anything is sent."""

import re
from collections.abc import Sequence
from pathlib import Path

from batchrun.errors import JobError

_TEXT_FILES = (".txt", ".md", ".j2", ".jinja", ".jinja2", ".prompt", ".tmpl")
_MOST_SHOWN = 60


class Faults:
    """The faults of rows, as long as all of them are one and the same."""

    def __init__(self) -> None:
        self._count = 0
        self._first = self._alike = ""
        self._is_shared = True

    def usable(self) -> None:
        self._is_shared = False

    def add(self, where: str, fault: str) -> None:
        """A row's fault; `where` is its file:line."""
        self._count += 1
        alike = fault.partition(";")[0]  # what follows is of the row: its columns
        if not self._first:
            self._first, self._alike = f"{where}: {fault}", alike
        self._is_shared = self._is_shared and alike == self._alike

    def of_the_job(self) -> JobError | None:
        """The fault that every row has, where there is one: no single row is to blame."""
        if not self._is_shared or self._count < 2:
            return None
        return JobError(f"{self._first}\nall {self._count} rows have this fault: it is the job's")


def refuse_same_prompt(template: str, rows: int, columns: Sequence[str]) -> None:
    """Raise JobError for a template that takes nothing from its row, with what was perhaps meant."""
    shown = " ".join(template.split())
    shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"
    raise JobError(
        f"the prompt {shown!r} uses no column, so all {rows} rows would ask the same: {_meant(template, columns)}\n"
        "If that is meant, say so: --same-prompt, or [prompt] same = true"
    )


def _meant(template: str, columns: Sequence[str]) -> str:
    name = template.strip()
    if "\n" not in name and (name.endswith(_TEXT_FILES) or _is_file(name)):
        return f"to read it from the file: --prompt-file {name}"
    single = next((found[1] for found in re.finditer(r"\{\s*(\w+)\s*\}", template) if found[1] in columns), None)
    if single is not None:
        return f"a column takes two braces: {{{{ {single} }}}} (a notebook's ! and some shells eat one pair)"
    listed = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
    return f"write {{{{ COLUMN }}}} where a row's text belongs; columns: {listed}"


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False
