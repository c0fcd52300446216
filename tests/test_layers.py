"""The architecture as a check: who may import whom, and who owns which outside library. The tables are the document."""

import ast
import functools
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "batchrun"

# Floors from the roof down: a room imports from its own floor's room and from floors below, never upward.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("__init__",),  # the lazy face: `batchrun.run` is `batchrun.api.run`
    ("api",),
    ("sources",),
    ("prompt_files",),
    ("runner.card",),
    ("runner.outlook", "runner.reading"),
    ("runner.session",),
    ("runner.changes",),
    ("runner.remaining",),
    ("runner.prepare",),
    ("runner.assembly",),
    ("engines",),
    ("runner.control",),
    ("runner.shards", "runner.window"),
    ("runner.kept", "runner.stack", "runner.stopped"),
    (
        "runner.backlog",
        "runner.counter",
        "runner.results",
        "runner.outcome",
        "runner.doubts",
        "runner.notified",
        "runner.watched",
        "runner",
    ),
    ("rows", "wire", "pace", "judge", "ledger", "report"),
    ("settings", "events", "interrupts"),
    ("job",),
    ("sections", "tables"),
    ("errors",),
    ("records",),
    ("clock", "stop", "tokens", "names", "money", "moments"),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

# Arrows between rooms of one floor. Each has its reason; there is no other.
SIDEWAYS = {
    ("report", "ledger"): "a summary is read from parts and, like them, appears whole or not at all",
    ("report", "rows"): "a copy of results says JSON text as JSON, and times in the words in which rows read them",
}
# Arrows that skip the order above: the version number is a constant of the package itself.
VERSION_READERS = {"cli.app", "runner.assembly"}

OWNERS = {
    "httpx": {"wire"},
    "aiohappyeyeballs": {"wire.http1.dial"},
    "truststore": {"wire.tls"},
    "certifi": {"wire.tls"},
    "python_socks": {"wire.socks"},
    "brotli": {"wire.decode.unpack"},
    "tenacity": {"ledger.store"},
    "polars": {"runner.outcome"},
    "pyarrow": {
        "rows",
        "ledger.held",
        "ledger.layout",
        "ledger.parts",
        "ledger.sealed",
        "ledger.store",
        "ledger.swept",
        "ledger.vectors",
        "report",
    },
    "tqdm": {"report.bar"},
    "prometheus_client": {"report.metrics"},
    "opentelemetry": {"report.traces"},
    "jinja2": {"rows.condition", "rows.template", "rows.sandbox", "report"},
    "typer": {"cli"},
    "genai_prices": {"judge.catalogue"},
    "starlette": {"embedded"},
    "uvicorn": {"embedded"},
    "httptools": {"embedded"},
    "msgspec": {""},
    "anyio": {""},
}


def name_of(path: Path) -> str:
    """`ledger.parts` for batchrun/ledger/parts.py, `ledger` for its `__init__`, `__init__` for the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Each module's syntax tree by its name."""
    return {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    """The longest part of a module's name that has a floor: the runner's modules have one each."""
    name = module
    while name not in LEVEL and "." in name:
        name = name.rpartition(".")[0]
    return name


def imports(tree: ast.AST) -> Iterator[str]:
    """Full dotted names of everything imported anywhere in a module, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inner(tree: ast.AST) -> Iterator[str]:
    """The modules of this package that a module imports, as `name_of` names them."""
    for full in imports(tree):
        if full == "batchrun" or full.startswith("batchrun."):
            name = full.removeprefix("batchrun").removeprefix(".")
            while name and name not in modules():
                name = name.rpartition(".")[0]
            yield name or "__init__"


def outer(tree: ast.AST) -> set[str]:
    """The outside libraries that a module imports."""
    tops = {full.partition(".")[0] for full in imports(tree)}
    return tops - set(sys.stdlib_module_names) - {"batchrun"}


def belongs(module: str, owner: str) -> bool:
    return owner == "" or module == owner or module.startswith(owner + ".")


def test_every_room_has_its_floor() -> None:
    """A new top-level module or wing must be put on a floor here before it can be merged."""
    assert {room(module) for module in modules()} == {*LEVEL, "embedded"}


def test_arrows_run_downward() -> None:
    """No module imports a floor above its own, and rooms of one floor only as SIDEWAYS allows."""
    wrong = []
    for module, tree in modules().items():
        for target in inner(tree):
            here, there = room(module), room(target)
            if "embedded" in (here, there) or here == there or (here, there) in SIDEWAYS:
                continue
            if target == "__init__" and module in VERSION_READERS:
                continue
            if LEVEL[here] >= LEVEL[there]:
                wrong.append(f"{module} → {target}")
    assert not wrong


def test_no_allowed_arrow_is_unused() -> None:
    """A sideways arrow that the code no longer has leaves the table."""
    used = {(room(module), room(target)) for module, tree in modules().items() for target in inner(tree)}
    assert set(SIDEWAYS) <= used
    for module in VERSION_READERS:
        assert "__init__" in set(inner(modules()[module])), module


def test_the_embedded_endpoint_stands_alone() -> None:
    """`embedded` imports nothing of the rest; the rest knows its public names only, `serve` its server besides."""
    for module, tree in modules().items():
        for target in inner(tree):
            if room(module) == "embedded":
                assert room(target) == "embedded", f"{module} → {target}"
            elif room(target) == "embedded":
                assert target == "embedded" or (module, target) == ("cli.serve", "embedded.server"), module


def test_every_outside_library_has_its_owner() -> None:
    """Each library is imported where OWNERS says and nowhere else; a new library needs a line there."""
    wrong = [
        f"{module} → {library}"
        for module, tree in modules().items()
        for library in outer(tree)
        if not any(belongs(module, owner) for owner in OWNERS.get(library, ()))
    ]
    assert not wrong


def test_there_is_no_import_cycle() -> None:
    """Modules form a graph without cycles, late imports included."""
    graph = {module: {target for target in inner(tree) if target != module} for module, tree in modules().items()}
    graph["__init__"] = (
        set()
    )  # its late import of api is what makes `import batchrun` cheap, and has its own test below
    list(graphlib.TopologicalSorter(graph).static_order())


def test_nothing_hides_under_type_checking() -> None:
    """Only the package's lazy face may import for the type checker alone."""
    hiding = [module for module, tree in modules().items() if "TYPE_CHECKING" in ast.dump(tree)]
    assert hiding == ["__init__"]


def test_the_command_line_starts_light() -> None:
    """`batchrun --help` loads no Parquet, no HTTP, no templates and no progress bar; nor does `import batchrun`."""
    code = "import sys, batchrun, batchrun.cli.app; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    environ = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"pyarrow", "httpx", "aiohttp", "jinja2", "tqdm", "tenacity"} & set(loaded)
