"""A PostgreSQL of one's own in place of the embedded one: over TCP with passwords, with rights to make roles and without."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.server.postgres.account import Account, can_execute, choose_account
from aitbc.server.postgres.embedded import binaries
from tests.chaos.server_process import ServerProcess, run_briefly
from tests.cli.forked_program import as_forked
from tests.cli.program import Ended
from tests.scale import only_in_full, scaled
from tests.server.postgres.small_cluster import wait_until
from tests.server.runtime.test_serve import ask, free_port, submit

DEBIAN = Path("/usr/lib/postgresql/15/bin")
"""The oldest version that is promised to do, where this machine has it."""


WHEEL, OLDEST = "of the wheel", "15 of Debian"
on_the_oldest = pytest.mark.parametrize(
    "foreign", scaled([OLDEST if DEBIAN.is_dir() else WHEEL], [WHEEL, OLDEST]), indirect=True
)
on_the_newest = pytest.mark.parametrize("foreign", scaled([WHEEL], [WHEEL, OLDEST]), indirect=True)


@dataclass
class Foreign:
    """A server that we neither made nor run."""

    programs: Path
    port: int

    def url(self, user: str, database: str) -> str:
        """How the platform is told of it."""
        return f"postgresql://{user}:word%20of%20{user}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def target(self, user: str, database: str) -> Target:
        """The same for us."""
        return Target(host="127.0.0.1", port=self.port, user=user, database=database, password=f"word of {user}")

    def sql(self, statement: str, *, database: str = "postgres", user: str = "dba") -> list[Any]:
        """What somebody with a password is answered."""

        async def run() -> list[Any]:
            way = self.target(user, database).connect_arguments(application="tests", statement_seconds=30)
            connection = await asyncpg.connect(**way)
            try:
                return [tuple(row) for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        return asyncio.run(run())

    def script(self, text: str, database: str) -> None:
        """What a DBA runs: psql with a file, which stops at the first error."""
        command: list[str | Path] = [
            self.programs / "psql",
            "-XqvON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
        ]
        environment = {"PGPASSWORD": "word of dba", "PATH": os.environ["PATH"]}
        subprocess.run(
            [*command, "-U", "dba", database], input=text, text=True, check=True, env=environment, capture_output=True
        )

    def makes(self, owner: str, rights: str) -> str:
        """A database and the role that owns it; answers its name."""
        self.sql(f"CREATE ROLE {owner} LOGIN {rights} PASSWORD 'word of {owner}'")
        self.sql(f"CREATE DATABASE of_{owner} OWNER {owner}")
        return f"of_{owner}"


@pytest.fixture
def foreign(request: pytest.FixtureRequest) -> Iterator[Foreign]:
    """A running server that asks for passwords and listens on a port; one a test, for roles belong to the whole server."""
    programs = binaries() if request.param == WHEEL else DEBIAN
    if not programs.is_dir():
        pytest.skip("this machine has no PostgreSQL 15 (Debian: apt-get install postgresql-15)")
    account = choose_account(None, Path("/nonexistent"))
    ground = Path(subprocess.check_output(["mktemp", "-d", "/tmp/aitbc-test-XXXXXX"], text=True).strip())
    ground.chmod(0o755)
    if not can_execute(account, programs / "postgres"):
        shutil.copytree(programs.parent, ground / "programs", symlinks=True)
        programs = ground / "programs" / programs.name
    server = start_foreign(programs, ground, account, port := free_port())
    try:
        yield Foreign(programs, port)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(ground)


def start_foreign(programs: Path, ground: Path, account: Account, port: int) -> "subprocess.Popen[bytes]":
    as_account: dict[str, Any] = (
        {} if account.is_current_user else {"user": account.uid, "group": account.gid, "extra_groups": []}
    )
    words, data = ground / "words", ground / "data"
    words.write_text("word of dba")
    data.mkdir(mode=0o700)
    os.chown(data, account.uid, account.gid)
    initdb: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "dba",
        "--pwfile",
        words,
        "--auth=scram-sha-256",
        "--no-sync",
    ]
    quiet: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **as_account}
    subprocess.run([*initdb, "-E", "UTF8", "--locale=C"], check=True, capture_output=True, **quiet)
    options = [
        f"port={port}",
        "unix_socket_directories=",
        "listen_addresses=127.0.0.1",
        "fsync=off",
        "shared_buffers=16MB",
    ]
    command: list[str | Path] = [
        programs / "postgres",
        "-D",
        data,
        *(word for option in options for word in ("-c", option)),
    ]
    with (ground / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, **quiet)

    def answers() -> bool:
        assert server.poll() is None, (ground / "log").read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return b"ready to accept" in (ground / "log").read_bytes()

    wait_until(answers)
    return server


def served(state: Path, **environment: str) -> ServerProcess:
    """A server on that database."""
    return ServerProcess(state, free_port(), **environment)


@only_in_full
@on_the_oldest
def test_roles_and_schemas_are_made_where_the_owner_may(foreign: Foreign, tmp_path: Path) -> None:
    database = foreign.makes("maker", "CREATEROLE")
    server = served(tmp_path / "state", AITBC_DATABASE_URL=foreign.url("maker", database))
    server.start()
    try:
        job = submit(server)
        assert not (server.state / "postgres").exists()
        assert foreign.sql("SELECT count(*) FROM ai.jobs", database=database) == [(1,)]
        users = dict(
            foreign.sql(f"SELECT usename, count(*) FROM pg_stat_activity WHERE datname = '{database}' GROUP BY 1")
        )
        assert {"aitbc_kernel", "aitbc_trading", "aitbc_ai", "aitbc_gpu"} <= set(users)
        assert foreign.sql("SELECT rolname FROM pg_authid WHERE rolname LIKE 'aitbc%' AND rolpassword IS NULL") == []
        assert server.stop() == 0
        server.start()
        assert ask(server, f"/api/v1/ai/jobs/{job}")["state"] == "queued"
    finally:
        if server.is_alive:
            server.stop()


@only_in_full
@on_the_newest
def test_an_embedded_installation_moves_there_by_backup_and_restore(foreign: Foreign, tmp_path: Path) -> None:
    database = foreign.makes("mover", "CREATEROLE")
    embedded = served(tmp_path / "old" / "state")
    embedded.start()
    job = submit(embedded)
    file = tmp_path / "a.backup"

    def command(state: Path, *words: str | Path, **settings: str) -> Ended:
        environment = {**os.environ, "AITBC_STATE_DIR": str(state), **settings}
        return as_forked(*map(str, words), environment=environment, folder=tmp_path)

    assert command(embedded.state, "backup", file).code == 0
    assert embedded.stop() == 0
    settings = {"AITBC_DATABASE_URL": foreign.url("mover", database)}
    restored = command(tmp_path / "new" / "state", "restore", file, **settings)
    assert restored.code == 0, restored.err
    moved = served(tmp_path / "new" / "state", **settings)
    moved.start()
    try:
        assert ask(moved, f"/api/v1/ai/jobs/{job}")["state"] == "queued"
        assert ask(moved, "/api/v1/trading/ledger/verify", {})["ok"] is True
    finally:
        assert moved.stop() == 0
    over = command(tmp_path / "third" / "state", "restore", file, **settings)
    assert over.code == 5
    assert f"The database {database} holds an installation" in over.err


@only_in_full
@on_the_newest
def test_a_dba_may_make_them_instead(foreign: Foreign, tmp_path: Path) -> None:
    database, state = foreign.makes("modest", ""), tmp_path / "state"
    settings = {"AITBC_DATABASE_URL": foreign.url("modest", database), "AITBC_SECRET_KEY": "0123456789abcdef" * 4}
    state.mkdir(mode=0o700)
    refused = run_briefly(state, free_port(), **settings)
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert "db provision" in refused.stderr, refused.stderr
    environment = {**os.environ, "AITBC_STATE_DIR": str(state), **settings}
    told = as_forked("db", "provision", "--sql", environment=environment, folder=tmp_path)
    assert told.code == 0, told.err
    for _ in range(2):  # it is safe to run again
        foreign.script(told.out, database)
    server = served(state, AITBC_DATABASE__PROVISION="false", **settings)
    server.start()
    try:
        submit(server)
        assert foreign.sql("SELECT count(*) FROM trading.holds WHERE state = 'open'", database=database) == [(1,)]
    finally:
        assert server.stop() == 0


@on_the_newest
def test_a_database_that_does_not_answer_or_refuses_is_named_without_its_password(
    foreign: Foreign, tmp_path: Path
) -> None:
    database = foreign.makes("strict", "CREATEROLE")
    right, nobody = foreign.url("strict", database), f"127.0.0.1:{free_port()}"
    for url, code, reason in (
        (right.replace("word", "hunter2"), 78, "refuses: password authentication failed"),
        (right.replace(database, "of_nobody"), 78, 'database "of_nobody" does not exist'),
        (right.replace(f"127.0.0.1:{foreign.port}", nobody), 6, f"no PostgreSQL answers at {nobody}"),
    ):
        refused = run_briefly(tmp_path / "state", free_port(), AITBC_DATABASE_URL=url)
        assert refused.returncode == code, refused.stderr
        assert "database.url: " in refused.stderr and reason in refused.stderr, refused.stderr
        assert len(refused.stderr.splitlines()) == 1, refused.stderr
        assert "word" not in refused.stderr.replace("password authentication", "") and "hunter2" not in refused.stderr
