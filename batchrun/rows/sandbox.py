"""The templates' world: data, and nothing of Python. Jinja2, sandboxed and strict.

A name is a column, an attribute a key of its value; methods of Python's objects are out of reach, so that `order.items`
is data or an error, never an address. Null, NaN and bytes are errors where they would become text: `| default('')` is for
those who mean it. Nothing here depends on chance, on a clock or on an address: the same row gives the same text for ever.
"""

import functools
import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, missing

from batchrun.rows.media import as_base64, data_url

ROW = "row"
HIDDEN = "_batchrun_"
"""What names of our own begin with, which a template reaches by another spelling."""
FILE_FILTERS = frozenset({"data_url", "base64"})
_CALLED = frozenset({"range", "namespace"})
_LOOP = frozenset(
    {
        *("index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"),
        *("previtem", "nextitem", "cycle", "changed"),
    }
)
_GROUP = ("grouper", "list")
_LISTED = ("map", "select", "reject", "selectattr", "rejectattr", "unique", "batch", "slice", "items")
_OTHER_FILES: tuple[type[nodes.Node], ...] = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_CHANCE = ("random", "attr", "pprint")
_BY_FILTER = {"strip": "trim", "upper": "upper", "lower": "lower", "title": "title", "replace": "replace"}


class NotDataError(Exception):
    """A value that can't be put into a prompt; the message names it."""


class Missing(jinja2.StrictUndefined):
    """A name that no column has; it is told as it was written."""

    __slots__ = ()

    def __init__(self, hint: str | None = None, obj: Any = missing, name: str | None = None, exc: Any = None) -> None:
        name = name.removeprefix(HIDDEN) if isinstance(name, str) else name
        super().__init__(hint, obj, name, exc or jinja2.UndefinedError)


class NoTextError(jinja2.UndefinedError):
    """A value that is there, and can't be used in this way; the message is whole."""


class Null(jinja2.Undefined):
    """A null of the data, or a number that is none: false, equal to none, and an error wherever it would become text."""

    __slots__ = ()

    __str__ = __iter__ = __len__ = __contains__ = jinja2.Undefined._fail_with_undefined_error

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Null)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return 0


class Blob:
    """Bytes of the data: only the filters for media take them."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self._name = name

    def __len__(self) -> int:
        return len(self.data)

    def __str__(self) -> str:
        raise NotDataError(
            f"`{self._name}` holds {len(self.data)} bytes, not text; an image or a sound goes in by "
            f"{{{{ {self._name} | data_url }}}} or | base64"
        )

    __repr__ = __str__


class Record(dict[str, Any]):
    """An object of the data; as text it is JSON."""

    def __str__(self) -> str:
        return to_json(self)


class Items(list[Any]):
    """A list of the data; as text it is JSON."""

    def __str__(self) -> str:
        return to_json(self)


class WholeRow(Record):
    """The row itself, which is no column: `row['review text']` takes one out, `row | tojson` gives it all."""


def seen(value: Any, name: str) -> Any:
    """A value as a template sees it; `name` is what it is called in messages."""
    if value is None:
        return Null(f"`{name}` is null; if that is meant, write {{{{ {name} | default('') }}}}", exc=NoTextError)
    if isinstance(value, float) and not math.isfinite(value):
        hint = f"`{name}` is {value}, not a number; if that is meant, write {{{{ {name} | default('') }}}}"
        return Null(hint, exc=NoTextError)
    if isinstance(value, dict):
        return Record({key: seen(inner, f"{name}.{key}") for key, inner in value.items()})
    if isinstance(value, list):
        return Items([seen(inner, f"{name}[{number}]") for number, inner in enumerate(value)])
    return Blob(value, name) if isinstance(value, bytes) else value


def bare(value: Any) -> Any:
    """What `seen` was made from, for the filters that take bytes."""
    if isinstance(value, Blob):
        return value.data
    if isinstance(value, dict):
        return {key: bare(inner) for key, inner in value.items()}
    return None if isinstance(value, Null) else value


def to_json(value: Any) -> str:
    """JSON as people write it: keys in their order, every character itself. Raises NotDataError."""
    return json.dumps(value, ensure_ascii=False, default=_json_leaf, allow_nan=False)


def _json_leaf(value: Any) -> Any:
    if isinstance(value, Null):
        return None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Blob | jinja2.Undefined):
        return str(value)  # raises, and says which
    raise NotDataError(f"a {type(value).__name__} is not data")


def as_text(value: Any) -> Any:
    """A value as the text of a prompt. Raises NotDataError, or UndefinedError where there is none."""
    if isinstance(value, str | jinja2.Undefined):
        return value
    if isinstance(value, WholeRow):
        raise NotDataError("there is no column `row`; take a column by row['name'], or all of them by row | tojson")
    if isinstance(value, bool | int | Blob):
        return str(value)
    if isinstance(value, float):
        return to_json(value) if not math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict | list | tuple):
        return to_json(value)
    if value is None:
        raise NotDataError("an expression gives none, which is no text; if that is meant, add | default('', true)")
    raise NotDataError(f"a {type(value).__name__} is not data; a column's value is, or what a filter makes of it")


class Environment(ImmutableSandboxedEnvironment):
    """Attributes and items are the data's own."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict):
            if attribute in obj:
                return obj[attribute]
        elif (isinstance(obj, LoopContext) and attribute in _LOOP) or isinstance(obj, Namespace):
            return getattr(obj, attribute, self._missing(obj, attribute))
        elif isinstance(obj, tuple) and attribute in _GROUP and hasattr(obj, "_fields"):
            return getattr(obj, attribute)  # what `groupby` gives
        return self._missing(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, dict | list | tuple | str):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        return self.getattr(obj, argument) if isinstance(argument, str) else self._missing(obj, argument)

    def _missing(self, obj: Any, name: Any) -> Any:
        if isinstance(obj, jinja2.Undefined) and not isinstance(obj, Null):
            return obj  # what is missing has nothing in it: the first name that is not there is the one to tell
        if isinstance(obj, WholeRow):
            return self.undefined(f"there is no column `{name}`")
        if isinstance(obj, dict):
            there = ", ".join(map(str, list(obj)[:20])) or "nothing"
            return self.undefined(f"`{name}` is not in an object that holds {there}", exc=NoTextError)
        remedy = f"; a filter does that: {{{{ … | {_BY_FILTER[name]} }}}}" if name in _BY_FILTER else ""
        kind = "null" if isinstance(obj, Null) else {"str": "a text"}.get(type(obj).__name__, "a value")
        hint = f"{kind} has no `{name}`: only objects and lists of the data have parts{remedy}"
        return self.undefined(hint, exc=NoTextError)


def _listed(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter's values as a list: a generator's text would be its address."""

    @functools.wraps(filter_)
    def call(*args: Any, **kwargs: Any) -> Any:
        return Items(filter_(*args, **kwargs))

    return call


def _environment() -> Environment:
    made = Environment(undefined=Missing, autoescape=False, keep_trailing_newline=True, finalize=as_text)
    called = {name: made.globals[name] for name in _CALLED}
    made.globals.clear()
    made.globals.update({HIDDEN + name: function for name, function in called.items()})
    for name in _CHANCE:
        del made.filters[name]
    for name in _LISTED:
        made.filters[name] = _listed(made.filters[name])
    made.filters["tojson"] = lambda value, indent=None: (
        to_json(value) if indent is None else json.dumps(value, ensure_ascii=False, default=_json_leaf, indent=indent)
    )
    made.filters["string"] = as_text
    made.filters["data_url"] = lambda value, *args, **kwargs: data_url(bare(value), *args, **kwargs)
    made.filters["base64"] = lambda value, *args, **kwargs: as_base64(bare(value), *args, **kwargs)
    made.tests["none"] = lambda value: value is None or isinstance(value, Null)
    made.tests["defined"] = lambda value: not isinstance(value, jinja2.Undefined) or isinstance(value, Null)
    made.tests["undefined"] = lambda value: isinstance(value, jinja2.Undefined) and not isinstance(value, Null)
    return made


environment = _environment()


def compiled(text: str) -> tuple[Any, frozenset[str] | None]:
    """A template, and the columns that it reads, None for all. Raises jinja2.TemplateSyntaxError."""
    tree = environment.parse(text)
    for other in _OTHER_FILES:
        if (found := tree.find(other)) is not None:
            raise jinja2.TemplateSyntaxError("a template can't take in another file", found.lineno)
    _rename(tree)
    reads = _reads(tree)
    return jinja2.Template.from_code(environment, environment.compile(tree), environment.globals), reads


def _rename(tree: nodes.Template) -> None:
    """Functions are reached where they are called, and are no values; `self` is a column like any other."""
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in _CALLED:
            call.node.name = HIDDEN + call.node.name
    for name in list(tree.find_all(nodes.Name)):
        if name.name == "self":
            name.name = HIDDEN + "self"


def _reads(tree: nodes.Template) -> frozenset[str] | None:
    from jinja2.meta import find_undeclared_variables

    names = find_undeclared_variables(tree)
    reads = {name for name in names if not name.startswith(HIDDEN)}
    if HIDDEN + "self" in names:
        reads.add("self")
    if ROW not in names:
        return frozenset(reads)
    plain = 0
    for item in tree.find_all(nodes.Getitem):
        if isinstance(item.node, nodes.Name) and item.node.name == ROW and isinstance(item.arg, nodes.Const):
            plain += 1
            reads.add(str(item.arg.value))
    for part in tree.find_all(nodes.Getattr):
        if isinstance(part.node, nodes.Name) and part.node.name == ROW:
            plain += 1
            reads.add(part.attr)
    uses = sum(name.name == ROW for name in tree.find_all(nodes.Name))
    return frozenset(reads) if uses == plain else None
