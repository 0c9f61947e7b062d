"""Words that people write: types for names and texts, and their one normal form.

A name or a text that looks the same is stored the same (Unicode NFC), and none holds characters that steer a terminal or turn
the direction of writing. The types are plain `str` with a mark; `normalized` finds the marks inside a struct.
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
_MARK = {"text": "human"}
_STEERING = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
"""Control characters but for tab and line feed, zero-width spaces, direction marks, byte order mark, annotations."""
_INSIDE = rf"[^\t\n\u200c\u200d{_STEERING}]"
_EDGE = rf"[^\s\u00a0\u200c\u200d{_STEERING}]"

Name = Annotated[
    str,
    Meta(min_length=1, max_length=NAME_LENGTH_MAX, pattern=rf"^{_EDGE}({_INSIDE}*{_EDGE})?\Z", extra=_MARK),
    Meta(extra_json_schema={"pattern": rf"^{_EDGE}({_INSIDE}*{_EDGE})?$", "examples": ["alice"]}),
]
"""One line that names something: up to 100 characters, without blanks at its ends."""
Text = Annotated[
    str,
    Meta(max_length=TEXT_LENGTH_MAX, pattern=rf"^[^{_STEERING}]*\Z", extra=_MARK),
    Meta(extra_json_schema={"pattern": rf"^[^{_STEERING}]*$", "examples": ["Back after the maintenance."]}),
]
"""Lines of text: up to 2000 characters."""

Step = Callable[[Any], Any]


def normalized(value: Any, kind: Any) -> Any:
    """The value, of type `kind`, with every `Name` and `Text` in it in normal form. Raises `InvalidText` when one grows too long."""  # noqa: E501
    step = _step_for(kind)
    return value if step is None else step(value)


@functools.lru_cache(maxsize=1024)
def _step_for(kind: Any) -> Step | None:
    return _step(inspect.type_info(kind), {})


def _step(kind: inspect.Type, known: dict[type, dict[str, Step]]) -> Step | None:
    """What to do with a value of this type, or nothing when no text can be inside."""
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
    """The step of the one alternative that a value can be told to be; structs are told by their class."""
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


def folded(name: str) -> str:
    """A name as it is compared where no two may look alike: compatibility forms and letter case aside (Unicode, D146)."""
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


def explained(message: str) -> str:
    """A decoder's message in words where it would show the pattern of a `Name` or a `Text`, or repeat what was sent."""
    if message.startswith("Invalid enum value"):
        return "Expected one of the values that the description lists"
    if "matching regex" not in message or "u202e" not in message:
        return message.replace(r"\\Z'", "$'")
    return "Expected text without control characters, direction marks and, in a name, blanks at its ends"
