"""Set-based INSERT and UPDATE statements, and column lists, built from a table and the struct that carries its rows.

A statement takes one array per column (`FROM unnest($1::uuid[], $2::text[], …)`), so that any number of rows goes in
one round trip. Everything here is made once, at import. A field is spelled twice, in the table and in the struct: one
that only one of them has is a `TypeError` unless it is named, and a new one is in every statement that does not leave
it out.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from msgspec import Struct
from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase

from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives import ids

V = TypeVar("V", bound=Struct)
Array = Sequence[Any]

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_SHARED = re.compile(r"(?<![:\w]):(\w+)")


class BulkStatement(Generic[V]):
    """A set-based statement over structs: its SQL, and the arrays that it takes before its shared values."""

    def __init__(self, sql: str, fields: Mapping[str, "Column[Any]"]) -> None:
        self.sql = sql
        self._transposed = _transposition(fields)
        self._empty: list[Array] = [()] * len(fields)

    def arrays(self, values: Sequence[V]) -> list[Array]:
        """One array per column; ids as UUIDs."""
        return list(self._transposed(values)) if values else self._empty


class Columns(Generic[V]):
    """Columns to SELECT, and how a record of them becomes a struct; as text the list of their names."""

    def __init__(self, struct: type[V], columns: Mapping[str, "Column[Any]"], known: Sequence[str]) -> None:
        self.names = tuple(columns)
        self.read_values: Callable[..., V] = _reader(struct, columns, known)
        """The struct of these columns' values in their order, with the values of the known fields after them."""
        self._struct = struct
        ids_of = [(n, c.type.prefix, bool(c.nullable)) for n, c in columns.items() if isinstance(c.type, WireId)]
        self._ids = [(name, prefix) for name, prefix, nullable in ids_of if not nullable]
        self._nullable_ids = [(name, prefix) for name, prefix, nullable in ids_of if nullable]

    def __str__(self) -> str:
        return ", ".join(self.names)

    def of(self, alias: str) -> str:
        """The same list for a statement that joins."""
        return ", ".join(f"{alias}.{name}" for name in self.names)

    def read(self, record: Any) -> V:
        """The struct of a record that has these columns by name, and others of the struct if it likes."""
        values = dict(record)
        for name, prefix in self._ids:
            values[name] = ids.encode(prefix, values[name])
        for name, prefix in self._nullable_ids:
            if values[name] is not None:
                values[name] = ids.encode(prefix, values[name])
        return self._struct(**values)


class BulkTable(Generic[V]):
    """A table and the struct that carries its rows.

    `unmapped` are the columns that the struct does not have, `computed` the fields of the struct that are no columns.
    """

    def __init__(
        self,
        row: type[DeclarativeBase],
        struct: type[V],
        *,
        unmapped: Collection[str] = (),
        computed: Collection[str] = (),
    ) -> None:
        self._table = cast("Table", row.__table__)
        self._struct = struct
        fields = struct.__struct_fields__
        _same(f"{struct.__name__} has no field for columns of {self._table}", set(self._all) - set(fields), unmapped)
        _same(f"{self._table} has no column for fields of {struct.__name__}", set(fields) - set(self._all), computed)
        self._mapped = {name: column for name, column in self._all.items() if name in fields}

    @property
    def _all(self) -> dict[str, "Column[Any]"]:
        return dict(self._table.columns.items())

    def columns(self, *, without: Collection[str] = (), known: Sequence[str] = ()) -> Columns[V]:
        """Columns to SELECT: those of the struct but those `without`, and the `known` fields that are read
        otherwise."""
        return Columns(self._struct, self._picked(None, {*without, *set(known) & set(self._mapped)}), known)

    def insert(
        self, *, without: Collection[str] = (), constants: Mapping[str, str] | None = None, suffix: str = ""
    ) -> BulkStatement[V]:
        """An INSERT of every column of the struct but those `without`, which stay at their default or null.

        `constants` gives columns one SQL expression for all rows; in it `:name` stands for a shared value, passed after
        the arrays and typed like the column of that name. `suffix` ends the statement: `ORDER BY`, `ON CONFLICT`. The
        table is `t`, the arrays are `v`.
        """
        constants = constants or {}
        picked = self._picked(None, {*without, *(name for name in constants if name in self._mapped)})
        missing = [
            name
            for name, column in self._all.items()
            if name not in picked and name not in constants and not column.nullable
            if column.server_default is None and column.identity is None
        ]
        _same(f"an INSERT into {self._table} leaves out what is never null", missing, ())
        names = ", ".join((*picked, *constants))
        values = ", ".join(("v.*", *constants.values()))
        sql = f"INSERT INTO {self._table} AS t ({names}) SELECT {values} FROM {_unnest(picked)} {suffix}"  # noqa: S608 - constants
        return BulkStatement(self._numbered(sql.rstrip(), len(picked)), picked)

    def update(
        self,
        *,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
        constants: Mapping[str, str] | None = None,
        compare: Mapping[str, str] | None = None,
        where: str = "",
    ) -> BulkStatement[V]:
        """An UPDATE by primary key of every column of the struct but those `without`, or of some.

        `constants` as for `insert`. `compare` makes it a compare-and-set: a row is changed where a column still has the
        value of a field. `where` is a further condition. The table is `t`, the arrays are `v`.
        """
        constants, compare = constants or {}, compare or {}
        keys = {column.name: column for column in self._table.primary_key}
        changed = self._picked(only, {*without, *keys} if only is None else without)
        arrays = keys | changed | {field: self._all[name] for name, field in compare.items()}
        changes = {name: f"v.{name}" for name in changed} | dict(constants)
        conditions = [f"t.{name} = v.{name}" for name in keys]
        conditions += [f"t.{name} = v.{field}" for name, field in compare.items()]
        sql = (
            f"UPDATE {self._table} t SET {', '.join(f'{name} = {value}' for name, value in changes.items())} "  # noqa: S608
            f"FROM {_unnest(arrays)} WHERE {' AND '.join([*conditions, where] if where else conditions)}"
        )
        return BulkStatement(self._numbered(sql, len(arrays)), arrays)

    def _picked(self, only: Collection[str] | None, without: Collection[str]) -> dict[str, "Column[Any]"]:
        unknown = {*(only or ()), *without} - set(self._mapped)
        _same(f"{self._table} and {self._struct.__name__} do not share", unknown, ())
        return {
            name: column
            for name, column in self._mapped.items()
            if name not in without and (only is None or name in only)
        }

    def _numbered(self, sql: str, arrays: int) -> str:
        """The SQL with numbers for its shared values, which come after the arrays in the order of their first use."""
        numbers: dict[str, int] = {}

        def number(found: re.Match[str]) -> str:
            name = found[1]
            _same(f"{self._table} has no column to type a shared value by", {name} - set(self._all), ())
            return f"${numbers.setdefault(name, arrays + len(numbers) + 1)}::{_cast(self._all[name])}"

        return _SHARED.sub(number, sql)


def _unnest(arrays: Mapping[str, "Column[Any]"]) -> str:
    casts = ", ".join(f"${number}::{_cast(column)}[]" for number, column in enumerate(arrays.values(), start=1))
    return f"unnest({casts}) AS v({', '.join(arrays)})"


def _cast(column: "Column[Any]") -> str:
    name = column.type.compile(dialect=_DIALECT).lower()
    if name.endswith("[]"):
        raise TypeError(f"{column} is an array: unnest would take it apart")
    return "timestamptz" if name == "timestamp with time zone" else name


def _transposition(fields: Mapping[str, "Column[Any]"]) -> Callable[[Sequence[Any]], Iterable[Array]]:
    """The function that turns structs into arrays, as one expression: it runs for every row of every flush."""
    row = "".join(f"{_decoded(field, column)}, " for field, column in fields.items())
    source = f"lambda values: zip(*[({row}) for v in values], strict=True)"
    return cast("Callable[[Sequence[Any]], Iterable[Array]]", eval(source, {"decode": ids.decode}))  # noqa: S307


def _reader(struct: type[V], columns: Mapping[str, "Column[Any]"], known: Sequence[str]) -> Callable[..., V]:
    """The function that makes a struct of values, as one expression too."""
    fields = [f"{name}={_encoded(position, column)}" for position, (name, column) in enumerate(columns.items())]
    fields += [f"{name}={name}" for name in known]
    source = f"lambda {', '.join(('values', *known))}: struct({', '.join(fields)})"
    return cast("Callable[..., V]", eval(source, {"struct": struct, "encode": ids.encode}))  # noqa: S307


def _encoded(position: int, column: "Column[Any]") -> str:
    value = f"values[{position}]"
    if not isinstance(column.type, WireId):
        return value
    encoded = f"encode({column.type.prefix!r}, {value})"
    return f"(None if {value} is None else {encoded})" if column.nullable else encoded


def _decoded(field: str, column: "Column[Any]") -> str:
    if not isinstance(column.type, WireId):
        return f"v.{field}"
    decoded = f"decode({column.type.prefix!r}, v.{field})"
    return f"(None if v.{field} is None else {decoded})" if column.nullable else decoded


def _same(trouble: str, found: Collection[str], expected: Collection[str]) -> None:
    """Raise `TypeError` where the names found are not those expected."""
    if different := set(found) ^ set(expected):
        raise TypeError(f"{trouble}: {', '.join(sorted(different))}")
