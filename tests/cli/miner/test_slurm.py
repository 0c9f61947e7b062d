"""A miner before a real Slurm of one node: outcomes, cancels, and jobs that outlive the miner."""

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.miner.cluster.cluster import State, outcome_of
from aitbc_cli.miner.cluster.slurm import Slurm
from aitbc_cli.miner.executors.program import Captured
from aitbc_cli.miner.executors.work import Outcome, Work
from tests.cli.miner.test_command import gone, nap, reason_of, sleepers
from tests.cli.miner.test_containers import Podman, podman
from tests.cli.miner.test_daemon import Market, market, server
from tests.scale import only_in_full
from tests.server.runtime.test_serve import free_port

__all__ = ["market", "nap", "podman", "server"]
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not all(shutil.which(each, path="/usr/sbin:/usr/bin") for each in PROGRAMS),
    reason="needs Slurm and root: apt-get install -y slurm-wlm munge",
)
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
KillWait=30
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=60 State=UP
"""
COMMAND = {"programs": {"sh": ["/bin/sh", "-c"]}, "memory_bytes": 64 << 20}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of one node that this process, and what it starts, speaks with."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "key").write_bytes(secrets.token_bytes(1024))
    (folder / "key").chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    told = CONFIGURATION.format(folder=folder, host=host, ports=(free_port(), free_port()))
    (folder / "slurm.conf").write_text(told)
    files = {"key-file": "key", "socket": "munge.sock", "pid-file": "munged.pid", "log-file": "munged.log"}
    munge = ["munged", "-F", "--force", f"--seed-file={folder}/seed"]
    munge += [f"--{name}={folder / file}" for name, file in files.items()]
    with pytest.MonkeyPatch.context() as patch, (folder / "log").open("wb") as log:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
        commands = (munge, ["slurmctld", "-D"], ["slurmd", "-D"])
        daemons = [subprocess.Popen(words, stdout=log, stderr=log) for words in commands]
        deadline = time.monotonic() + 40
        while subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, check=False).stdout.strip() != b"idle":
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(20)


@pytest.fixture
def slurm(cluster: None, tmp_path: Path) -> Slurm:
    return Slurm(COMMAND, tmp_path)


def work_of(tmp_path: Path, line: str, seconds: float = 60.0, attempt: str = "att_1") -> Work:
    folder = tmp_path / "work" / attempt
    folder.mkdir(parents=True, exist_ok=True)
    return Work("job_1", 1, "command", {"program": "sh", "arguments": [line], "stdin": "in"}, {}, folder, seconds)


async def test_a_job_runs_and_ends_as_its_program_does(slurm: Slurm, tmp_path: Path) -> None:
    status = await slurm.check("command")
    assert status.usable, status.message
    assert await slurm.free() == 2
    lines: list[str] = []

    async def done(line: str, **more: Any) -> Outcome:
        slurm.forget("att_1")
        return await slurm.run(work_of(tmp_path, line, **more), lambda progress: lines.extend(progress.lines))

    good = await done("tr a-z A-Z; echo; echo careful >&2; echo $SECRET_TOKEN")
    assert (good.error, good.output) == (
        None,
        {"exit_code": 0, "stdout": "IN\n\n", "stderr": "careful\n", "truncated": False},
    )
    assert set(lines) == {"IN", "careful", ""}
    bad = await done("echo why >&2; exit 3")
    assert reason_of(bad) == ("requester", "exit_nonzero")
    assert bad.error is not None and "why" in bad.error.message
    assert reason_of(await done("sleep 600", seconds=3.0)) == ("requester", "timed_out")


async def test_a_canceled_job_is_gone_and_what_nobody_waits_for_is_canceled(
    slurm: Slurm, tmp_path: Path, nap: str
) -> None:
    running = asyncio.create_task(slurm.run(work_of(tmp_path, f"sleep {nap}"), lambda _: None))
    await until(lambda: sleepers(nap))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert gone(nap)
    forgotten = asyncio.create_task(slurm.run(work_of(tmp_path, f"sleep {nap}", attempt="att_2"), lambda _: None))
    await until(lambda: sleepers(nap))
    await Slurm(COMMAND, tmp_path).keep_only([])
    assert gone(nap)
    assert reason_of(await forgotten) is not None


@only_in_full
@pytest.mark.skipif(shutil.which("podman") is None, reason="needs podman: apt-get install -y podman runc")
async def test_containers_are_jobs_of_the_cluster_and_nothing_is_left_of_them(
    cluster: None, podman: Podman, tmp_path: Path, nap: str
) -> None:
    slurm = Slurm({}, tmp_path, podman.options())
    assert slurm.kinds == {"command", "container"}
    status = await slurm.check("container")
    assert status.usable and status.detail["models"][0] == "busybox", status

    def asked(line: str, attempt: str, seconds: float = 90.0, program: str = "/bin/sh") -> Work:
        folder = tmp_path / "work" / attempt
        folder.mkdir(parents=True)
        (folder / "given").write_text("file\n")
        value = {"image": "busybox", "command": [program, "-c", line], "stdin": "in\n", "env": {"WORD": "said"}}
        return Work("job_1", 1, "container", value, {"files/given": folder / "given"}, folder, seconds)

    line = "cat; cat /in/given; id -u; echo $WORD $AITBC_JOB_ID; echo made >/out/made; touch /x || exit 0"
    done = await slurm.run(asked(line, "att_1"), lambda _: None)
    assert done.error is None and done.output is not None, done
    assert done.output["stdout"].split() == ["in", "file", "65534", "said", "job_1"], done
    assert done.output_files["files/made"].read_text() == "made\n"
    assert reason_of(await slurm.run(asked("exit 3", "att_2"), lambda _: None)) == ("requester", "exit_nonzero")
    nothing = await slurm.run(asked("", "att_3", program="/no/such"), lambda _: None)
    assert reason_of(nothing) == ("requester", "exit_nonzero")
    late = await slurm.run(asked(f"sleep {nap}", "att_4", seconds=12.0), lambda _: None)
    assert reason_of(late) == ("requester", "timed_out") and gone(nap)
    running = asyncio.create_task(slurm.run(asked(f"sleep {nap}", "att_5"), lambda _: None))
    await until(lambda: sleepers(nap))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert gone(nap)
    assert podman.containers == []
    refused = await slurm.run(replace(asked("", "att_6"), input={"image": "other"}), lambda _: None)
    assert reason_of(refused) == ("platform", "program_unavailable")


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        ("COMPLETED", 0, None),
        ("UNKNOWN", 0, None),
        ("FAILED", 3, ("requester", "exit_nonzero")),
        ("FAILED", None, ("miner", "executor_unavailable")),
        ("UNKNOWN", None, ("miner", "executor_unavailable")),
        ("TIMEOUT", None, ("requester", "timed_out")),
        ("OUT_OF_MEMORY", None, ("requester", "out_of_memory")),
        ("NODE_FAIL", None, ("miner", "node_lost")),
        ("PREEMPTED", None, ("miner", "node_lost")),
        ("CANCELLED", None, ("miner", "canceled")),
    ],
)
def test_every_state_is_somebodys(state: str, code: int | None, expected: tuple[str, str] | None) -> None:
    streams = {name: Captured(100, lambda _: None) for name in ("stdout", "stderr")}
    assert reason_of(outcome_of("Slurm", State(state), code, streams, 1, None)) == expected


@only_in_full
def test_a_job_outlives_its_miner_and_is_delivered_once(
    cluster: None, market: Market, tmp_path: Path, nap: str
) -> None:
    options: dict[str, Any] = {"kinds": {"command": COMMAND}, "slurm": True, "slots": 2}
    first = market.start(token=market.token(), **options)
    began, go = tmp_path / "began", tmp_path / "go"
    script = tmp_path / "script"
    script.write_text(f"echo x >>{began}; while ! [ -e {go} ]; do sleep 0.2; done; cat {began}")
    job = market.submit(f". {script}", clocks={"run_seconds": 90})
    market.until(began.exists)
    first.kill()
    first.wait()
    market.start(**options)
    market.until(lambda: market.log().count("miner started") + market.log().count("miner_started") >= 2)
    go.touch()
    done = market.until_state(job, "succeeded")
    assert done["output"]["stdout"] == "x\n"
    assert (began.read_text(), len(done["history"])) == ("x\n", 1)
    running = market.submit(f"sleep {nap}", clocks={"run_seconds": 90})
    market.until(lambda: sleepers(nap))
    market.cancel(running)
    assert gone(nap)
