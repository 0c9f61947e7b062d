"""Migrations against a database of their own: `check` compares them with the models, `migration` writes the next."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
from sqlalchemy import MetaData

from aitbc.app import MODULES, parts
from aitbc.kernel.database.migrations import Part, differences, migrate, migrations_folder, new_revision
from aitbc.kernel.database.unit_of_work import Target
from aitbc.server.postgres.embedded import EmbeddedPostgres

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
DATABASE = "aitbc_schema"


@contextmanager
def empty_database() -> Iterator[Target]:
    """The owner's way into a database that lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="aitbc-schema-") as folder:
        server = EmbeddedPostgres(Path(folder), settings=FAST)
        address = server.start()
        try:
            target = Target(host=str(address.host), port=address.port, user=address.user, database="postgres")
            asyncio.run(_create(target))
            yield Target(host=target.host, port=target.port, user=target.user, database=DATABASE)
        finally:
            server.discard()


async def _create(target: Target) -> None:
    connection = await asyncpg.connect(**target.connect_arguments(application="schema", statement_seconds=30))
    try:
        await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()


async def upgrade(target: Target) -> None:
    """All migrations, and no grants: the models may be ahead, and name tables that are still to be made."""
    await migrate(target, [Part(part.name, MetaData()) for part in parts(MODULES)], secret=None)


async def check(target: Target) -> list[str]:
    """Where the outcome of all migrations, run twice, is not what the models say."""
    await upgrade(target)
    found = await differences(target, parts(MODULES))
    if found:
        return found
    return [f"a second run changed something: {line}" for line in await migrate(target, parts(MODULES), secret=None)]


async def write(target: Target, part: Part, message: str) -> Path:
    """Write the next migration of a part."""
    await upgrade(target)
    written = await new_revision(target, part, message)
    lines = written.read_text(encoding="utf-8").splitlines(keepends=True)
    written.write_text("".join(line for line in lines if "Alembic" not in line), encoding="utf-8")
    return written


def main(arguments: list[str]) -> int:
    """`check`, or `migration MODULE MESSAGE`."""
    match arguments:
        case ["check"]:
            with empty_database() as target:
                found = asyncio.run(check(target))
            for difference in found:
                print(f"schema: {difference}", file=sys.stderr)
            if found:
                print('Write the missing migration: make migration M=… S="…"', file=sys.stderr)
            return 1 if found else 0
        case ["migration", name, message]:
            part = next((part for part in parts(MODULES) if part.name == name), None)
            if part is None:
                known = ", ".join(part.name for part in parts(MODULES))
                print(f"There is no module {name}; there are {known}.", file=sys.stderr)
                return 2
            with empty_database() as target:
                written = asyncio.run(write(target, part, message))
            subprocess.run([Path(sys.executable).with_name("ruff"), "format", "--quiet", written], check=True)
            print(f"wrote {written.relative_to(migrations_folder().parent)}: read it, and finish it by hand")
            return 0
        case _:
            print("usage: python -m tools.schema check | migration MODULE MESSAGE", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
