"""Templates: data come first, Python never; what is no text is an error; the same row gives the same text for ever."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.errors import JobError
from batchrun.rows.sandbox import environment
from batchrun.rows.template import TemplateError, compile_text

ROW: dict[str, Any] = {
    "order": {"id": 1, "items": ["milk", "é<"], "copy": None, "keys": {"a": 1}},
    "text": "good",
    "none_here": None,
    "nan": float("nan"),
    "raw": b"\x89PNG",
    "price": Decimal("12.50"),
    "tiny": Decimal("0E-10"),
    "flag": True,
    "gaps": [1, None],
    "self": "me",
    "get": "got",
    "title": "a title",
    "review text": "abc",
    "a.b": "dot",
    "2nd": "two",
}

RENDERED = {
    "a key called like a method": ("{{ order.items }} {{ order.keys.a }}", '["milk", "é<"] 1'),
    "a column called like a method or a global": ("{{ get }} {{ title }} {{ self }}", "got a title me"),
    "by brackets": ("{{ row['review text'] }} {{ row['a.b'] }} {{ row['2nd'] }}", "abc dot two"),
    "by attribute of the row": ("{{ row.text }}", "good"),
    "a list and an object are JSON": ("{{ order.items }}{{ order }}", None),
    "json": ("{{ order.items | tojson }}", '["milk", "é<"]'),
    "json in its order": ("{{ {'b': 1, 'a': none} | tojson }}", '{"b": 1, "a": null}'),
    "nulls in JSON": ("{{ gaps | tojson }} {{ gaps }}", "[1, null] [1, null]"),
    "default for null": ("[{{ none_here | default('') }}{{ order.copy | default('x') }}]", "[x]"),
    "default for NaN and a missing column": ("{{ nan | default(0) }}{{ gone | default('-') }}", "0-"),
    "null in a condition": ("{% if none_here %}1{% else %}0{% endif %}{{ none_here is none }}", "0True"),
    "null is there": ("{{ none_here is defined }}{{ gone is defined }}", "TrueFalse"),
    "decimals": ("{{ price }} {{ price * 2 }} {{ tiny }}", "12.50 25.00 0.0000000000"),
    "a flag": ("{{ flag }}", "True"),
    "parts of texts and lists": ("{{ text[:2] }}{{ order.items[0] }}{{ order.items | first | upper }}", "gomilkMILK"),
    "a loop": ("{% for i in order.items %}{{ loop.index }}{{ i }}{% endfor %}", "1milk2é<"),
    "keys and values": ("{% for k, v in order.keys | items %}{{ k }}={{ v }}{% endfor %}", "a=1"),
    "range is called": ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
    "a namespace": (
        "{% set n = namespace(x=0) %}{% for i in [1, 2] %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}",
        "3",
    ),
    "a macro": ("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(text) }}", "<good>"),
    "a filter that makes a generator": ("{{ order.items | map('upper') }}", '["MILK", "É<"]'),
    "groups": (
        "{% for g in [{'a': 1}, {'a': 1}] | groupby('a') %}{{ g.grouper }}{{ g.list | length }}{% endfor %}",
        "12",
    ),
}


@pytest.mark.parametrize(("text", "expected"), RENDERED.values(), ids=RENDERED)
def test_rendered(text: str, expected: str | None) -> None:
    """What a template gives: a column's data, as text, and JSON for objects and lists."""
    made = compile_text(text, "prompt.user")(ROW)
    if expected is not None:
        assert made == expected
    assert "object at 0x" not in made


NO_TEXT = {
    "null": ("{{ none_here }}", "`none_here` is null"),
    "null through a filter": ("{{ none_here | upper }}", "write {{ none_here | default('') }}"),
    "null by ~": ("{{ 'a' ~ none_here }}", "is null"),
    "null by format": ("{{ '%s' | format(none_here) }}", "is null"),
    "null in a list that is joined": ("{{ gaps | join(',') }}", "`gaps[1]` is null"),
    "null in a loop": ("{% for x in none_here %}{% endfor %}", "is null"),
    "null within": ("{{ order.copy }}", "`order.copy` is null"),
    "part of null": ("{{ none_here.x }}", "null has no `x`"),
    "NaN": ("{{ nan }}", "`nan` is nan, not a number"),
    "bytes": ("{{ raw }}", "`raw` holds 4 bytes, not text"),
    "bytes through a filter": ("{{ raw | upper }}", "| data_url"),
    "a missing column": ("{{ txt }}", "'txt' is undefined; the row's columns are: order, text"),
    "how odd names are written": ("{{ a.x }}", "{{ row['review text'] }}"),
    "a missing key": ("{{ order.id2 }}", "`id2` is not in an object that holds id, items, copy, keys"),
    "a missing column by brackets": ("{{ row['gone'] }}", "there is no column `gone`"),
    "a method of an object": ("{{ order.values }}", "`values` is not in an object"),
    "a method of a text": ("{{ text.upper() }}", "{{ … | upper }}"),
    "a method of a list": ("{{ order.items.append }}", "has no `append`"),
    "a number's part": ("{{ order.id.real }}", "has no `real`"),
    "a class": ("{{ text.__class__ }}", "has no `__class__`"),
    "range": ("{{ range }}", "'range' is undefined"),
    "dict": ("{{ dict }}", "'dict' is undefined"),
    "dict called": ("{{ dict(a=1) }}", "'dict' is undefined"),
    "cycler": ("{{ cycler }}", "'cycler' is undefined"),
    "lipsum": ("{{ lipsum() }}", "'lipsum' is undefined"),
    "joiner": ("{{ joiner }}", "'joiner' is undefined"),
    "namespace": ("{{ namespace }}", "'namespace' is undefined"),
    "loop outside of one": ("{{ loop }}", "'loop' is undefined"),
    "loop itself": ("{% for i in [1] %}{{ loop }}{% endfor %}", "not data"),
    "a called range": ("{{ range(3) }}", "not data"),
    "a macro itself": ("{% macro m() %}{% endmacro %}{{ m }}", "not data"),
    "the whole row": ("{{ row }}", "there is no column `row`"),
    "none": ("{{ none }}", "gives none"),
    "division by zero": ("{{ 1 / 0 }}", "ZeroDivisionError"),
}


@pytest.mark.parametrize(("text", "says"), NO_TEXT.values(), ids=NO_TEXT)
def test_no_text(text: str, says: str) -> None:
    """What is not there, or is no text, is an error of the row that names it and says what to write."""
    with pytest.raises(TemplateError) as caught:
        compile_text(text, "prompt.user")(ROW)
    assert says in str(caught.value)
    assert str(caught.value).startswith("prompt.user: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["{{ self }}", "{{ self.x }}", "{{ self() }}"])
def test_a_name_is_told_as_it_was_written(text: str) -> None:
    """What it is called within is nobody's concern."""
    with pytest.raises(TemplateError, match=r"^prompt.user: 'self' is undefined; the row's columns are: a$"):
        compile_text(text, "prompt.user")({"a": "x"})


WRONG = {
    "a name with a space": ("{{ review text }}", "{{ row['review text'] }}"),
    "chance": ("{{ text | random }}", "No filter named 'random'"),
    "attributes by a filter": ("{{ text | attr('upper') }}", "No filter named 'attr'"),
    "another file": ("\n{% include 'a' %}", "line 2 of the template"),
    "too deep": ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "prompt.user"),
}


@pytest.mark.parametrize(("text", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_template(text: str, says: str) -> None:
    """A template that can't be is a fault of the job, with its line and how it is written."""
    with pytest.raises(JobError) as caught:
        compile_text(text, "prompt.user")
    assert says in str(caught.value)


def test_a_column_called_row_comes_first() -> None:
    """`row` is the whole row only where no column is called so; globals give way in the same manner."""
    row = {"row": "mine", "range": "wide", "dict": {"a": 1}, "namespace": "n"}
    assert compile_text("{{ row }} {{ range }} {{ dict.a }} {{ namespace }}", "p")(row) == "mine wide 1 n"
    assert compile_text("{% for i in range(2) %}{{ i }}{% endfor %}", "p")(row) == "01"


CHILD = """
import json, sys
from batchrun.errors import JobError
from batchrun.rows.template import TemplateError, compile_text
for line in sys.stdin:
    text, row = json.loads(line)
    try:
        made = compile_text(text, "p")(row)
    except (TemplateError, JobError) as error:
        made = str(error)
    print(json.dumps(made), flush=True)
"""


class Renderer:
    """A process of its own that renders what it is given."""

    def __init__(self, seed: str) -> None:
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
        )

    def render(self, text: str, row: Any) -> str:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([text, row]) + "\n")
        stdin.flush()
        made: str = json.loads(stdout.readline())
        return made


@pytest.fixture(scope="module")
def renderers() -> Iterator[list[Renderer]]:
    made = [Renderer("1"), Renderer("2")]
    yield made
    for one in made:
        assert one.process.stdin is not None
        one.process.stdin.close()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


PARTS = ["items", "keys", "copy", "get", "title", "index", "count", "a", "x", "__class__", "__doc__", "format", "pop"]
NAMES = [
    "order",
    "items",
    "a",
    "self",
    "range",
    "dict",
    "loop",
    "row",
    "cycler",
    "namespace",
    "gone",
    "joiner",
    "lipsum",
]
FILTERS = sorted(set(environment.filters) - {"data_url", "base64"})
EXPRESSIONS = st.builds(
    lambda name, parts, filters: name + "".join(parts) + "".join(f" | {one}" for one in filters),
    st.sampled_from(NAMES),
    st.lists(st.sampled_from([*(f".{part}" for part in PARTS), "[0]", "[:2]", "['a']", "()"]), max_size=2),
    st.lists(st.sampled_from(FILTERS), max_size=3),
)
TEMPLATES = st.one_of(
    EXPRESSIONS.map("{{{{ {} }}}}".format),
    EXPRESSIONS.map("{{{{ '' ~ ({}) }}}}".format),
    EXPRESSIONS.map("{{{{ '%s' % ({}) }}}}".format),
    EXPRESSIONS.map("{{% for x in {} %}}{{{{ x }}}}{{{{ loop.cycle }}}}{{% endfor %}}".format),
    EXPRESSIONS.map("{{{{ [{}, 1] }}}}".format),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8))
ROWS = st.dictionaries(
    st.sampled_from(NAMES),
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(PARTS), inner), max_leaves=8
    ),
)


@settings(max_examples=60, deadline=None)
@given(text=TEMPLATES, row=ROWS)
def test_rendering_is_the_same_in_every_process(renderers: list[Renderer], text: str, row: Any) -> None:
    """No template makes a text that depends on a process: not on the hash seed, not on where an object lies."""
    one, other = (renderer.render(text, row) for renderer in renderers)
    assert one == other
    assert " at 0x" not in one


def test_samples_of_the_field() -> None:
    """`{{ order.id }}: {{ order.items }}` sends the items."""
    assert compile_text("{{ order.id }}: {{ order.items }}", "p")(ROW) == '1: ["milk", "é<"]'
