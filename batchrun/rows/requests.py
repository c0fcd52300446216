"""Row → its requests, one for each (variant, sample), each with its canonical body and hash (contract.md §4, §7.2).

Precedence, weakest first: the job's params, the row's own params or body, the variant. A row that no request can be
built from raises RowError; what that means is the caller's affair.
"""

import hashlib
from typing import Any

import msgspec

from batchrun.errors import JobError
from batchrun.job import Job
from batchrun.records import CHAT, RESPONSES, Request, Row, Variant
from batchrun.rows import batch_line, parameters
from batchrun.rows.batch_line import check_shape, is_batch_line, read_batch_line
from batchrun.rows.parameters import top_level
from batchrun.rows.plain import RowError, from_json, is_missing, plain
from batchrun.rows.sweep import variants
from batchrun.rows.template import (
    Render,
    TemplateError,
    columns_of,
    columns_text,
    compile_text,
    compile_tree,
    reads_files,
)

_encode = msgspec.json.Encoder(order="deterministic", decimal_format="number").encode
_OWN_COLUMNS = parameters.COLUMNS | batch_line.COLUMNS


class RequestBuilder:
    """Builds the requests of rows for one job. Raises JobError when the job's own templates are wrong."""

    def __init__(self, job: Job) -> None:
        self.variants = variants(job)
        self.samples = job.samples
        self._model = job.endpoint.model
        self._params = dict(job.params)
        self._messages = [_Messages(job, variant) for variant in self.variants]
        self._id_column = job.input.id
        for table in (self._params, *(variant.params for variant in self.variants)):
            if "messages" in table:
                raise JobError("`messages` is not a parameter; write the prompt under [prompt]")

    @property
    def reads_files(self) -> bool:
        """Whether a template puts local files into requests, which are then large."""
        return any(messages.reads_files for messages in self._messages)

    @property
    def same_for_all(self) -> str | None:
        """The template, of any variant, that asks every row the same; None where each takes something from its row."""
        return next((messages.text for messages in self._messages if messages.is_constant), None)

    @property
    def columns(self) -> frozenset[str] | None:
        """The columns that requests are made of, None for all."""
        found: set[str] = set()
        for messages in self._messages:
            if messages.columns is None:
                return None
            found |= messages.columns
        return frozenset(found)

    @property
    def models(self) -> frozenset[str]:
        """The models that the job and its variants ask for, and no row by itself."""
        asked = (variant.params.get("model", self._model) for variant in self.variants)
        return frozenset(model for model in asked if isinstance(model, str))

    @property
    def per_row(self) -> int:
        return len(self.variants) * self.samples

    def build(self, row: Row, shard: int = 0) -> list[Request]:
        """All requests of a row of a shard, in (variant, sample) order. Raises RowError."""
        if row.error is not None:
            raise RowError(row.error)
        requests: list[Request] = []
        for variant, messages in zip(self.variants, self._messages, strict=True):
            path, body = self._body(row, variant, messages)
            stream = body.pop("stream", False)
            body.pop("stream_options", None)
            if not isinstance(stream, bool):
                raise RowError(f"`stream` must be true or false, not {stream!r}")
            if path != CHAT:
                check_shape(path, body)
                stream = False  # their streams are nobody's need, and each has its own form
            model = body.get("model")
            if not isinstance(model, str) or not model:
                raise RowError("no model: give --model, [endpoint] model, or a `model` in the row's params or body")
            try:
                encoded = _encode(body)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                raise RowError(f"the request cannot be written as JSON: {error}") from None
            # a chat is known by its body alone; of two paths with one body each is a request of its own
            told = encoded if path == CHAT else path.encode() + b"\n" + encoded
            digest = hashlib.blake2b(told, digest_size=16).hexdigest()
            requests += [
                Request(row.index, row.id, variant.name, sample, encoded, digest, model, stream, path, shard)
                for sample in range(self.samples)
            ]
        return requests

    def _body(self, row: Row, variant: Variant, messages: "_Messages") -> tuple[str, dict[str, Any]]:
        path = CHAT
        body: dict[str, Any] = dict(self._params)
        if self._model is not None:
            body["model"] = self._model
        data = row.data
        if not messages.templated and is_batch_line(data):
            filled = row.filled and not isinstance(data["body"], str)
            path, own = read_batch_line(data, filled=filled)
            body.update(own)
            if path == CHAT:
                body["messages"] = messages.with_system(body.get("messages"), row, filled=filled)
            if path == RESPONSES:
                messages.instruct(body, row)
        else:
            body["messages"] = messages.of(row)
            if not messages.templated:
                names = data if row.names is None else row.names
                body.update(top_level(data, names, filled=row.filled, id_column=self._id_column))
                body.update(_params(row))
        body.update(variant.params)
        return path, body


class _Asked(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


_decode_asked = msgspec.json.Decoder(_Asked).decode


def asked(request: Request) -> str:
    """What a request asks, as JSON: its messages, or what stands for them on other paths."""
    body = _decode_asked(request.body)
    return bytes(body.messages or body.input or body.prompt).decode()


def _params(row: Row) -> dict[str, Any]:
    """A row's own `params`. Raises RowError."""
    params, filled = row.data.get("params"), row.filled
    if isinstance(params, str):
        params, filled = from_json(params, "params"), False
    if params is None:
        return {}
    if not isinstance(params, dict):
        raise RowError("`params` must be an object")
    return plain(params, "params") if filled else params


class _Messages:
    """The messages of a row for one variant: from templates, `messages`, or `prompt` and `system`."""

    def __init__(self, job: Job, variant: Variant) -> None:
        prompt = job.prompt
        user = variant.prompt.get("user", prompt.user)
        tree = variant.prompt.get("messages", prompt.messages)
        system = variant.prompt.get("system", prompt.system)
        for key, value, kind in (("user", user, str), ("system", system, str), ("messages", tree, list)):
            if value is not None and not isinstance(value, kind):
                raise JobError(f"prompt.{key} must be a {'string' if kind is str else 'list'}")
        if user is not None and tree is not None:
            raise JobError("[prompt] has both `user` and `messages`; keep one")
        self.templated = user is not None or tree is not None
        self._user: Render | None = None if user is None else compile_text(user, "prompt.user")
        self._tree: Render | None = None if tree is None else compile_tree(tree, "prompt.messages")
        self._system: Render | None = None if system is None else compile_text(system, "prompt.system")
        self.reads_files = reads_files([user, tree, system])
        renders = [one for one in (self._user, self._tree, self._system) if one is not None]
        read = columns_of(renders)
        self.columns = read if self.templated or read is None else read | _OWN_COLUMNS
        self.is_constant = self.templated and read == frozenset()
        self.text = user if isinstance(user, str) else "prompt.messages"

    def of(self, row: Row) -> list[Any]:
        data = row.data
        try:
            if self._user is not None:
                return self._led([{"role": "user", "content": self._user(data, row.names)}], row)
            if self._tree is not None:
                rendered: list[Any] = self._tree(data, row.names)
                return self._led(rendered, row)
        except TemplateError as error:
            raise RowError(str(error)) from None
        if data.get("messages") is not None:
            filled = row.filled and not isinstance(data["messages"], str)
            return self.with_system(data["messages"], row, filled=filled)
        if data.get("prompt") is not None:
            if not isinstance(data["prompt"], str):
                raise RowError(f"`prompt` must be a string, not {type(data['prompt']).__name__}")
            messages = [{"role": "user", "content": data["prompt"]}]
            if data.get("system") is not None:
                if not isinstance(data["system"], str):
                    raise RowError(f"`system` must be a string, not {type(data['system']).__name__}")
                messages.insert(0, {"role": "system", "content": data["system"]})
                return messages
            return self._led(messages, row)
        null = next((name for name in ("prompt", "messages", "body") if name in data), None)
        if null is not None:
            raise RowError(f"`{null}` is null; take the row out, or give it something to ask")
        names = columns_text(data if row.names is None else row.names)
        raise RowError(f"no `prompt`, `messages` or `body`: {names}; give a template: --prompt '…'")

    def with_system(self, messages: Any, row: Row, *, filled: bool) -> list[Any]:
        """A row's own messages, checked, led by the job's system prompt where they have none. With `filled`, their nulls
        may stand only because a schema gives every part every field.
        """
        if isinstance(messages, str):
            messages = from_json(messages, "messages")
        if not isinstance(messages, list) or not messages:
            raise RowError("`messages` must be a list that is not empty")
        cleaned: list[Any] = []
        for message in messages:
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise RowError("every message must be an object with a `role`")
            if filled:
                message = {
                    key: plain(value, f"messages.{key}")
                    for key, value in message.items()
                    if key == "content" or not is_missing(value)
                }
            cleaned.append(message)
        return self._led(cleaned, row)

    def instruct(self, body: dict[str, Any], row: Row) -> None:
        """Give the job's system prompt to a body of the Responses API that has none of its own."""
        given = body.get("input")
        led = self._led(given if isinstance(given, list) else [], row)
        if led and led is not given and "instructions" not in body:
            body["instructions"] = led[0]["content"]

    def _led(self, messages: list[Any], row: Row) -> list[Any]:
        first = messages[0] if messages else None
        if self._system is None or (isinstance(first, dict) and first.get("role") in ("system", "developer")):
            return messages
        try:
            return [{"role": "system", "content": self._system(row.data, row.names)}, *messages]
        except TemplateError as error:
            raise RowError(str(error)) from None
