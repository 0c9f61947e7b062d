"""Templates: values whose texts name places, `{{name.path}}`, and what is put there. There is nothing to evaluate."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from aitbc.kernel.primitives.errors import TooLarge

DEPTH_MAX = 16
"""How deep values may be nested."""
FILLED_LENGTH_MAX = 16 * 1024 * 1024
"""How many characters may be put into one template: a short one may name a long text ten thousand times."""
_PLACE = re.compile(r"\{\{\s*([^{}\s]{1,200})\s*\}\}")


class TooDeep(Exception):
    """A value is nested deeper than is allowed."""


class FilledTooLarge(TooLarge):
    """With what is put into it the template comes to more than sixteen million characters."""

    code = "filled_too_large"


def texts_in(value: Any, depth: int = 0) -> Iterator[str]:
    """Every text in a value, keys aside. Raises `TooDeep`."""
    if depth > DEPTH_MAX:
        raise TooDeep
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from texts_in(each, depth + 1)
        case list() | tuple():
            for each in value:
                yield from texts_in(each, depth + 1)


def places_in(value: Any) -> list[str]:
    """The places in a value, in their order. Raises `TooDeep`."""
    return [place for text in texts_in(value) for place in _PLACE.findall(text)]


def fill(template: Any, at: Callable[[str], Any]) -> Any:
    """A template with its places filled in, once: what was put in is not looked at again.

    `at` answers what stands at a place. A text that is one place and nothing else becomes the value itself; within a
    longer text the value is written out. Raises `FilledTooLarge`, and what `at` raises.
    """
    left = FILLED_LENGTH_MAX

    def counted(place: str) -> tuple[Any, str]:
        nonlocal left
        value = at(place)
        text = as_text(value)
        left -= len(text)
        if left < 0:
            raise FilledTooLarge
        return value, text

    def filled(value: Any) -> Any:
        match value:
            case str():
                whole = _PLACE.fullmatch(value)
                return counted(whole[1])[0] if whole else _PLACE.sub(lambda found: counted(found[1])[1], value)
            case dict():
                return {key: filled(each) for key, each in value.items()}
            case list() | tuple():
                return [filled(each) for each in value]
        return value

    return filled(template)


def as_text(value: Any) -> str:
    """A value within a longer text: texts as they are, lists of texts a line each, else as JSON."""
    match value:
        case str():
            return value
        case None:
            return ""
        case list() if all(isinstance(each, str) for each in value):
            return "\n".join(value)
    return msgspec.json.encode(value).decode()


def text_of_output(output: Any) -> str:
    """The text of a job's output: the answer of a chat, the text of a picture, what a program printed, or the JSON."""
    match output:
        case {"message": {"content": str(content)}}:
            return content
        case {"text": str(found)}:
            return found
        case {"stdout": str(printed)}:
            return printed
    return msgspec.json.encode(output).decode()
