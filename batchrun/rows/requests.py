"""Row → its requests, one for each (variant, sample), each with its canonical body and hash (contract.md §4, §7.2).

Precedence, weakest first: the job's params, the row's own params or body, the variant. A row that no request can be
built from raises RowError; what that means is the caller's affair.
"""

import hashlib
from typing import Any

import msgspec

from batchrun.errors import JobError
from batchrun.job import Job
from batchrun.records import Request, Row, Variant
from batchrun.rows.sweep import variants
from batchrun.rows.template import Render, TemplateError, compile_text, compile_tree

_encode = msgspec.json.Encoder(order="deterministic").encode
_CHAT_PATHS = ("/v1/chat/completions", "/chat/completions")


class RowError(Exception):
    """A row that can't become a request; the message says why."""


class RequestBuilder:
    """Builds the requests of rows for one job. Raises JobError when the job's own templates are wrong."""

    def __init__(self, job: Job) -> None:
        self.variants = variants(job)
        self.samples = job.samples
        self._model = job.endpoint.model
        self._params = dict(job.params)
        self._messages = [_Messages(job, variant) for variant in self.variants]
        for table in (self._params, *(variant.params for variant in self.variants)):
            if "messages" in table:
                raise JobError("`messages` is not a parameter; write the prompt under [prompt]")

    @property
    def per_row(self) -> int:
        return len(self.variants) * self.samples

    def build(self, row: Row) -> list[Request]:
        """All requests of a row, in (variant, sample) order. Raises RowError."""
        if row.error is not None:
            raise RowError(row.error)
        requests: list[Request] = []
        for variant, messages in zip(self.variants, self._messages, strict=True):
            body = self._body(row, variant, messages)
            stream = body.pop("stream", False)
            body.pop("stream_options", None)
            if not isinstance(stream, bool):
                raise RowError(f"`stream` must be true or false, not {stream!r}")
            model = body.get("model")
            if not isinstance(model, str) or not model:
                raise RowError("no model: give --model, [endpoint] model, or a `model` in the row's params or body")
            try:
                encoded = _encode(body)
            except (TypeError, UnicodeEncodeError, ValueError) as error:
                raise RowError(f"the request cannot be written as JSON: {error}") from None
            digest = hashlib.blake2b(encoded, digest_size=16).hexdigest()
            requests += [
                Request(row.index, row.id, variant.name, sample, encoded, digest, model, stream)
                for sample in range(self.samples)
            ]
        return requests

    def _body(self, row: Row, variant: Variant, messages: "_Messages") -> dict[str, Any]:
        body: dict[str, Any] = dict(self._params)
        if self._model is not None:
            body["model"] = self._model
        data = row.data
        if not messages.templated and "body" in data and ("custom_id" in data or "url" in data):
            body.update(_batch_body(data))
            body["messages"] = messages.with_system(body.get("messages"), row)
        else:
            body["messages"] = messages.of(row)
            params = data.get("params") if not messages.templated else None
            if isinstance(params, str):
                params = _json(params, "params")
            if params is not None:
                if not isinstance(params, dict):
                    raise RowError("`params` must be an object")
                # a Parquet struct gives every row every field, null where the row has none
                body.update({key: value for key, value in params.items() if value is not None})
        body.update(variant.params)
        return body


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

    def of(self, row: Row) -> list[Any]:
        data = row.data
        try:
            if self._user is not None:
                return self._led([{"role": "user", "content": self._user(data)}], row)
            if self._tree is not None:
                rendered: list[Any] = self._tree(data)
                return self._led(rendered, row)
        except TemplateError as error:
            raise RowError(str(error)) from None
        if data.get("messages") is not None:
            return self.with_system(data["messages"], row)
        if data.get("prompt") is not None:
            if not isinstance(data["prompt"], str):
                raise RowError(f"`prompt` must be a string, not {type(data['prompt']).__name__}")
            messages = [{"role": "user", "content": data["prompt"]}]
            if data.get("system") is not None:
                messages.insert(0, {"role": "system", "content": data["system"]})
                return messages
            return self._led(messages, row)
        columns = ", ".join(data) or "none"
        raise RowError(f"no `prompt`, `messages` or `body` (columns: {columns}); give a template: --prompt '…'")

    def with_system(self, messages: Any, row: Row) -> list[Any]:
        """A row's own messages, checked, led by the job's system prompt where they have none."""
        if isinstance(messages, str):
            messages = _json(messages, "messages")
        if not isinstance(messages, list) or not messages:
            raise RowError("`messages` must be a list that is not empty")
        cleaned: list[Any] = []
        for message in messages:
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise RowError("every message must be an object with a `role`")
            cleaned.append(
                {key: _bare(value) for key, value in message.items() if value is not None or key == "content"}
            )
        return self._led(cleaned, row)

    def _led(self, messages: list[Any], row: Row) -> list[Any]:
        if self._system is None or (messages and messages[0].get("role") in ("system", "developer")):
            return messages
        try:
            return [{"role": "system", "content": self._system(row.data)}, *messages]
        except TemplateError as error:
            raise RowError(str(error)) from None


def _bare(value: Any) -> Any:
    """Without the nulls that a Parquet list of structs puts into every part."""
    if isinstance(value, dict):
        return {key: _bare(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_bare(inner) for inner in value]
    return value


def _batch_body(data: dict[str, Any]) -> dict[str, Any]:
    method, url = data.get("method", "POST"), data.get("url", _CHAT_PATHS[0])
    if str(method).upper() != "POST":
        raise RowError(f"`method` must be POST, not {method!r}")
    if url not in _CHAT_PATHS:
        raise RowError(f"`url` {url!r} is not yet supported; only /v1/chat/completions is")
    body = data["body"]
    if isinstance(body, str):
        body = _json(body, "body")
    if not isinstance(body, dict):
        raise RowError("`body` must be an object")
    # a Parquet struct gives every row every field, null where the row has none
    return {key: value for key, value in body.items() if value is not None}


def _json(text: str, name: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise RowError(f"`{name}` is a string but not JSON: {error}") from None
