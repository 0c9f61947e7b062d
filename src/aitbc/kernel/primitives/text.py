"""Types for human-written names and texts, and their Unicode normalization (NFC).

Text that looks the same is stored the same, and none holds characters that control a terminal or change the direction
of writing. The types are plain `str` with a marker in their metadata; `normalized` finds the markers inside a struct.
"""

import functools
import unicodedata
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, inspect

from aitbc.kernel.primitives.errors import FieldError
from aitbc.kernel.primitives.request_errors import InvalidText

NAME_LENGTH_MAX = 100
TEXT_LENGTH_MAX = 2000
_MARKER = {"text": "human"}
_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
"""Control characters but for tab and line feed, zero-width spaces, direction marks, byte order mark, annotations."""
_INSIDE = rf"[^\t\n\u200c\u200d{_CONTROL}]"
_EDGE = rf"[^\s\u00a0\u200c\u200d{_CONTROL}]"

Name = Annotated[
    str,
    Meta(min_length=1, max_length=NAME_LENGTH_MAX, pattern=rf"^{_EDGE}({_INSIDE}*{_EDGE})?\Z", extra=_MARKER),
    Meta(extra_json_schema={"pattern": rf"^{_EDGE}({_INSIDE}*{_EDGE})?$", "examples": ["alice"]}),
]
"""A one-line name: up to 100 characters, without spaces at its ends."""
Text = Annotated[
    str,
    Meta(max_length=TEXT_LENGTH_MAX, pattern=rf"^[^{_CONTROL}]*\Z", extra=_MARKER),
    Meta(extra_json_schema={"pattern": rf"^[^{_CONTROL}]*$", "examples": ["Back after the maintenance."]}),
]
"""Lines of text: up to 2000 characters."""

Step = Callable[[Any], Any]


def normalized(value: Any, kind: Any) -> Any:
    """The value, of type `kind`, with every `Name` and `Text` in it normalized. Raises `InvalidText`."""
    step = _step_for(kind)
    return value if step is None else step(value)


@functools.lru_cache(maxsize=1024)
def _step_for(kind: Any) -> Step | None:
    return _step(inspect.type_info(kind), {})


def _step(kind: inspect.Type, known: dict[type, dict[str, Step]]) -> Step | None:
    """The function that normalizes a value of this type; none when it cannot contain text."""
    match kind:
        case inspect.Metadata(type=inspect.StrType() as plain, extra={"text": "human"}):
            return functools.partial(_normal_text, longest=plain.max_length)
        case inspect.Metadata():
            return _step(kind.type, known)
        case inspect.StructType():
            return _struct_step(kind, known)
        case inspect.ListType() | inspect.VarTupleType():
            item = _step(kind.item_type, known)
            return item and functools.partial(_each, item)
        case inspect.DictType():
            item = _step(kind.value_type, known)
            return item and functools.partial(_each_value, item)
        case inspect.UnionType():
            return _union_step(kind, known)
    return None


def _struct_step(kind: inspect.StructType, known: dict[type, dict[str, Step]]) -> Step | None:
    recursive = kind.cls in known
    steps = known.setdefault(kind.cls, {})
    if not recursive:
        for field in kind.fields:
            if step := _step(field.type, known):
                steps[field.name] = step
    return functools.partial(_in_struct, steps) if steps or recursive else None


def _union_step(kind: inspect.UnionType, known: dict[type, dict[str, Step]]) -> Step | None:
    """The function for a union: it dispatches on the class of the value."""
    steps: dict[type, Step] = {}
    shapes = {inspect.ListType: list, inspect.VarTupleType: tuple, inspect.DictType: dict}
    for one in kind.types:
        plain = one.type if isinstance(one, inspect.Metadata) else one
        shape = plain.cls if isinstance(plain, inspect.StructType) else shapes.get(type(plain), str)
        if step := _step(one, known):
            steps[shape] = step
    return (lambda value: steps[type(value)](value) if type(value) in steps else value) if steps else None


def _normal_text(text: str, longest: int | None) -> str:
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    if longest is not None and len(text) > longest:
        raise InvalidText(fields=(FieldError("", f"In its normal form (NFC) this has more than {longest} characters"),))
    return text


def case_folded(name: str) -> str:
    """The name in one letter case and compatibility form (Unicode D146), to compare names that look alike."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _in_struct(steps: dict[str, Step], value: Struct) -> Struct:
    for name, step in steps.items():
        before = getattr(value, name)
        after = step(before)
        if after is not before:
            msgspec.structs.force_setattr(value, name, after)
    return value


def _each(item: Step, values: Any) -> Any:
    return type(values)(map(item, values))


def _each_value(item: Step, values: dict[Any, Any]) -> dict[Any, Any]:
    return {key: item(value) for key, value in values.items()}


def readable_message(message: str) -> str:
    """The decoder's message, rewritten where it would show the pattern of a `Name` or `Text`, or repeat the input."""
    if message.startswith("Invalid enum value"):
        return "Expected one of the values that the description lists"
    if "matching regex" not in message or "u202e" not in message:
        return message.replace(r"\\Z'", "$'")
    return "Expected text without control characters, direction marks and, in a name, blanks at its ends"
