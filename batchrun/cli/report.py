"""`batchrun report`: one self-contained HTML page."""

from typing import Annotated

import typer

from batchrun.errors import JobError

EXAMPLES = "batchrun report runs/reviews -o reviews.html"


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    output: Annotated[str | None, typer.Option("-o", help="The HTML file.")] = None,
) -> None:
    """Write one self-contained HTML page (not yet supported)."""
    raise JobError(
        f"report {run_dir} {output or ''}: understood but not yet supported; batchrun summary shows the bill"
    )
