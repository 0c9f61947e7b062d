"""The database: it answers, and it is what the program expects."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, Unknown, failed, ok

ANSWER_SECONDS = 2.0
OLDEST = 15


def answers(case: Case) -> Finding:
    """The database of this installation lets its owner in, and answers."""
    target = _target(case)
    where = f"{target.host}:{target.port}/{target.database}"
    settings = case.settings.database
    try:
        version = case.learn("database", lambda: asyncio.run(_version(target)))
    except Exception as error:  # noqa: BLE001 - every way of not answering has the same remedies
        said = str(error) or f"no answer within {ANSWER_SECONDS:g} s"
        if settings.url is None:
            return failed(f"the embedded database does not answer: {said}", case.restart)
        origin = case.load().origins.get("database.url", "the configuration")
        start = "sudo systemctl start postgresql"
        return failed(f"{where} does not answer: {said}", f"{start}  # or correct database.url ({origin})")
    if version // 10_000 < OLDEST:
        upgrade = f"sudo apt-get install postgresql-{OLDEST}  # or newer, then point database.url at it"
        return failed(f"{where} is PostgreSQL {version // 10_000}, and {OLDEST} is the oldest that does", upgrade)
    return ok(f"{where} answers, PostgreSQL {version // 10_000}")


def migrations(case: Case) -> Finding:
    """The database stands on the newest migrations of this program."""
    target = _target(case)
    try:
        case.learn("database", lambda: asyncio.run(_version(target)))
    except Exception:  # noqa: BLE001 - reported by the check before
        raise Unknown("the database does not answer", "aitbc doctor --only database") from None
    from aitbc.app import MODULES, parts
    from aitbc.kernel.database.migrations import differences, head_of

    everything = parts(MODULES)
    behind = asyncio.run(_behind(target, everything))
    if behind:
        return failed(f"not migrated to this program's: {', '.join(behind)}", "aitbc db migrate")
    found = asyncio.run(differences(target, everything))
    if found:
        message = f"{len(found)} differences, made by hand: the first is {found[0][:300]}"
        return failed(message, "aitbc db check  # lists them; undo each in `aitbc db shell`")
    return ok(", ".join(head_of(part) for part in everything))


def _target(case: Case) -> Any:
    """The owner's connection target. The database is never started here: an examination changes nothing."""
    loaded = case.load()
    from aitbc.kernel.database.unit_of_work import Target
    from aitbc.server.config.installation import configured_target

    if (configured := configured_target(loaded)) is not None:
        return configured
    running = case.running
    if running is None or running.database is None:
        raise Unknown("no server runs on this state folder, and its database runs only with it", "aitbc serve")
    return Target(**running.database)


async def _version(target: Any) -> int:
    async with _connected(target) as connection:
        return int(await connection.fetchval("SELECT current_setting('server_version_num')::int"))


async def _behind(target: Any, everything: Sequence[Any]) -> list[str]:
    """The parts whose schema is not at the newest migration."""
    import asyncpg

    from aitbc.kernel.database.migrations import is_at_head

    behind = []
    async with _connected(target) as connection:
        for part in everything:
            try:
                reached = await is_at_head(connection, part)
            except asyncpg.UndefinedTableError:  # never migrated
                reached = False
            behind += [] if reached else [part.name]
    return behind


@asynccontextmanager
async def _connected(target: Any) -> AsyncIterator[Any]:
    from aitbc.kernel.database.connect import connect, through_pooler

    target = await through_pooler(target)
    arguments = target.connect_arguments(application="aitbc doctor", statement_seconds=ANSWER_SECONDS)
    async with asyncio.timeout(ANSWER_SECONDS):
        connection = await connect(arguments)
        try:
            yield connection
        finally:
            connection.terminate()


CHECKS = (
    Check("database", "the database answers", answers),
    Check("migrations", "the database is what the program expects", migrations),
)
