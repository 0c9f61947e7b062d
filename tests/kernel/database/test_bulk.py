"""Set-based statements are made of a table and a struct, and say so when one of the two has a field that the other lacks."""

from datetime import datetime
from typing import Any

import pytest
from msgspec import Struct
from sqlalchemy import ARRAY, BigInteger, DateTime, Identity, Integer, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aitbc.kernel.database.bulk import BulkTable
from aitbc.kernel.database.unit_of_work import Database, Target, WireId
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from tests.kernel.probe import ThingRow, probe_database


class Base(DeclarativeBase):
    """Tables that no database has."""


class BoxRow(Base):
    __tablename__ = "boxes"
    __table_args__ = ({"schema": "store"},)
    id: Mapped[str] = mapped_column(WireId("box"), primary_key=True)
    inner: Mapped[str | None] = mapped_column(WireId("box"))
    name: Mapped[str] = mapped_column(Text)
    weight: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    made_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    number: Mapped[int] = mapped_column(Integer, Identity())


class Box(Struct, kw_only=True):
    id: str
    name: str
    inner: str | None = None
    weight: int = 0
    state: str = "open"
    weight_found: int = 0


class Thing(Struct, kw_only=True):
    id: str
    name: str
    count: int


BOXES = BulkTable(BoxRow, Box, unmapped=("made_at", "number"), computed=("weight_found",))
THINGS = BulkTable(ThingRow, Thing)


def test_an_insert_has_every_column_and_constants_for_all_rows() -> None:
    insert = BOXES.insert(constants={"state": "'open'", "made_at": ":made_at"}, suffix="ON CONFLICT DO NOTHING")
    assert insert.sql == (
        "INSERT INTO store.boxes AS t (id, inner, name, weight, state, made_at) SELECT v.*, 'open', $5::timestamptz "
        "FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[]) AS v(id, inner, name, weight) ON CONFLICT DO NOTHING"
    )
    outer, inner = ids.new_id("box"), ids.new_id("box")
    rows = [Box(id=outer, name="a", inner=inner, weight=3), Box(id=inner, name="b")]
    uuids = (ids.decode("box", outer), ids.decode("box", inner))
    assert [list(array) for array in insert.arrays(rows)] == [
        list(uuids),
        [uuids[1], None],
        ["a", "b"],
        [3, 0],
    ]
    assert insert.arrays([]) == [(), (), (), ()]


def test_an_update_goes_by_key_and_may_compare_and_share() -> None:
    update = BOXES.update(
        without=("name",),
        constants={"made_at": "CASE WHEN v.weight = t.weight THEN t.made_at ELSE :made_at END", "number": ":number"},
        compare={"weight": "weight_found"},
        where="t.made_at < :made_at",
    )
    assert update.sql == (
        "UPDATE store.boxes t SET inner = v.inner, weight = v.weight, state = v.state, "
        "made_at = CASE WHEN v.weight = t.weight THEN t.made_at ELSE $6::timestamptz END, number = $7::integer "
        "FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::bigint[]) "
        "AS v(id, inner, weight, state, weight_found) "
        "WHERE t.id = v.id AND t.weight = v.weight_found AND t.made_at < $6::timestamptz"
    )
    assert BOXES.update(only=("state",)).sql == (
        "UPDATE store.boxes t SET state = v.state FROM unnest($1::uuid[], $2::text[]) AS v(id, state) WHERE t.id = v.id"
    )


def test_columns_are_listed_and_read() -> None:
    columns = BOXES.columns(without=("state",))
    assert str(columns) == "id, inner, name, weight"
    assert columns.of("b") == "b.id, b.inner, b.name, b.weight"
    box = ids.new_uuid()
    record: dict[str, Any] = {"id": box, "inner": None, "name": "a", "weight": 1}
    assert (
        columns.read(record)
        == columns.read_values(list(record.values()))
        == Box(**record | {"id": ids.encode("box", box)})
    )
    assert columns.read(record | {"inner": box}).inner == ids.encode("box", box)
    assert columns.read_values([box, box, "a", 1]).inner == ids.encode("box", box)
    known = BOXES.columns(without=("inner", "state"), known=("id", "weight_found"))
    assert str(known) == "name, weight"
    assert known.read_values(["a", 1], "box_1", 7) == Box(id="box_1", name="a", weight=1, weight_found=7)


def forgotten(**changes: Any) -> None:
    """Make the table of boxes with other arguments."""
    BulkTable(BoxRow, Box, **{"unmapped": ("made_at", "number"), "computed": ("weight_found",)} | changes)


class Keyed(Base):
    __tablename__ = "keyed"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))


class KeyedValue(Struct):
    id: str
    tags: list[str]


def test_what_is_forgotten_or_misspelt_is_told_at_import() -> None:
    for make, message in (
        (lambda: forgotten(unmapped=("made_at",)), "Box has no field for columns of store.boxes: number"),
        (lambda: forgotten(unmapped=("made_at", "number", "name")), "Box has no field for .*: name"),
        (lambda: forgotten(computed=()), "store.boxes has no column for fields of Box: weight_found"),
        (BOXES.insert, "leaves out what is never null: made_at"),
        (lambda: BOXES.insert(without=("state",), constants={"made_at": ":made_at"}), "never null: state"),
        (lambda: BOXES.columns(without=("stat",)), "do not share: stat"),
        (lambda: BOXES.update(only=("made_at",)), "do not share: made_at"),
        (lambda: BOXES.update(only=("name",), where="t.weight < :wait"), "type a shared value by: wait"),
        (lambda: BulkTable(Keyed, KeyedValue).insert(), "keyed.tags is an array"),
    ):
        with pytest.raises(TypeError, match=message):
            make()


async def test_rows_go_in_and_out_of_a_database(target: Target) -> None:
    insert, save, columns = THINGS.insert(), THINGS.update(only=("count",)), THINGS.columns()
    things = [Thing(id=ids.new_id("thing"), name=f"bulk {number}", count=number) for number in range(3)]
    async with probe_database(target) as db:
        await _write(db, insert, things)
        things[1].count = 7
        await _write(db, save, things[1:2])
        await _write(db, save, [])
        async with db.raw() as connection:
            statement = f"SELECT {columns} FROM probe.things WHERE name LIKE 'bulk %' ORDER BY name"
            assert [columns.read(record) for record in await connection.fetch(statement)] == things


async def _write(db: Database, statement: Any, things: list[Thing]) -> None:
    writes = WriteBatch()
    index = writes.write(statement, things)
    async with db.raw_transaction() as connection:
        assert (await writes.do(connection))[index] == len(things)
