"""Takes away what servers of tests leave outside of their own folders: as root, the data of the embedded PostgreSQL.

It lies in a folder of the system, each with a note of the state folder that it belongs to. Only that of this session's folders
goes, and of tests' folders that are no more: another session may be at work beside this one, and other data is somebody's.
"""

import shutil
from pathlib import Path

import pytest

from aitbc.server.postgres.paths import ORIGIN, SYSTEM_FOLDER
from tests.homes import NOWHERE

OF_TESTS = ("pytest-of-", "aitbc-test-clusters-")
"""How folders of tests begin."""


def remove_data_below(folder: Path, system: Path = SYSTEM_FOLDER) -> int:
    """Remove the data of state folders below a folder, and of tests' that are no more; what still runs stays. Gives the number."""
    removed = 0
    for home in system.iterdir() if system.is_dir() else ():
        note = home / ORIGIN
        if not note.is_file() or (home / "data" / "postmaster.pid").exists():
            continue
        origin = Path(note.read_text().rstrip("\n"))
        is_a_dead_tests = any(part.startswith(OF_TESTS) for part in origin.parts) and not origin.exists()
        if origin.is_relative_to(folder) or is_a_dead_tests:
            shutil.rmtree(home, ignore_errors=True)
            removed += 1
    return removed


def pytest_sessionfinish(session: pytest.Session) -> None:
    """At the end of the whole session, not of one of its workers."""
    if not hasattr(session.config, "workerinput"):
        factory: pytest.TempPathFactory = getattr(session.config, "_tmp_path_factory")  # noqa: B009 - pytest keeps it so
        remove_data_below(factory.getbasetemp().resolve())
        strays = sorted(str(path) for path in (NOWHERE / "aitbc").rglob("*"))
        shutil.rmtree(NOWHERE, ignore_errors=True)
        if strays:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            print(f"a test wrote outside of its temporary folders: {', '.join(strays[:5])}")
