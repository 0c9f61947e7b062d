"""JSON request bodies, decoded exactly as their types say, with a JSON pointer for each fault."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from litestar.dto import AbstractDTO
from litestar.dto.data_structures import DTOFieldDefinition
from litestar.typing import FieldDefinition
from msgspec import Struct

from aitbc.kernel.crypto.api_key import masked, may_hold_key
from aitbc.kernel.http.problems import FAULTS_MAX, MESSAGE_LENGTH_MAX
from aitbc.kernel.http.signature import signature_of, without_none
from aitbc.kernel.primitives.errors import FieldError, Invalid, Malformed
from aitbc.kernel.primitives.request_errors import UnsupportedMedia
from aitbc.kernel.primitives.text import normalized, readable_message


class StrictBody(AbstractDTO[Any]):
    """Strict JSON bodies: the framework's own decoding would accept "5" and 1.0 as integers."""

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        """Nothing to prepare: the handler's signature holds the type."""

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Iterator[DTOFieldDefinition]:  # type: ignore[override]
        """None: structs are decoded as a whole."""
        return iter(())

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """False: structs are decoded as a whole."""
        return False

    def decode_bytes(self, value: bytes) -> Any:
        """The body as the handler's `data`. Raises `Invalid` with a JSON pointer for each fault."""
        return read_body(value, signature_of(self.asgi_connection.route_handler).body)

    def decode_builtins(self, value: Mapping[str, Any]) -> Any:
        """Forms are not accepted. Raises `UnsupportedMedia`."""
        raise UnsupportedMedia


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def read_body(body: bytes, kind: Any) -> Any:
    """Decode JSON into a value of this type. Raises `Invalid` with a JSON pointer for each fault.

    Whatever looks like an API key or a bearer is masked before anybody reads it, so that none is stored, logged or
    echoed; a struct names those of its fields that take one in `takes_keys`.
    """
    if may_hold_key(body):
        body = _without_keys(body, getattr(without_none(kind), "takes_keys", frozenset()))
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return normalized(decoder.decode(body), kind)
    except msgspec.ValidationError as error:
        value = msgspec.json.decode(body)
        raise Invalid(fields=tuple(_faults(value, kind, "")[:FAULTS_MAX]) or (_fault("", error),)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed from None


def _without_keys(body: bytes, takes_keys: frozenset[str]) -> bytes:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body  # it is refused as a whole
    if isinstance(value, dict):
        clean = {masked(name): each if name in takes_keys else masked(each) for name, each in value.items()}
    else:
        clean = masked(value)
    return body if clean == value else msgspec.json.encode(clean)


def _faults(value: Any, kind: Any, pointer: str) -> list[FieldError]:
    """All faults of a value, down to the fields of nested structs."""
    struct = without_none(kind)
    if not (isinstance(struct, type) and issubclass(struct, Struct) and isinstance(value, dict)):
        return _first_fault(value, kind, pointer)
    if struct.__struct_config__.tag_field is not None:
        return _first_fault(value, kind, pointer)
    faults = []
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    if struct.__struct_config__.forbid_unknown_fields:
        for name in value.keys() - fields.keys():
            faults.append(FieldError(f"{pointer}/{_pointer_token(name)}", "There is no such field"))  # noqa: PERF401
    for name, field in fields.items():
        if name in value:
            faults += _faults(value[name], field.type, f"{pointer}/{_pointer_token(name)}")
        elif field.required:
            faults.append(FieldError(f"{pointer}/{_pointer_token(name)}", "This field is required"))
    return faults or _first_fault(value, kind, pointer)


def _first_fault(value: Any, kind: Any, pointer: str) -> list[FieldError]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return [_fault(pointer, error)]
    return []


def _pointer_token(name: str) -> str:
    return name[:64].replace("~", "~0").replace("/", "~1")


_PATH = re.compile(r" - at `(?:key in )?\$?(.*)`\Z", re.DOTALL)
_STEPS = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def _fault(pointer: str, error: msgspec.ValidationError) -> FieldError:
    """The decoder's message, its path turned from `$.a[0]` into the JSON pointer `/a/0`."""
    text = str(error)
    path = _PATH.search(text)
    for step in _STEPS.finditer(path[1]) if path else ():
        if step[2] == "...":  # some key of a mapping; the decoder does not say which
            break
        pointer += f"/{_pointer_token(step[1] or step[2])}"
    message = text[: path.start()] if path else text
    return FieldError(pointer, readable_message(message)[:MESSAGE_LENGTH_MAX])
