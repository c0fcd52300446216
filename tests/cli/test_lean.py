"""The command line takes no more of the machine than it needs."""

import subprocess
import sys


def test_no_command_imports_pandas() -> None:
    """pyarrow would, where it is installed; and afterwards the process is as it was."""
    code = (
        "import sys\nfrom batchrun.cli.lean import lean\n"
        "with lean():\n    import pyarrow as pa\n    pa.array(['a'])\n"
        "assert pa.default_memory_pool().backend_name == 'system'\n"
        "assert 'pandas' not in sys.modules\nimport pandas\n"
        "assert pa.table({'a': [1]}).to_pandas()['a'].tolist() == [1]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
