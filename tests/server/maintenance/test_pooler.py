"""PgBouncer before the database: one that lends sessions does, with our limits; one that lends transactions is refused."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aitbc.kernel.database.connect import connect, through_pooler
from aitbc.kernel.database.raw_pool import RawPool
from aitbc.kernel.database.target import Target
from aitbc.kernel.primitives.errors import ConfigError
from aitbc.server.config.database_url import target_of
from aitbc.server.postgres.account import can_execute, choose_account
from aitbc.server.postgres.embedded import binaries
from tests.chaos.server_process import ServerProcess, run_briefly
from tests.server.maintenance.test_own_database import Foreign, start_foreign
from tests.server.postgres.small_cluster import wait_until
from tests.server.runtime.test_serve import ask, free_port

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@pytest.fixture(scope="module")
def foreign() -> Iterator[tuple[Foreign, Path]]:
    """A server that asks for passwords, with an owner who may make roles, and a folder that its account can write."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    account = choose_account(None, Path("/nonexistent"))
    ground = Path(subprocess.check_output(["mktemp", "-d", "/tmp/aitbc-test-XXXXXX"], text=True).strip())
    ground.chmod(0o755)
    programs = binaries()
    if not can_execute(account, programs / "postgres"):
        shutil.copytree(programs.parent, ground / "programs", symlinks=True)
        programs = ground / "programs" / programs.name
    server = start_foreign(programs, ground, account, port := free_port())
    made = Foreign(programs, port)
    made.makes("maker", "CREATEROLE")
    try:
        yield made, ground
    finally:
        server.send_signal(2)
        server.wait(20)
        shutil.rmtree(ground)


@contextmanager
def pooled(foreign: tuple[Foreign, Path], mode: str, *more: str) -> Iterator[str]:
    """PgBouncer before it; answers the URL of its owner there."""
    server, ground = foreign
    account, folder, port = choose_account(None, Path("/nonexistent")), ground / f"pooler-{mode}", free_port()
    folder.mkdir()
    os.chown(folder, account.uid, account.gid)
    (folder / "users").write_text('"dba" "word of dba"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port} auth_user=dba\n[pgbouncer]\nlisten_addr=127.0.0.1\n"
        f"listen_port={port}\nunix_socket_dir=\nauth_type=scram-sha-256\nauth_file={folder}/users\npool_mode={mode}\n"
        f"auth_query=SELECT usename, passwd FROM pg_shadow WHERE usename=$1\nlogfile={folder}/log\n" + "\n".join(more)
    )
    assert PGBOUNCER is not None
    who: dict[str, Any] = (
        {} if account.is_current_user else {"user": account.uid, "group": account.gid, "extra_groups": []}
    )
    pooler = subprocess.Popen([PGBOUNCER, "-q", folder / "pgbouncer.ini"], cwd="/", **who)
    url = f"postgresql://dba:word%20of%20dba@127.0.0.1:{port}/of_maker?sslmode=disable"
    try:
        wait_until(lambda: "process up" in (folder / "log").read_text() if (folder / "log").exists() else False)
        yield url
    finally:
        pooler.terminate()
        pooler.wait(30)
        shutil.rmtree(folder)


async def limits(target: Target) -> tuple[str, str, str]:
    """Two limits of a session, and of the pool of raw connections its way to plan."""
    arguments = target.connect_arguments(application="tests", statement_seconds=7)
    connection = await connect(arguments)
    pool = RawPool(arguments, 1)
    try:
        raw = await pool.acquire(5)
        plan = str(await raw.fetchval("SELECT current_setting('plan_cache_mode')"))
        pool.release(raw)
        shown = [
            await connection.fetchval(f"SELECT current_setting('{name}')") for name in ("statement_timeout", "TimeZone")
        ]
        return shown[0], shown[1], plan
    finally:
        await pool.close()
        await connection.close()


IGNORED = "statement_timeout,lock_timeout,idle_in_transaction_session_timeout"


@pytest.mark.parametrize("more", [(), (f"ignore_startup_parameters={IGNORED}",)])
def test_sessions_have_our_limits_through_a_pooler_of_sessions(
    foreign: tuple[Foreign, Path], more: tuple[str, ...]
) -> None:
    with pooled(foreign, "session", *more) as url:
        target = asyncio.run(through_pooler(target_of(url)))
        assert target.pooled
        assert asyncio.run(limits(target)) == ("7s", "UTC", "force_generic_plan")


def test_a_straight_way_has_no_pooler(foreign: tuple[Foreign, Path]) -> None:
    straight = foreign[0].target("dba", "postgres")
    assert asyncio.run(through_pooler(straight)) == straight


@pytest.mark.parametrize("more", [(), (f"ignore_startup_parameters={IGNORED}",)])
def test_a_pooler_of_transactions_is_refused(foreign: tuple[Foreign, Path], more: tuple[str, ...]) -> None:
    with pooled(foreign, "transaction", *more) as url, pytest.raises(ConfigError, match="pool_mode = session"):
        asyncio.run(through_pooler(target_of(url)))


def test_a_server_starts_and_answers_through_a_pooler(foreign: tuple[Foreign, Path], tmp_path: Path) -> None:
    with pooled(foreign, "session") as url:
        server = ServerProcess(tmp_path / "state", free_port(), AITBC_DATABASE_URL=url)
        server.start()
        try:
            assert ask(server, "/api/v1/identity/keys/self")["account"]
            assert ask(server, "/readyz")["ready"]
        finally:
            assert server.stop() == 0
    with pooled(foreign, "transaction") as url:
        refused = run_briefly(tmp_path / "other", free_port(), AITBC_DATABASE_URL=url)
        assert refused.returncode == 78
        assert "pool_mode = session" in refused.stderr and "word of" not in refused.stderr
