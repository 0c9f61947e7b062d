"""A newer program asks what it would change, before anything is changed."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from aitbc.app import MODULES
from tests.chaos.server_process import ServerProcess
from tests.journeys.test_backup import run
from tests.server.runtime.test_serve import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    made = ServerProcess(tmp_path_factory.mktemp("upgrade") / "state", free_port())
    made.start()
    yield made
    made.stop()


def sql(server: ServerProcess, statement: str) -> None:
    """Change something as the owner of the database."""

    async def execute() -> None:
        connection = await asyncpg.connect(**server.database.connect_arguments(application="test", statement_seconds=5))
        await connection.execute(statement)
        await connection.close()

    asyncio.run(execute())


def test_an_installation_of_this_version_needs_nothing(server: ServerProcess) -> None:
    ended = run(server.state, "upgrade", "--check", "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert {part["part"] for part in told} == {"kernel", *(module.name for module in MODULES)}
    assert all(part["pending"] == [] and part["at"] == part["to"] for part in told)
    assert "nothing to do" in ended.err


def test_an_older_one_is_told_its_migrations_and_left_as_it_is(server: ServerProcess) -> None:
    sql(server, "CREATE TABLE public.kept AS TABLE gpu.alembic_version; DELETE FROM gpu.alembic_version")
    try:
        for _ in range(2):  # looking changes nothing
            ended = run(server.state, "upgrade", "--check", "--json")
            assert ended.code == 0, ended.err
            (gpu,) = [part for part in json.loads(ended.out) if part["part"] == "gpu"]
            assert gpu["at"] is None
            assert gpu["pending"][0].startswith("gpu_0001: ")
            assert "aitbc backup" in ended.err
    finally:
        sql(server, "INSERT INTO gpu.alembic_version TABLE public.kept; DROP TABLE public.kept")


def test_a_newer_one_is_refused_with_the_way_out(server: ServerProcess) -> None:
    sql(server, "UPDATE trading.alembic_version SET version_num = 'x' || version_num")
    try:
        ended = run(server.state, "upgrade", "--check")
        assert ended.code == 5
        assert "trading: it stands on xtrading_" in ended.err
        assert "newer program" in ended.err
    finally:
        sql(server, "UPDATE trading.alembic_version SET version_num = substr(version_num, 2)")


def test_an_empty_place_has_nothing_to_upgrade_and_stays_empty(tmp_path: Path) -> None:
    ended = run(tmp_path / "state", "upgrade", "--check")
    assert ended.code == 3
    assert "aitbc serve" in ended.err
    assert not (tmp_path / "state").exists()


def test_without_check_it_says_what_upgrades(tmp_path: Path) -> None:
    ended = run(tmp_path / "state", "upgrade")
    assert ended.code == 2
    assert "--check" in ended.err
