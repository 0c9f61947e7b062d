"""A disk of the database that is really full: refusals with a code, nothing half done, and all well when there is room."""

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from tests.app import running_app
from tests.postgres import run_sql

JOBS = "/api/v1/ai/jobs"


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of two MiB."""
    folder = Path(tempfile.mkdtemp(prefix="aitbc-test-", dir="/tmp"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False).returncode != 0:
        folder.rmdir()
        pytest.skip("may not mount a small disk here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


def folder_of_the_database(disk: Path, data: Path) -> Path:
    """A folder on the disk that PostgreSQL may use, by the owner of its data."""
    folder = disk / "space"
    folder.mkdir()
    os.chown(folder, data.stat().st_uid, data.stat().st_gid)
    disk.chmod(0o755)
    return folder


async def put_jobs_on(target: Target, disk: Path) -> None:
    """Keep the rows of jobs there, as a tablespace."""
    connection = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=60))
    folder = folder_of_the_database(disk, Path(await connection.fetchval("SHOW data_directory")))
    await connection.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
    await connection.execute("ALTER TABLE ai.jobs SET TABLESPACE small")
    await connection.close()


def a_job() -> dict[str, Any]:
    """A job with an input that does not compress."""
    letters = random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=100_000)
    return {"kind": "embed", "input": {"texts": ["".join(letters)[:8000]] * 8}, "max_price": "1"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts a small disk")
async def test_a_full_disk_of_the_database(target: Target, tmp_path: Path, small_disk: Path) -> None:
    await put_jobs_on(target, small_disk)
    async with running_app(target, tmp_path) as app:
        alice = await app.who("alice", funds="1000")
        (small_disk / "filler").write_bytes(b"x" * (1200 * 1024))
        for number in range(400):
            answer = await alice.post(JOBS, a_job(), once=f"job-{number}")
            if answer.status_code != 201:
                break
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_full")
        assert (answer.json()["retryable"], int(answer.headers["retry-after"]) >= 1) == (True, True)
        assert (await alice.get(JOBS)).status_code == 200, "reading goes on"
        (small_disk / "filler").unlink()
        answer = await alice.post(JOBS, a_job(), once=f"job-{number}")
        assert answer.status_code == 201, "the same request again happens, once"
        # Money that was held for what was refused goes back; what is left is held for the jobs that are there.
        clock.move(timedelta(seconds=70))
        await app.service("ai").reconcile_holds()
        held = await alice.get(f"/api/v1/trading/accounts/{alice.principal.account}")
        assert float(held.json()["held"]) == number + 1
    await run_sql(target, "ALTER TABLE ai.jobs SET TABLESPACE pg_default", "DROP TABLESPACE small")
