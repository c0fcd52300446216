"""A notebook's cell: its bar, an interrupt that loses nothing, and the same call again."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbclient
import nbformat

RUN = "out = batchrun.run('rows.jsonl', base_url={url!r}, model='m', concurrency={concurrency}, output='out')\nout"


def test_a_cell_that_is_interrupted_and_run_again(start: Callable[..., Any], monkeypatch: Any) -> None:
    """The cell shows tqdm's own bar; an interrupt waits for what is in flight, says so in a line, and shows the outcome; the
    next cell goes on, and no request is asked twice.
    """
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    job = start(first_token_s=0.1)
    job.rows(range(60))
    cells = [
        "import batchrun",
        RUN.format(url=job.endpoint.url, concurrency=2),
        RUN.format(url=job.endpoint.url, concurrency=16),
        "len(out.to_pandas()), out.ok",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(job.folder)}}
    )

    def interrupt() -> None:
        while job.endpoint.received < 6:
            time.sleep(0.02)
        os.kill(client.km.provisioner.pid, signal.SIGINT)  # as a front end's button does

    thread = threading.Thread(target=interrupt)
    thread.start()
    client.execute()
    thread.join()
    _imports, first, second, last = notebook.cells
    shown = [one for one in first.outputs if one.output_type == "display_data"]
    assert any("widget-view" in kind for kind in shown[0].data), "tqdm's own bar"
    said = "".join(one.text for one in first.outputs if one.output_type == "stream")
    assert "waiting up to 10 s for 2 requests in flight (interrupt again to end at once)" in said
    assert len(said.splitlines()) <= 3
    assert "stopped" in first.outputs[-1].data["text/html"]
    assert "60 ok" in second.outputs[-1].data["text/html"]
    assert json.loads(last.outputs[-1].data["text/plain"].replace("(", "[").replace(")", "]")) == [60, 60]
    assert (job.endpoint.received, job.endpoint.stats()["repeated"]) == (60, 0)
