"""The database itself: provisioned, migrated, checked, opened."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, REFUSED, Stop, usage
from aitbc_cli.output import columns
from aitbc_cli.terminal import progress

app = noun("db", "The database: provision, migrate, check, open, look into.")


@command(
    app, "provision", examples=["aitbc db provision --sql > provision.sql"], server=False, output=False, ends=[REFUSED]
)
def provision(
    call: Call,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements.")] = False,
) -> None:
    """Print what a DBA runs once, as the owner of the database, where the server may not create roles.

    The statements hold the passwords of the roles: keep them like one.
    """
    if not sql:
        raise usage("say --sql: the statements are printed for you to run, never run here")
    from aitbc.app import provision_sql

    call.out.text(provision_sql().rstrip("\n"))


@command(app, "migrate", examples=["aitbc db migrate", "aitbc db migrate --json"], server=False)
def migrate(call: Call) -> None:
    """Bring the configured database to the newest migrations; a running server's own, or one started for it."""
    with progress("migrating"):
        from aitbc.app import migrate as migrate_all

        done = migrate_all()
    rows = [dict(zip(("part", "change"), each.partition(": ")[::2], strict=True)) for each in done]
    call.out.rows(rows, columns("part", "change"), name="part")
    if not rows:
        call.out.text("nothing to do: the newest migrations are there")


@command(app, "check", examples=["aitbc db check"], server=False)
def check(call: Call) -> None:
    """Compare the configured database with what this program expects; exit code 1 when they disagree."""
    with progress("comparing"):
        from aitbc.app import check_database

        found = check_database()
    if found:
        raise Stop(
            "the database is not what the program expects:\n  " + "\n  ".join(found), code="schema_differs", found=found
        )
    call.out.value({"ok": True, "differences": []}, "the database is what the program expects", name="ok")


@command(app, "revision", examples=["aitbc db revision", "aitbc db revision --json"], server=False)
def revision(call: Call) -> None:
    """List the newest migration that this program knows, for each part of the database."""
    from aitbc.app import MODULES, parts
    from aitbc.kernel.database.migrations import head_of

    rows = [{"part": each.name, "role": each.role, "revision": head_of(each)} for each in parts(MODULES)]
    call.out.rows(rows, columns("part", "role", "revision"), name="revision")


@command(
    app,
    "shell",
    examples=["aitbc db shell", "aitbc db shell --module trading"],
    server=False,
    output=False,
    ends=[NOT_FOUND],
)
def shell(
    call: Call,
    module: Annotated[
        str | None, typer.Option("--module", help="As the role of this module; else as the owner.")
    ] = None,
) -> int:
    """Open psql on the configured database; with a role's own rights when a module is named."""
    from aitbc.app import database_shell

    return database_shell(module)


@command(app, "state", examples=["aitbc db state", "aitbc db state --json"])
def state(call: Call) -> None:
    """Ask the running server what its database works on now, and what waits for whose lock (admins).

    With --json also its size by module and table, and the slowest statements.
    """
    found = call.api.get("/api/v1/operations/database")
    if call.out.form in ("json", "jsonl"):
        call.out.value(found, "")
        return
    shown = columns("module", "process_id", "activity", "seconds", "waits_for", "blocked_by", "text")
    call.out.rows(found["running"], shown, name="process_id")
