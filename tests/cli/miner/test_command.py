"""Allowed programs under limits: whatever they do, they end in time, and nothing of them is left."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.miner.executors.pool import ExecutorPool, Outcome, Progress, Work

Shell = Callable[..., Outcome]

_MIB = 1024 * 1024
OPTIONS = {
    "programs": {"sh": ["/bin/sh", "-c"], "echo": ["/bin/echo", "fixed"], "gone": ["/no/such/program"]},
    "memory_bytes": 64 * _MIB,
    "output_bytes": 1000,
    "processes": 20,
    "disk_bytes": 4 * _MIB,
}
_naps = itertools.count(7_000_000 + os.getpid() * 100)


@pytest.fixture(scope="module")
def pool(open_pool: Callable[..., ExecutorPool]) -> ExecutorPool:
    return open_pool({"command": OPTIONS}, slots=2)


@pytest.fixture(scope="module")
def shell(runner: asyncio.Runner, pool: ExecutorPool, make_work: Callable[..., Work]) -> Shell:
    """Run a line of shell and answer its outcome."""

    def done(line: str, *, seconds: float = 10.0, stdin: str | None = None) -> Outcome:
        value = {"program": "sh", "arguments": [line], "stdin": stdin}
        work = make_work("command", value, seconds=seconds)
        started = time.monotonic()
        outcome = runner.run(pool.run(work, on_progress=lambda _: None))
        assert time.monotonic() - started < seconds + 5
        return outcome

    return done


@pytest.fixture
def nap() -> str:
    """A number of seconds that no other process on this machine sleeps."""
    return str(next(_naps))


def sleepers(nap: str) -> list[int]:
    """The processes that have this number as an argument."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and nap.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def gone(nap: str, *, within_seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + within_seconds
    while sleepers(nap):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def reason_of(outcome: Outcome) -> tuple[str, str] | None:
    return (outcome.error.fault, outcome.error.reason) if outcome.error else None


def output_of(outcome: Outcome) -> Any:
    path = outcome.output_files.get("output")
    return json.loads(path.read_bytes()) if path else outcome.output


def test_a_program_gets_its_arguments_as_they_are_and_no_shell_reads_them(
    runner: asyncio.Runner, pool: ExecutorPool, make_work: Callable[..., Work]
) -> None:
    work = make_work("command", {"program": "echo", "arguments": ["$HOME;", "`id`", "-n", "'\""]})
    outcome = runner.run(pool.run(work, on_progress=lambda _: None))
    assert outcome.error is None
    assert outcome.output == {"exit_code": 0, "stdout": "fixed $HOME; `id` -n '\"\n", "stderr": "", "truncated": False}


def test_input_reaches_the_program_and_both_streams_come_back(shell: Shell) -> None:
    outcome = shell("tr a-z A-Z; echo careful >&2", stdin="words\n")
    assert outcome.output == {"exit_code": 0, "stdout": "WORDS\n", "stderr": "careful\n", "truncated": False}
    assert outcome.usage["milliseconds"] >= 0


def test_input_that_is_not_read_does_no_harm(shell: Shell) -> None:
    assert shell("exit 0", stdin="x" * 1_000_000).error is None


def test_the_environment_of_the_miner_stays_with_the_miner(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    names = {line.partition("=")[0] for line in output_of(shell("env"))["stdout"].splitlines()}
    ours = {"AITBC_JOB_ID", "AITBC_ATTEMPT", "AITBC_WORKER", "AITBC_REQUEST"}
    devices = {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}
    assert names - {"PWD", "SHLVL", "_"} == ours | devices | {"PATH", "HOME", "TMPDIR", "LANG"}


def test_a_program_writes_in_its_own_folder_without_privileges(shell: Shell) -> None:
    outcome = shell("echo mine > note && cat note && id -u && grep NoNewPrivs /proc/self/status")
    note, user, privileges = output_of(outcome)["stdout"].splitlines()
    assert note == "mine"
    assert int(user) != 0
    assert privileges.split() == ["NoNewPrivs:", "1"]


def test_an_exit_code_is_a_failure_that_keeps_the_output(shell: Shell) -> None:
    outcome = shell("echo before; exit 3")
    assert reason_of(outcome) == ("requester", "exit_nonzero")
    assert output_of(outcome)["exit_code"] == 3
    assert output_of(outcome)["stdout"] == "before\n"
    assert output_of(shell("kill -SEGV $$"))["exit_code"] == 128 + signal.SIGSEGV


def test_binary_output_becomes_text(shell: Shell) -> None:
    stdout = output_of(shell(r"printf 'a\000b\377c\355\240\200d'"))["stdout"]
    assert "\0" not in stdout
    assert stdout[0] == "a" and stdout[-1] == "d"
    stdout.encode()


def test_endless_output_is_cut_with_a_marker(shell: Shell) -> None:
    outcome = shell("yes", seconds=0.5)
    assert reason_of(outcome) == ("requester", "timed_out")
    output = output_of(outcome)
    assert output["truncated"]
    head, _, tail = output["stdout"].partition("\n[")
    tail = tail.partition(" bytes left out]\n")[2]
    assert head == "y\n" * 125 and len(tail) == 750 and set(tail) == {"y", "\n"}


def test_the_failure_of_a_program_tells_the_end_of_its_standard_error(shell: Shell) -> None:
    outcome = shell(
        "echo fine; i=0; while [ $i -lt 400 ]; do echo line $i >&2; i=$((i+1)); done; echo Boom: 7 >&2; exit 3"
    )
    assert reason_of(outcome) == ("requester", "exit_nonzero")
    assert outcome.error is not None
    said = outcome.error.message
    assert said.startswith("The program ended with exit code 3.") and said.endswith("line 399\nBoom: 7")
    assert len(said) < 2000, said
    assert " bytes left out]" in said


def test_a_line_without_end_is_cut_with_a_marker(shell: Shell) -> None:
    outcome = shell("head -c 100000000 /dev/zero | tr '\\0' x; echo end >&2")
    assert outcome.error is None
    assert output_of(outcome)["stdout"] == f"{'x' * 250}\n[99999000 bytes left out]\n{'x' * 750}"
    assert output_of(outcome)["stderr"] == "end\n"


def test_a_program_that_runs_too_long_is_ended_with_what_it_started(shell: Shell, nap: str) -> None:
    outcome = shell(f"trap '' TERM HUP INT; echo begun; sleep {nap} & sleep {nap}", seconds=0.5)
    assert reason_of(outcome) == ("requester", "timed_out")
    assert output_of(outcome)["stdout"] == "begun\n"
    assert not sleepers(nap)


def test_memory_is_limited_for_one_process(shell: Shell) -> None:
    outcome = shell("head -c 200000000 /dev/zero | tail")
    assert outcome.error is not None and outcome.error.fault == "requester"
    assert outcome.error.reason in ("exit_nonzero", "out_of_memory")


def test_memory_is_limited_for_all_processes_together(shell: Shell) -> None:
    # Each holds 25 MB, below the limit: `tail` keeps the one long line, and nobody takes it away.
    hold = "for i in 1 2 3 4; do (head -c 25000000 /dev/zero | tail | sleep 20) & done; wait"
    assert reason_of(shell(hold)) == ("requester", "out_of_memory")


def test_a_large_file_and_many_small_ones_are_both_too_much(shell: Shell) -> None:
    assert reason_of(shell("exec head -c 8000000 /dev/zero > big")) == ("requester", "output_too_large")
    many = "i=0; while [ $i -lt 8 ]; do head -c 1000000 /dev/zero > f$i; i=$((i+1)); done; sleep 20"
    assert reason_of(shell(many)) == ("requester", "output_too_large")


def test_many_processes_that_each_leave_the_session_are_ended(shell: Shell, nap: str) -> None:
    # Bounded by itself, so that a failure of the limit costs nothing: 200 sleepers, ten times the limit.
    outcome = shell(f"i=0; while [ $i -lt 200 ]; do setsid sleep {nap} & i=$((i+1)); done; wait")
    # Either we saw the crowd, or the shell was refused its next process first and gave up by itself.
    assert reason_of(outcome) in {("requester", "too_many_processes"), ("requester", "exit_nonzero")}
    assert not sleepers(nap)


def test_a_process_that_outlives_its_program_is_ended(shell: Shell, nap: str) -> None:
    daemonised = f"setsid sh -c 'trap \"\" TERM HUP; (sleep {nap} &) ; sleep {nap}' > /dev/null 2>&1 &"
    outcome = shell(f"{daemonised} sleep 0.1; echo done")
    assert outcome.error is None
    assert output_of(outcome)["stdout"] == "done\n"
    assert not sleepers(nap)


def test_a_process_that_keeps_the_pipes_open_holds_nobody_up(shell: Shell, nap: str) -> None:
    started = time.monotonic()
    assert shell(f"setsid sleep {nap} & echo done").error is None
    assert time.monotonic() - started < 20
    assert not sleepers(nap)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"program": ["sh"]},
        {"program": "sh", "arguments": "id"},
        {"program": "sh", "arguments": [1]},
        {"program": "sh", "arguments": ["a\0b"]},
        {"program": "sh", "arguments": ["x"] * 65},
        {"program": "sh", "arguments": ["x" * 4097]},
        {"program": "sh", "stdin": 1},
        {"program": "sh", "stdin": "x" * 1_048_577},
        {"program": "sh", "env": {"A": "b"}},
    ],
)
def test_a_malformed_input_is_the_fault_of_the_requester(
    runner: asyncio.Runner, pool: ExecutorPool, make_work: Callable[..., Work], value: Any
) -> None:
    outcome = runner.run(pool.run(make_work("command", value), on_progress=lambda _: None))
    assert reason_of(outcome) == ("requester", "invalid_input")


@pytest.mark.parametrize("program", ["bash", "../sh", "gone"])
def test_a_program_that_is_not_allowed_here_is_nobodys_fault(
    runner: asyncio.Runner, pool: ExecutorPool, make_work: Callable[..., Work], program: str
) -> None:
    outcome = runner.run(pool.run(make_work("command", {"program": program}), on_progress=lambda _: None))
    assert reason_of(outcome) == ("platform", "program_unavailable")


def test_cancelling_ends_the_program_and_all_it_started(
    runner: asyncio.Runner, pool: ExecutorPool, make_work: Callable[..., Work], nap: str
) -> None:
    async def scene() -> float:
        ready = asyncio.Event()
        line = f"trap '' TERM; setsid sleep {nap} & sleep 0.2; echo ready; sleep {nap}"
        work = make_work("command", {"program": "sh", "arguments": [line]})
        running = asyncio.create_task(pool.run(work, on_progress=lambda _: ready.set()))
        await asyncio.wait_for(ready.wait(), 30)
        assert sleepers(nap)
        started = time.monotonic()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return time.monotonic() - started

    assert runner.run(scene()) < 5
    assert not sleepers(nap)


def test_a_killed_worker_fails_its_work_only_and_leaves_no_orphan(
    runner: asyncio.Runner, pool: ExecutorPool, make_work: Callable[..., Work], shell: Shell, nap: str
) -> None:
    def kill_worker(progress: Progress) -> None:
        os.kill(int(progress.lines[0]), signal.SIGKILL)

    line = f"setsid sleep {nap} & sleep 0.2; echo $PPID; sleep {nap}"
    work = make_work("command", {"program": "sh", "arguments": [line]})
    outcome = runner.run(pool.run(work, on_progress=kill_worker))
    assert reason_of(outcome) == ("unknown", "crashed")
    assert outcome.error is not None and "signal 9" in outcome.error.message
    assert not sleepers(nap)
    assert shell("echo again").error is None


DAEMON = """
import asyncio, pathlib, sys
from aitbc_cli.miner.executors.pool import ExecutorPool, Work

async def main():
    folder = pathlib.Path(sys.argv[1])
    pool = ExecutorPool(slots=1, kinds={"command": {"programs": {"sh": ["/bin/sh", "-c"]}}}, scratch=folder)
    work = Work("job_1", 1, "command", {"program": "sh", "arguments": [sys.argv[2]]}, {}, folder, 60.0)
    await pool.run(work, on_progress=lambda progress: print(*progress.lines, flush=True))

asyncio.run(main())
"""


def test_a_killed_daemon_takes_workers_and_programs_along(tmp_path: Path, nap: str) -> None:
    line = f"trap '' TERM; setsid sleep {nap} & sleep 0.2; echo $PPID; sleep {nap}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(tmp_path), line], stdout=subprocess.PIPE, env=environment, text=True
    ) as daemon:
        assert daemon.stdout
        worker = int(daemon.stdout.readline())
        deadline = time.monotonic() + 20
        while len(sleepers(nap)) < 2 and time.monotonic() < deadline:  # the second begins as the line is read
            time.sleep(0.05)
        assert len(sleepers(nap)) >= 2
        daemon.kill()
    assert gone(nap)
    # The worker itself shows the process id of the daemon among its arguments.
    assert gone(str(daemon.pid))
    assert not sleepers(str(worker))
