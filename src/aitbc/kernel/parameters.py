"""Live parameters: numbers that governance may change while everything runs, and where each value comes from.

A module declares its parameters in its manifest and asks for a value with the one of its settings at hand:
`parameters.value("trading.fee_basis_points", settings.fee_basis_points)`. That is a look into a dictionary; a task of
each process reads the few rows behind it twice a second, so a change holds everywhere within a second. A value that
governance gave stands above the operator's until governance takes it back.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    select,
)
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.standard_tables import APPEND_ONLY
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.tables import Base
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Invalid, Unavailable

POLL_SECONDS = 0.5
ORIGINS = ("governance", "operator", "default")
COUNT = "SELECT count(*) FROM kernel.parameters"

log = structlog.get_logger("aitbc.parameters")


class ParameterUnknown(Invalid):
    """There is no parameter of this name."""

    code = "parameter_unknown"


class ParameterOutOfRange(Invalid):
    """A parameter takes whole numbers within its range; the message says which."""

    code = "parameter_out_of_range"


class ModulePaused(Unavailable):
    """Governance has paused new business of this part; what was begun goes on."""

    code = "module_paused"


class Parameter(Struct, frozen=True, kw_only=True):
    """A whole number that may be changed while everything runs."""

    name: str
    """`module.noun`, for good: `trading.fee_basis_points`."""
    text: str
    """What it is, in one sentence."""
    unit: str
    least: int
    most: int
    default: int
    setting: tuple[str, ...] = ()
    """Where the module's settings have the operator's value: a field, and in one of a dictionary its key."""

    def check(self, value: int) -> None:
        """Raises `ParameterOutOfRange`."""
        if type(value) is not int or not self.least <= value <= self.most:
            raise ParameterOutOfRange(f"{self.name} lies between {self.least} and {self.most}, in {self.unit}.")

    def operator_value(self, settings: Struct | None) -> int:
        """What the operator's settings say; the default where they say nothing."""
        found: Any = settings
        for step in self.setting:
            found = found.get(step) if isinstance(found, Mapping) else getattr(found, step, None)
        return self.default if found is None or found is settings else int(found)


def pause_of(module: str) -> Parameter:
    """The switch that stops a module's new business: 1 for paused."""
    text = f"Whether new business of {module} is paused: 1 for yes; what was begun goes on."
    return Parameter(name=f"{module}.paused", text=text, unit="flag", least=0, most=1, default=0)


class Change(Struct, frozen=True):
    """A value that governance gave, from a moment on."""

    name: str
    value: int | None
    """None where governance took its value back: the operator's holds again."""
    effective_from: datetime
    source: str
    """The proposal that did it."""


class Shown(Struct, frozen=True):
    """A parameter as it holds now."""

    parameter: Parameter
    value: int
    origin: str
    """One of `ORIGINS`."""
    effective_from: datetime | None
    source: str | None


class ParameterRow(Base):
    """A value of a parameter, once and for good; the newest holds."""

    __tablename__ = "parameters"
    __table_args__ = (
        UniqueConstraint("source", "position"),
        CheckConstraint("position >= 0", name="position"),
        Index("parameters_name_idx", "name", "number"),
        {"info": APPEND_ONLY},
    )
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    value: Mapped[int | None] = mapped_column(BigInteger)
    effective_from: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    source: Mapped[str] = mapped_column(Text)
    position: Mapped[int] = mapped_column(SmallInteger)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Parameters:
    """The live parameters of one process. Without a database nothing was ever changed: for parts that stand alone."""

    def __init__(
        self,
        database: Database | None = None,
        declared: Iterable[Parameter] = (),
        settings: Callable[[str], Struct | None] = lambda _module: None,
    ) -> None:
        self._database = database
        self.declared = {parameter.name: parameter for parameter in declared}
        self._settings = settings
        self._changes: list[Change] = []
        self._given: dict[str, int] = {}
        self._seen = 0

    def value(self, name: str, otherwise: int) -> int:
        """The value that governance gave, else the operator's. No query: for hot paths."""
        return self._given.get(name, otherwise)

    def given(self, name: str) -> int | None:
        """The value that governance gave; none where it gave none."""
        return self._given.get(name)

    def of(self, name: str) -> int:
        """The value of a declared parameter, whoever gave it. Raises `ParameterUnknown`."""
        given = self._given.get(name)
        return self.operator_value(name) if given is None else given

    def operator_value(self, name: str) -> int:
        """What the operator's settings say of a parameter, else its default. Raises `ParameterUnknown`."""
        return self._declared(name).operator_value(self._settings(name.partition(".")[0]))

    def changes(self, name: str) -> list[Change]:
        """What governance did to a parameter, oldest first."""
        return [change for change in self._changes if change.name == name]

    def were_set_by(self, source: str) -> bool:
        """Whether what this proposal sets has taken effect."""
        return any(change.source == source for change in self._changes)

    def require_open(self, module: str) -> None:
        """Raises `ModulePaused` where governance has paused a module's new business."""
        if self._given.get(f"{module}.paused"):
            raise ModulePaused(f"Governance has paused new business of {module}.", retry_after=60)

    def shown(self) -> list[Shown]:
        """Every declared parameter as it holds now, by name."""
        return [self.one(name) for name in sorted(self.declared)]

    def one(self, name: str) -> Shown:
        """One parameter as it holds now. Raises `ParameterUnknown`."""
        parameter = self._declared(name)
        if name in self._given:
            newest = self.changes(name)[-1]
            return Shown(parameter, self._given[name], "governance", newest.effective_from, newest.source)
        value = self.operator_value(name)
        return Shown(parameter, value, "default" if value == parameter.default else "operator", None, None)

    def check(self, name: str, value: int | None) -> None:
        """Raises `ParameterUnknown`, `ParameterOutOfRange`."""
        parameter = self._declared(name)
        if value is not None:
            parameter.check(value)

    def _declared(self, name: str) -> Parameter:
        if name not in self.declared:
            raise ParameterUnknown(f"There is no parameter {name[:80]!r}.")
        return self.declared[name]

    @retrying
    async def set(self, values: Sequence[tuple[str, int | None]], source: str) -> None:
        """Give parameters new values from now on, all of them or none; doing it again for a source changes nothing.

        Raises `ParameterUnknown`, `ParameterOutOfRange`.
        """
        assert self._database is not None, "parameters are changed where there is a database"
        for name, value in values:
            self.check(name, value)
        async with self._database.unit_of_work() as uow:
            known = await uow.session.scalar(select(ParameterRow.number).where(ParameterRow.source == source).limit(1))
            if known is None:
                at = now()
                for position, (name, value) in enumerate(values):
                    row = {"name": name, "value": value, "effective_from": at, "created_at": at}
                    uow.add(ParameterRow(**row, source=source, position=position))
                    await uow.audit("governance", source, "parameter.set", name, value=value, source=source)
        await self.refresh()

    async def refresh(self) -> None:
        """Read what governance did; two racing changes are seen in the order of their numbers."""
        if self._database is None:
            return
        async with self._database.raw() as connection:
            count = await connection.fetchval(COUNT)
        if count == self._seen:
            return
        async with self._database.reading() as session:
            rows = (await session.scalars(select(ParameterRow).order_by(ParameterRow.number))).all()
        changes = [Change(row.name, row.value, row.effective_from, row.source) for row in rows]
        newest = {change.name: change.value for change in changes}
        self._given = {name: value for name, value in newest.items() if value is not None}
        self._changes, self._seen = changes, len(rows)

    async def run(self) -> None:
        """Read again and again, until cancelled; a database that does not answer leaves the values as they are."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except Unavailable:
                continue
            except Exception:
                log.exception("parameters_not_read")
