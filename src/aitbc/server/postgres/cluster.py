"""The data directory of the embedded PostgreSQL: made with initdb, and checked for its version."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from aitbc.server.postgres.account import EmbeddedPostgresError, make_folder
from aitbc.server.postgres.log_file import last_lines
from aitbc.server.postgres.paths import MAJOR, UNFINISHED, Layout
from aitbc.server.postgres.process import INITDB_SECONDS, end_predecessor, start_program, terminate

LEFTOVER_SECONDS = 5.0
# The folder of the socket is private to one account, so whoever gets that far may come in as anybody.
_HBA = "local all all trust\nlocal replication all reject\nhost all all all reject\nhost replication all all reject\n"


def make_cluster(layout: Layout, *, owner: str, sync: bool) -> None:
    """Run initdb in a temporary folder, and rename it when complete. Raises `EmbeddedPostgresError`."""
    for leftover in layout.home.glob(f"{UNFINISHED}*"):
        _remove_unfinished(leftover)
    make_folder(layout.unfinished, layout.account)
    command: list[str | Path] = [layout.programs / "initdb", "-D", layout.unfinished, "-U", owner, "-E", "UTF8"]
    # The built-in provider: texts sort the same on every machine, whatever locales and C library it has.
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums"]
    command += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
    if not sync:
        command.append("--no-sync")
    _run_initdb(command, layout)
    _write_rules(layout)
    layout.unfinished.rename(layout.data)
    _sync_folder(layout.home)


def _run_initdb(command: Sequence[str | Path], layout: Layout) -> None:
    with tempfile.TemporaryFile() as output:
        process = start_program(command, layout.account, output.fileno())
        try:
            code = process.wait(INITDB_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise EmbeddedPostgresError(
                f"PostgreSQL could not make its cluster in {layout.unfinished} within {INITDB_SECONDS:.0f} s. "
                "The machine or its disk is overloaded; try again."
            ) from error
        finally:
            terminate(process)
        if code != 0:
            output.seek(0)
            raise EmbeddedPostgresError(
                f"PostgreSQL could not make its cluster in {layout.unfinished} (initdb ended with {code}). "
                f"Remedy what it says and start again:\n{last_lines(output.read())}"
            )


def check_version(layout: Layout) -> None:
    """Check `PG_VERSION`. Raises `EmbeddedPostgresError` for no cluster, or one of another major version."""
    try:
        found = (layout.data / "PG_VERSION").read_text().strip()[:20]
    except FileNotFoundError:
        raise EmbeddedPostgresError(
            f"{layout.data} is not a PostgreSQL cluster: it has no PG_VERSION. "
            "Move it away to start with an empty database, or bring the real one back."
        ) from None
    if found != str(MAJOR):
        raise EmbeddedPostgresError(
            f"{layout.data} was written by PostgreSQL {found}, and this AITBC brings {MAJOR}, which cannot read it. "
            f"Dump it with the programs of PostgreSQL {found} (pg_dump), move the folder away, start, and restore."
        )


def _remove_unfinished(folder: Path) -> None:
    """Remove what a dead predecessor left; its initdb may still write there, or remove it as well."""
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while folder.exists() and time.monotonic() < deadline:  # what is left then is the next start's
        end_predecessor(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _write_rules(layout: Layout) -> None:
    """Write pg_hba.conf: who may connect, in place of what initdb wrote."""
    rules = layout.unfinished / "pg_hba.conf"
    rules.unlink()
    descriptor = os.open(rules, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if not layout.account.is_current_user:
            os.fchown(descriptor, layout.account.uid, layout.account.gid)
        file.write(_HBA)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
