"""Handler signatures: the body, query and path parameters that a route takes, read once from its Python function.

The web framework converts loosely (the text "5" becomes a number, a limit written in a type is dropped). So a request
is checked against this signature first.
"""

import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from litestar.handlers import BaseRouteHandler
from litestar.params import BodyKwarg, KwargDefinition, ParameterKwarg
from litestar.utils.helpers import unwrap_partial

from aitbc.kernel.primitives.errors import FieldError
from aitbc.kernel.primitives.strict_json import INTEGER_MAX, INTEGER_MIN

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})\Z", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?\Z", re.ASCII)


class InvalidParameter(ValueError):
    """A parameter's text does not have the right form; the message says which form is expected."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A path or query parameter."""

    name: str
    """As clients write it."""
    argument: str
    """As the handler calls it."""
    where: str
    """`path` or `query`."""
    annotation: Any
    """The type of one value, with its limits and without `None`."""
    required: bool
    default: Any
    many: bool
    """May be given several times."""

    @property
    def is_time(self) -> bool:
        """Whether it is a time, which must carry its offset from UTC."""
        return _bare(self.annotation) is datetime

    def read(self, text: str) -> Any:
        """Parse a text. Raises `InvalidParameter`."""
        kind = _bare(self.annotation)
        if kind is int:
            if not _INTEGER.match(text) or not INTEGER_MIN <= int(text) <= INTEGER_MAX:
                raise InvalidParameter("Expected a whole number of at most 64 bits")
        elif kind is float and not _NUMBER.match(text):
            raise InvalidParameter("Expected a number")
        elif kind is bool and text not in ("true", "false"):
            raise InvalidParameter("Expected `true` or `false`")
        try:
            value = msgspec.convert(
                text, self.annotation, strict=self.is_time
            )  # strict: seconds since 1970 are not accepted as a time
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            raise InvalidParameter(str(error)[:200]) from None
        if isinstance(value, datetime) and value.tzinfo is None:
            raise InvalidParameter("Expected a time with its offset from UTC, for instance 2030-01-31T12:00:00Z")
        return value


@dataclass(frozen=True, slots=True)
class HandlerSignature:
    """What one route handler takes and returns."""

    body: Any
    """The type of the JSON body, or none."""
    body_required: bool
    query: Mapping[str, Parameter]
    path: Mapping[str, Parameter]
    takes: frozenset[str]
    """The names of all the handler's Python parameters."""
    answer: Any
    any_query: bool
    """The handler parses the query itself."""


def signature_of(handler: BaseRouteHandler) -> HandlerSignature:
    """The signature of a handler; read once, then kept in its `opt`."""
    signature = handler.opt.get("signature")
    if signature is None:
        signature = handler.opt["signature"] = _read(handler)
    assert isinstance(signature, HandlerSignature)
    return signature


def _read(handler: BaseRouteHandler) -> HandlerSignature:
    # The framework's own OPTIONS handler takes no parameters of ours, and its annotations cannot be evaluated.
    ours = handler.handler_name != "options_handler"
    hints = typing.get_type_hints(unwrap_partial(handler.fn), include_extras=True) if ours else {}
    answer = hints.pop("return", None)
    defaults = {
        name: field.default for name, field in handler.parsed_fn_signature.parameters.items() if field.has_default
    }
    found: dict[str, dict[str, Parameter]] = {"query": {}, "path": {}}
    body = None
    for name, hint in hints.items():
        kind, marker = _without_marker(hint)
        if name == "data" or isinstance(marker, BodyKwarg):
            body = kind
        elif isinstance(marker, ParameterKwarg) and marker.param_type.value in found:
            alias = marker.name or marker.query or name
            found[marker.param_type.value][alias] = _parameter(alias, marker.param_type.value, kind, name, defaults)
    return HandlerSignature(
        body=body,
        body_required="data" not in defaults,
        query=found["query"],
        path=found["path"],
        takes=frozenset(hints),
        answer=answer,
        any_query="query" in hints,
    )


def _parameter(alias: str, where: str, kind: Any, name: str, defaults: Mapping[str, Any]) -> Parameter:
    single = without_none(kind)
    many = get_origin(_bare(single)) in (list, tuple, set, frozenset)
    if many:
        single = get_args(_bare(single))[0]
    return Parameter(alias, name, where, single, name not in defaults, defaults.get(name), many)


def _without_marker(hint: Any) -> tuple[Any, KwargDefinition | None]:
    """A type without the framework's parameter marker, and the marker."""
    if get_origin(hint) is not Annotated:
        return hint, None
    kind, *notes = get_args(hint)
    marker = next((note for note in notes if isinstance(note, KwargDefinition)), None)
    rest = [note for note in notes if isinstance(note, msgspec.Meta)]
    return (Annotated[(kind, *rest)] if rest else kind), marker


def without_none(kind: Any) -> Any:
    """The type without `None`, where it is a union with it."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        return Annotated[(without_none(inner), *notes)]
    if get_origin(kind) in (Union, types.UnionType):
        kept = tuple(one for one in get_args(kind) if one is not types.NoneType)
        return Union[kept]  # noqa: UP007 - a union of a tuple has no other spelling
    return kind


def _bare(kind: Any) -> Any:
    return _bare(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


def query_values(
    signature: HandlerSignature, pairs: Sequence[tuple[str, str]]
) -> tuple[dict[str, Any], list[FieldError]]:
    """Parse the pairs of a query whose names are all known; returns values by argument, and what is wrong with them."""
    values: dict[str, Any] = {}
    faults = []
    for name, text in pairs:
        parameter = signature.query[name]
        try:
            value = parameter.read(text)
        except InvalidParameter as error:
            faults.append(FieldError(f"?{name}", str(error)))
            continue
        values[parameter.argument] = [*values.get(parameter.argument, ()), value] if parameter.many else value
    given = {name for name, _ in pairs}
    missing = [p.name for p in signature.query.values() if p.required and p.name not in given]
    return values, faults + [FieldError(f"?{name}", "This parameter is required") for name in missing]
