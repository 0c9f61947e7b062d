"""JSON schemas: every time is marked as one, wherever it occurs, and nothing else is."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from msgspec import Meta, Struct

from aitbc.kernel.primitives.json_schema import DATE_TIME, schema_of, schemas_of

T = TypeVar("T")
TIME = {"type": "string", **DATE_TIME}


class Leaf(Struct):
    at: datetime


class Wood(Struct, tag=True):
    cut_at: datetime


class Stone(Struct, tag=True):
    name: str


class Tree(Struct, Generic[T]):
    items: list[T]
    again: "Tree[T] | None" = None


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (datetime, TIME),
        (str, {"type": "string"}),
        (datetime | None, {"anyOf": [TIME, {"type": "null"}]}),
        (int | datetime | None, {"anyOf": [{"type": "integer"}, TIME, {"type": "null"}]}),
        (Annotated[datetime, Meta(description="When.")], {"description": "When.", **TIME}),
        (list[datetime], {"type": "array", "items": TIME}),
        (dict[str, datetime], {"type": "object", "additionalProperties": TIME}),
        (Literal["a"], {"type": "string", "enum": ["a"]}),
    ],
)
def test_a_time_is_told_wherever_it_stands(kind: Any, told: dict[str, Any]) -> None:
    assert schema_of(kind) == told


def test_what_structs_hold_is_told_once_however_often_they_are_named() -> None:
    kinds = [Tree[Leaf], Tree[datetime], int | Leaf | None, Wood | Stone | None, tuple[datetime, int]]
    found, named = schemas_of(kinds, ref_template="#/{name}")
    assert named["Leaf"]["properties"]["at"] == TIME
    assert named["Tree_datetime_"]["properties"]["items"]["items"] == TIME
    assert named["Wood"]["properties"]["cut_at"] == TIME
    assert named["Stone"]["properties"]["name"] == {"type": "string"}
    assert found[-1]["prefixItems"] == [TIME, {"type": "integer"}]


def test_an_example_of_its_own_stays() -> None:
    mine = Annotated[datetime, Meta(examples=["2020-02-02T20:20:20Z"])]
    assert schema_of(mine)["examples"] == ["2020-02-02T20:20:20Z"]


def test_the_end_of_a_pattern_is_that_of_ecma_262() -> None:
    class Named(Struct):
        name: Annotated[str, Meta(pattern=r"^[a-z]+\Z")]

    assert schema_of(Named)["$defs"]["Named"]["properties"]["name"]["pattern"] == "^[a-z]+$"
