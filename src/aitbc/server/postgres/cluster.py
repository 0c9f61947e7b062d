"""The data of the embedded PostgreSQL: how a cluster is made with initdb, and what is refused as one."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from aitbc.server.postgres.account import EmbeddedPostgresError, make_folder
from aitbc.server.postgres.log_file import last_lines
from aitbc.server.postgres.paths import MAJOR, UNFINISHED, Place
from aitbc.server.postgres.process import INITDB_SECONDS, bring_to_end, clear_the_way, launch

LEFTOVER_SECONDS = 5.0
# The folder of the socket is private to one account, so whoever gets that far may come in as anybody.
_HBA = "local all all trust\nlocal replication all reject\nhost all all all reject\nhost replication all all reject\n"


def make_cluster(place: Place, *, owner: str, sync: bool) -> None:
    """Make the cluster under another name, and give it its own when it is complete. Raises `EmbeddedPostgresError`."""
    for leftover in place.home.glob(f"{UNFINISHED}*"):
        _remove_unfinished(leftover)
    make_folder(place.unfinished, place.account)
    command: list[str | Path] = [place.programs / "initdb", "-D", place.unfinished, "-U", owner, "-E", "UTF8"]
    # The built-in provider: texts sort the same on every machine, whatever locales and C library it has.
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums"]
    command += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
    if not sync:
        command.append("--no-sync")
    _run_initdb(command, place)
    _write_rules(place)
    place.unfinished.rename(place.data)
    _sync_folder(place.home)


def _run_initdb(command: Sequence[str | Path], place: Place) -> None:
    with tempfile.TemporaryFile() as said:
        process = launch(command, place.account, said.fileno())
        try:
            code = process.wait(INITDB_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise EmbeddedPostgresError(
                f"PostgreSQL could not make its cluster in {place.unfinished} within {INITDB_SECONDS:.0f} s. "
                "The machine or its disk is overloaded; try again."
            ) from error
        finally:
            bring_to_end(process)
        if code != 0:
            said.seek(0)
            raise EmbeddedPostgresError(
                f"PostgreSQL could not make its cluster in {place.unfinished} (initdb ended with {code}). "
                f"Remedy what it says and start again:\n{last_lines(said.read())}"
            )


def check_version(place: Place) -> None:
    """Raises `EmbeddedPostgresError` for data that is no cluster, or one of another version."""
    try:
        found = (place.data / "PG_VERSION").read_text().strip()[:20]
    except FileNotFoundError:
        raise EmbeddedPostgresError(
            f"{place.data} is not a PostgreSQL cluster: it has no PG_VERSION. "
            "Move it away to start with an empty database, or bring the real one back."
        ) from None
    if found != str(MAJOR):
        raise EmbeddedPostgresError(
            f"{place.data} was written by PostgreSQL {found}, and this AITBC brings {MAJOR}, which cannot read it. "
            f"Dump it with the programs of PostgreSQL {found} (pg_dump), move the folder away, start, and restore."
        )


def _remove_unfinished(folder: Path) -> None:
    """Remove what a dead predecessor was making. Programs he called may still write there, or remove it as well."""
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while folder.exists() and time.monotonic() < deadline:  # what is left then is the next start's
        clear_the_way(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _write_rules(place: Place) -> None:
    """Who may connect, in place of what initdb wrote."""
    rules = place.unfinished / "pg_hba.conf"
    rules.unlink()
    descriptor = os.open(rules, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if not place.account.is_ours:
            os.fchown(descriptor, place.account.uid, place.account.gid)
        file.write(_HBA)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
