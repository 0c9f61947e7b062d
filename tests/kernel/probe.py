"""A minimal module for tests of the kernel: a schema with a single table."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

import asyncpg
from sqlalchemy import Integer, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateIndex, CreateTable

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.standard_tables import ALL, module_metadata
from aitbc.kernel.database.unit_of_work import Database, Target, WireId


class Base(DeclarativeBase):
    """The tables of the probe."""

    metadata = module_metadata("probe")


class ThingRow(Base):
    """A thing with a count."""

    __tablename__ = "things"

    id: Mapped[str] = mapped_column(WireId("thing"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    count: Mapped[int] = mapped_column(Integer, default=0)


class ThingCounted(Event, frozen=True, kw_only=True):
    """A thing was counted."""

    kind: ClassVar[str] = "probe.thing_counted"
    thing: str


def creation() -> Sequence[str]:
    """The SQL that makes the probe's schema, and its role with what the tables allow."""
    from sqlalchemy.dialects import postgresql

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    statements = [
        "DO $$ BEGIN CREATE ROLE aitbc_probe LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "CREATE SCHEMA probe",
        "GRANT USAGE ON SCHEMA probe TO aitbc_probe",
    ]
    for table in Base.metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)))
        statements += [str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes]
        grants = ", ".join(table.info.get("grants", ALL["grants"]))
        statements.append(f"GRANT {grants} ON {table.fullname} TO aitbc_probe")
    return statements


@asynccontextmanager
async def probe_database(owner: Target, **options: float) -> AsyncIterator[Database]:
    """The probe's database access; its schema is created when missing."""
    connection = await asyncpg.connect(**owner.connect_arguments(application="tests", statement_seconds=30))
    if await connection.fetchval("SELECT to_regnamespace('probe')") is None:
        for statement in creation():
            await connection.execute(statement)
    await connection.close()
    own = Target(**{**{f: getattr(owner, f) for f in owner.__struct_fields__}, "user": "aitbc_probe"})
    database = Database("probe", own, Base.metadata.sorted_tables, **options)  # type: ignore[arg-type]
    try:
        yield database
    finally:
        await database.close()
