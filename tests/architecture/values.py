"""Values of any type that may cross between modules, made from the type alone."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec import inspect

MOMENT = datetime(2030, 1, 31, 12, 30, 15, 123456, tzinfo=UTC)
_PLAIN: dict[type[inspect.Type], Any] = {
    inspect.AnyType: {"any": ["thing", 1, None, True]},
    inspect.NoneType: None,
    inspect.BoolType: True,
    inspect.IntType: 7,
    inspect.FloatType: 0.5,
    inspect.StrType: "text",
    inspect.BytesType: b"\x00bytes",
    inspect.DateTimeType: MOMENT,
    inspect.TimeType: time(12, 30),
    inspect.DateType: date(2030, 1, 31),
    inspect.TimeDeltaType: timedelta(seconds=90),
    inspect.UUIDType: UUID(int=7),
    inspect.DecimalType: Decimal("0.5"),
}


def examples(kind: Any) -> Iterator[Any]:
    """Values of a type: every optional thing there, every optional thing absent, every member of a choice."""
    yield from _examples(inspect.type_info(kind))


def _examples(kind: inspect.Type) -> Iterator[Any]:
    match kind:
        case inspect.Metadata():
            yield from _examples(kind.type)
        case inspect.UnionType():
            for member in kind.types:
                yield from _examples(member)
        case inspect.LiteralType():
            yield from kind.values
        case inspect.EnumType():
            yield from kind.cls
        case inspect.StructType():
            yield from _structs(kind)
        case (
            inspect.ListType()
            | inspect.SetType()
            | inspect.FrozenSetType()
            | inspect.VarTupleType()
            | inspect.CollectionType()
        ):
            yield from _collections(kind)
        case inspect.TupleType():
            yield tuple(next(_examples(item)) for item in kind.item_types)
        case inspect.DictType():
            yield {next(_examples(kind.key_type)): next(_examples(kind.value_type))}
            yield {}
        case _:
            yield _PLAIN[type(kind)]


def _collections(kind: Any) -> Iterator[Any]:
    shapes = {inspect.SetType: set, inspect.FrozenSetType: frozenset, inspect.VarTupleType: tuple}
    shape = shapes.get(type(kind), list)
    yield shape(_examples(kind.item_type))
    yield shape()


def _structs(kind: inspect.StructType) -> Iterator[Any]:
    """Once with the first value of each field, then once for each further value of each."""
    choices = {field.name: list(_examples(field.type)) for field in kind.fields}
    first = {name: values[0] for name, values in choices.items()}
    yield kind.cls(**first)
    for name, values in choices.items():
        for value in values[1:]:
            yield kind.cls(**first | {name: value})
