"""Local files in templates: `data_url` and `base64` (contract.md §5)."""

import base64
import os
from pathlib import Path

import pytest

from batchrun.job import from_table
from batchrun.records import Row
from batchrun.rows.plain import RowError
from batchrun.rows.requests import RequestBuilder
from batchrun.rows.template import TemplateError, compile_text, reads_files

DATA = b"\x89PNG not really \xff\x00"
CODED = base64.b64encode(DATA).decode()

TYPES = {
    "a.png": "image/png",
    "a.JPG": "image/jpeg",
    "a.webp": "image/webp",
    "a.wav": "audio/wav",
    "a.mp3": "audio/mpeg",
    "a.pdf": "application/pdf",
    "a.txt": "text/plain",
    "a": "application/octet-stream",
    "ä b.gif": "image/gif",
}


@pytest.mark.parametrize(("name", "kind"), TYPES.items())
def test_data_url(tmp_path: Path, name: str, kind: str) -> None:
    """A file becomes a data URL whose media type its name tells."""
    (tmp_path / name).write_bytes(DATA)
    render = compile_text("{{ folder }}/{{ name }} {{ (folder ~ '/' ~ name) | data_url }}", "prompt.user")
    assert render({"folder": str(tmp_path), "name": name}) == f"{tmp_path}/{name} data:{kind};base64,{CODED}"


@pytest.mark.parametrize("url", ["https://host.example/a.png", "data:image/png;base64,AA==", "HTTP://h/a"])
def test_a_url_stays_as_it_is(url: str) -> None:
    """A column may hold paths and URLs: what is a URL already is passed on."""
    assert compile_text("{{ path | data_url }}", "prompt.user")({"path": url}) == url


def test_parts_from_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image, sound and file parts are filled from columns; relative paths are relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(DATA)
    content = [
        {"type": "image_url", "image_url": {"url": "{{ path | data_url }}"}},
        {"type": "input_audio", "input_audio": {"data": "{{ path | base64 }}", "format": "wav"}},
        {"type": "file", "file": {"filename": "{{ path }}", "file_data": "{{ path | data_url }}"}},
    ]
    table = {"endpoint": {"model": "m"}, "prompt": {"messages": [{"role": "user", "content": content}]}}
    builder = RequestBuilder(from_table(table))
    assert builder.reads_files
    (request,) = builder.build(Row(0, "0", {"path": "a.png"}, "a.jsonl:1"))
    assert request.body.count(f"data:image/png;base64,{CODED}".encode()) == 2
    assert f'"data":"{CODED}"'.encode() in request.body


@pytest.mark.parametrize("filtered", ["path | data_url", "path | base64"])
def test_a_file_that_cannot_be_used_names_itself(tmp_path: Path, filtered: str) -> None:
    """A file that is missing, too large or none is a fault of its row that names the path, and for the size the cap."""
    (tmp_path / "large.png").write_bytes(bytes(21 << 20))
    os.mkfifo(tmp_path / "pipe")
    table = {"endpoint": {"model": "m"}, "prompt": {"user": f"{{{{ {filtered} }}}}"}}
    builder = RequestBuilder(from_table(table))
    cases = {
        "missing.png": "missing.png: cannot be read: No such file",
        "large.png": "large.png: 21.0 MiB, over the 20 MiB",
        "": "not a file",
        "pipe": "pipe: not a file",
        "a\x00b": "cannot be read",
    }
    for name, says in cases.items():
        with pytest.raises(RowError) as caught:
            builder.build(Row(0, "0", {"path": f"{tmp_path}/{name}"}, "a.jsonl:1"))
        assert says in str(caught.value)
        assert "prompt.user" in str(caught.value)
    with pytest.raises(RowError, match="a path must be a string"):
        builder.build(Row(0, "0", {"path": 7}, "a.jsonl:1"))


def test_the_cap_can_be_raised(tmp_path: Path) -> None:
    """`max_mib` is a file's own limit."""
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(21 << 20))
    assert len(compile_text("{{ path | base64(max_mib=30) }}", "prompt.user")({"path": str(path)})) == 28 << 20


READ: dict[str, bool] = {
    "{{ a }}": False,
    "base64 {{ data_url }}": False,
    "{{ a | upper }}": False,
    "{{ a | trim | base64 }}": True,
    "{% if a %}{{ a | data_url }}{% endif %}": True,
}


@pytest.mark.parametrize(("text", "reads"), READ.items())
def test_templates_that_read_files_are_known(text: str, reads: bool) -> None:
    """A template that puts files into prompts makes its shards smaller: such a template is told by its filters."""
    assert reads_files([{"role": "user", "content": [{"text": text}]}, None]) is reads


HEADS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff\xe0": "image/jpeg",
    b"GIF89a": "image/gif",
    b"RIFF\x00\x00\x00\x00WEBPVP8 ": "image/webp",
    b"RIFF\x00\x00\x00\x00WAVEfmt ": "audio/wav",
    b"ID3\x04": "audio/mpeg",
    b"%PDF-1.7": "application/pdf",
    b"\x00\x00\x00\x20ftypM4A ": "audio/mp4",
    b"what is this": "application/octet-stream",
}


@pytest.mark.parametrize(("data", "kind"), HEADS.items())
def test_bytes_of_a_column(data: bytes, kind: str) -> None:
    """Bytes go in like a file: their media type is told by their path, else by how they begin."""
    coded = base64.b64encode(data).decode()
    assert (
        compile_text("{{ img.bytes | data_url }}", "p")({"img": {"bytes": data, "path": None}})
        == f"data:{kind};base64,{coded}"
    )
    assert (
        compile_text("{{ img | data_url }}", "p")({"img": {"bytes": data, "path": None}})
        == f"data:{kind};base64,{coded}"
    )
    assert compile_text("{{ img | data_url }}", "p")({"img": {"bytes": data, "path": "x.ogg"}}).startswith(
        "data:audio/ogg;"
    )
    assert compile_text("{{ raw | base64 }}", "p")({"raw": data}) == coded


ABSENT = [
    ({"bytes": None, "path": None}, "this is null"),
    (None, "this is null"),
    ({"url": "x"}, "this is dict"),
    (bytes(21 << 20), "over the 20 MiB"),
]


@pytest.mark.parametrize(("value", "says"), ABSENT, ids=[says for _, says in ABSENT])
def test_an_image_that_is_not_there(value: object, says: str) -> None:
    """Neither bytes nor a path, too many bytes, or another object is a fault that says so, without the bytes."""
    with pytest.raises(TemplateError) as caught:
        compile_text("{{ img | data_url }}", "p")({"img": value})
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300
