"""`batchrun failures`: failed requests by kind and message."""

import json
import shlex
from collections.abc import Sequence
from typing import Annotated, Any

import typer

EXAMPLES = "batchrun failures runs/reviews · batchrun failures runs/reviews --json | jq '.groups[].count'"
_MOST_SHOWN = 20
_MOST_AT_THE_END = 5
_LONGEST = 300
_SHORT = 60


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show failed requests by kind and message: how many, an example, and what to do. Also while the run is under way."""
    from batchrun.report.failures import grouped
    from batchrun.report.words import printable
    from batchrun.runner.reading import Reading

    reading = Reading(run_dir)
    groups = grouped(reading.failed())
    failed = sum(group.count for group in groups)
    if as_json:
        shown = [group.shown() for group in groups]
        print(json.dumps({"path": reading.run_dir.url, "state": reading.state, "failed": failed, "groups": shown}))
        return
    if not groups:
        print(f"no failed requests ({reading.state})")
        return
    what = "1 request has" if failed == 1 else f"{failed} requests have"
    print(f"{what} failed of {reading.requests} ({reading.state})")
    for group in groups[:_MOST_SHOWN]:
        print(printable("\n".join(["", *_lines(group, run_dir)])))
    if len(groups) > _MOST_SHOWN:
        rest = sum(group.count for group in groups[_MOST_SHOWN:])
        print(f"\n… and {rest} more in {len(groups) - _MOST_SHOWN} other groups; --json has them all")


def short_table(groups: Sequence[Any], run_dir: str) -> str:
    """What stands below the bill of a run with failures."""
    from batchrun.cli.table import table, terminal_width

    rows = [
        (group.kind, _cut(group.message, _SHORT), group.count, group.example.row) for group in groups[:_MOST_AT_THE_END]
    ]
    lines = [table(("failed", "message", "requests", "first row"), rows, left=2, width=terminal_width())]
    if len(groups) > _MOST_AT_THE_END:
        lines.append(f"… and {sum(one.count for one in groups[_MOST_AT_THE_END:])} more")
    lines.append(f"what to do about them: batchrun failures {shlex.quote(run_dir)}")
    return "\n".join(lines)


def _lines(group: Any, run_dir: str) -> list[str]:
    one = group.example
    lines = [f"{group.count} × {group.kind}: {_cut(group.message, _LONGEST) or '(no message)'}"]
    called = "" if one.id == str(one.row) else f", id {_cut(one.id, _SHORT)}"
    lines.append(
        f"    for example row {one.row}{called}: {_cut(' '.join((one.error_message or '').split()), _LONGEST)}"
    )
    lines.append(f"    look at it: batchrun show {shlex.quote(run_dir)} {one.row}")
    if group.remedy:
        lines.append(f"    what to do: {group.remedy}")
    return lines


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
