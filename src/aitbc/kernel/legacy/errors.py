"""Refusals of a single field, and values converted to a type with such a refusal."""

from typing import Any, TypeVar

import msgspec

from aitbc.kernel.crypto.api_key import masked
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.text import Name, normalized

T = TypeVar("T")
MESSAGE_LENGTH_MAX = 200
NAME_EXPECTED = "Expected one line of up to 100 characters, without blanks at its ends"


def invalid(field: str, message: str) -> Invalid:
    """The 422 for one field: a JSON pointer into the body (`/a/b`), or `?name` for a parameter of the query."""
    return Invalid(fields=(FieldError(field, message),))


def required(field: str) -> Invalid:
    """The 422 for a parameter that is missing."""
    return invalid(field, "This parameter is required")


def converted(value: object, kind: type[T], field: str) -> T:
    """Builtin values as a struct, nothing coerced. Raises `Invalid` at `field` with the decoder's message."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise invalid(field, str(error)[:MESSAGE_LENGTH_MAX]) from None


def name_of(text: Any, field: str) -> str:
    """A name in its normal form: one line of 1 to 100 characters, without an API key. Raises `Invalid` at `field`."""
    try:
        return str(normalized(msgspec.convert(masked(text), Name), Name))
    except msgspec.ValidationError:
        raise invalid(field, NAME_EXPECTED) from None
