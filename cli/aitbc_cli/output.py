"""Data on standard output: a table for people, JSON, JSON lines, CSV or names for programs.

A table is the same text wherever it goes, only its colours need a terminal: nothing is cut and no column is left out.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from aitbc_cli.exits import Stop, usage
from aitbc_cli.terminal import is_colored, safe
from aitbc_cli.times import shown

FORMATS = ("table", "json", "jsonl", "csv", "name")
DECIMALS = 4
"""How exactly a table shows a fraction; the other forms have all of it."""
_ESCAPED = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_FORMULA = re.compile(r"[=+\-@\t\r](?!\d+(\.\d+)?$)")
"""What a spreadsheet would compute; a negative number is none."""
_COLORS = {
    **dict.fromkeys(("succeeded", "online", "ok", "delivered", "ready", "live"), "32"),
    **dict.fromkeys(("failed", "dead", "removed", "lost", "revoked"), "31"),
    **dict.fromkeys(("queued", "leased", "running", "pending", "draining", "enrolled", "warning"), "33"),
    **dict.fromkeys(("canceled", "expired", "offline", "skipped", "released"), "90"),
}


@dataclass(frozen=True)
class Column:
    """One column of a table, or one line of a record: its head, and the field that it shows."""

    head: str
    field: str
    """Dotted for a field inside a field."""
    kind: str = "text"
    """`text`, `time`, or `number`, which stands on the right."""


def column(field: str, head: str | None = None, kind: str | None = None) -> Column:
    """A column with its usual head and kind: `created_at` is a time under CREATED."""
    if kind is None:
        kind = "time" if field.endswith(("_at", ".at")) or field in ("at", "time") else "text"
    return Column(head or field.rpartition(".")[2].removesuffix("_at").replace("_", " ").upper(), field, kind)


def columns(*fields: str, kind: str | None = None) -> tuple[Column, ...]:
    """Columns with their usual heads, and kinds unless one is given for all."""
    return tuple(column(field, kind=kind) for field in fields)


class Output:
    """Where a command's data goes, and in which form."""

    def __init__(
        self, form: str = "table", *, fields: str | None = None, utc: bool = False, stream: TextIO | None = None
    ) -> None:
        self.form = form
        self.utc = utc
        self.stream = stream or sys.stdout
        self._fields = [name.strip() for name in fields.split(",") if name.strip()] if fields else None
        self._color = is_colored(self.stream)

    @property
    def is_for_people(self) -> bool:
        """Whether a table is wanted, so that words around it make sense."""
        return self.form == "table"

    def rows(self, rows: Iterable[Mapping[str, Any]], shown_columns: Sequence[Column], *, name: str = "id") -> None:
        """A list. Empty is `[]` in JSON, only the head in a table and in CSV, and nothing elsewhere."""
        chosen = (self._chosen(row, shown_columns) for row in rows)
        if self.form == "table":
            self._table(list(chosen), self._columns(shown_columns))
        elif self.form == "json":
            self._line(dump(list(chosen), indent=2))
        elif self.form == "jsonl":
            for row in chosen:
                self.json_line(row)
        elif self.form == "csv":
            self._csv(chosen, self._columns(shown_columns))
        else:
            for row in rows:
                self._chosen(row, shown_columns)
                self._line(safe(str(_at(row, name))))

    def one(self, thing: Mapping[str, Any], shown_columns: Sequence[Column], *, name: str = "id") -> None:
        """A single thing: as a record of lines, or in the other forms as a list of one would be, without the list."""
        if self.form == "table":
            self._record(self._chosen(thing, shown_columns), self._columns(shown_columns))
        elif self.form == "json":
            self._line(dump(self._chosen(thing, shown_columns), indent=2))
        else:
            self.rows([thing], shown_columns, name=name)

    def value(self, value: Any, text: str, *, name: str | None = None) -> None:
        """A result that is no object of the server: its JSON, or for people a text."""
        if self.form in ("json", "jsonl"):
            self._line(dump(value, indent=2 if self.form == "json" else None))
        else:
            self._line(text if name is None or self.form == "table" else name)

    def text(self, text: str) -> None:
        """Lines of a table's surroundings; nothing in the forms for programs."""
        if self.form == "table":
            self._line(safe(text, lines=True))

    def json_line(self, value: Any) -> None:
        """One line of JSON, at once."""
        self._line(dump(value))
        self.stream.flush()

    def _line(self, text: str) -> None:
        self.stream.write(text + "\n")

    # Fields

    def _columns(self, usual: Sequence[Column]) -> Sequence[Column]:
        if self._fields is None:
            return usual
        known = {one.field: one for one in usual}
        return [known.get(field) or column(field) for field in self._fields]

    def _chosen(self, row: Mapping[str, Any], usual: Sequence[Column]) -> Mapping[str, Any]:
        """Only the fields asked for, under the names they were asked for by. Raises `Stop` for any other."""
        if self._fields is None:
            if not any(one.field.partition(".")[0] in row for one in usual):
                raise Stop("the answer has none of the fields that it should have", code="not_aitbc")
            return row
        for field in self._fields:
            if field.partition(".")[0] not in row:
                raise usage(f"there is no field {field!r}", hint=f"fields: {', '.join(row)}")
        return {field: _at(row, field) for field in self._fields}

    # Forms

    def _cell(self, row: Mapping[str, Any], one: Column) -> str:
        value = row[one.field] if one.field in row else _at(row, one.field)
        if one.kind == "time" and isinstance(value, str | int):
            return safe(shown(value, utc=self.utc))
        if isinstance(value, float):
            return str(round(value, DECIMALS))
        return safe(_plain(value))

    def _table(self, rows: Sequence[Mapping[str, Any]], shown_columns: Sequence[Column]) -> None:
        cells = [[self._cell(row, one) for one in shown_columns] for row in rows]
        widths = [max([width(one.head), *(width(line[i]) for line in cells)]) for i, one in enumerate(shown_columns)]
        self._line(self._join([one.head for one in shown_columns], widths, shown_columns, bold=True))
        for line in cells:
            self._line(self._join(line, widths, shown_columns))

    def _join(
        self, line: Sequence[str], widths: Sequence[int], shown_columns: Sequence[Column], *, bold: bool = False
    ) -> str:
        parts = []
        for text, wide, one in zip(line, widths, shown_columns, strict=True):
            padding = " " * (wide - width(text))
            painted = self._painted(text, "1" if bold else _COLORS.get(text))
            parts.append(padding + painted if one.kind == "number" else painted + padding)
        return "  ".join(parts).rstrip()

    def _record(self, thing: Mapping[str, Any], shown_columns: Sequence[Column]) -> None:
        heads = [one.head.capitalize() for one in shown_columns]
        wide = max(map(width, heads), default=0)
        for head, one in zip(heads, shown_columns, strict=True):
            text = self._cell(thing, one)
            self._line(
                f"{self._painted(head, '1')}{' ' * (wide - width(head))}  {self._painted(text, _COLORS.get(text))}"
            )

    def _painted(self, text: str, color: str | None) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self._color and color else text

    def _csv(self, rows: Iterable[Mapping[str, Any]], shown_columns: Sequence[Column]) -> None:
        import csv

        writer = csv.writer(self.stream, lineterminator="\n")
        writer.writerow([one.field for one in shown_columns])
        for row in rows:
            values = (row[one.field] if one.field in row else _at(row, one.field) for one in shown_columns)
            writer.writerow(["" if value is None else _csv_text(_plain(value)) for value in values])


def dump(value: Any, *, indent: int | None = None) -> str:
    """JSON that steers no terminal and that any encoding holds where it must."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    text = json.dumps(value, indent=indent, ensure_ascii=encoding != "utf8")
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def width(text: str) -> int:
    """How many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _csv_text(text: str) -> str:
    """A cell that a spreadsheet takes as text and a terminal as what it is."""
    return safe("'" + text if _FORMULA.match(text) else text, lines=True)


def _at(row: Mapping[str, Any], field: str) -> Any:
    value: Any = row
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "-"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)
