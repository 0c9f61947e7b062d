"""Programs that get a GPU: tried first under the same limits, bound to their device, and bounded by what they use."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.miner.executors import gpu_canary
from aitbc_cli.miner.executors.cgroup import cgroup_parent
from aitbc_cli.miner.executors.gpu_canary import machine_fault
from aitbc_cli.miner.executors.pool import ExecutorPool, KindStatus, Outcome
from aitbc_cli.miner.inventory import inventory
from aitbc_cli.miner.task import leased_gpus
from tests.cli.miner.fake_nvml import FakeNvml
from tests.scale import scaled

MIB = 1 << 20
Start = Callable[..., tuple[ExecutorPool, KindStatus]]


def reason_of(outcome: Outcome) -> tuple[str, str] | None:
    return (outcome.error.fault, outcome.error.reason) if outcome.error else None


def lines_of(outcome: Outcome) -> list[str]:
    assert outcome.output is not None, outcome
    return str(outcome.output["stdout"]).splitlines()


SEEN = 'echo "$CUDA_VISIBLE_DEVICES|$NVIDIA_VISIBLE_DEVICES|$AITBC_GPU_MEMORY_MIB"'
TORCH = "import torch; print((torch.full((4, 4), 1.0) @ torch.full((4, 4), 1.0)).sum().item())"


def test_a_torch_program_runs_under_the_default_limits(start: Start, nvml: FakeNvml, work_at: Any) -> None:
    nvml.count(1)
    pool, status = start()
    assert status.usable, status
    outcome = work_at(pool, TORCH, "python")
    assert (outcome.error, lines_of(outcome)) == (None, ["64.0"])


def test_a_program_sees_its_own_gpu_and_one_without_sees_none(start: Start, nvml: FakeNvml, work_at: Any) -> None:
    nvml.count(1)
    pool, _ = start()
    assert lines_of(work_at(pool, SEEN)) == ["GPU-00000000|GPU-00000000|81079"]
    nvml.count(0)
    without, status = start("import")
    assert status.usable
    assert lines_of(work_at(without, SEEN)) == ["||"]
    nvml.count(1)
    renouncing, status = start("import", gpus="none")
    assert status.usable
    assert lines_of(work_at(renouncing, SEEN)) == ["||"]


def test_a_program_sees_the_gpus_that_its_lease_names_and_no_others(
    runner: asyncio.Runner, start: Start, nvml: FakeNvml, make_work: Any
) -> None:
    nvml.count(3)
    pool, _ = start(slots=4)

    def seen(*devices: tuple[int, int, bool]) -> list[str]:
        leased = [
            {"uuid": f"GPU-{i:08d}", "index": i, "memory_mib": mib, "is_whole": whole} for i, mib, whole in devices
        ]
        work = replace(make_work("command", {"program": "sh", "arguments": [SEEN]}), gpus=leased_gpus(leased))
        outcome = runner.run(pool.run(work, on_progress=lambda _: None))
        return lines_of(outcome) if outcome.error is None else [outcome.error.reason, outcome.error.fault]

    assert seen() == ["||"]
    assert seen((1, 5000, False)) == ["GPU-00000001|GPU-00000001|5000"]
    both = "GPU-00000002,GPU-00000000"
    assert seen((2, 81_079, True), (0, 81_079, True)) == [f"{both}|{both}|81079"]
    assert seen((7, 81_079, True)) == ["gpu_unusable", "miner"]
    assert leased_gpus(None) is None


def test_a_gpu_is_used_again_when_the_program_before_is_gone(
    runner: asyncio.Runner, start: Start, nvml: FakeNvml, make_work: Any, tmp_path: Path
) -> None:
    nvml.count(1)
    pool, _ = start(slots=3)
    whole = leased_gpus([{"uuid": "GPU-00000000", "index": 0, "memory_mib": 81_079, "is_whole": True}])
    alone = f"mkdir {tmp_path}/alone && sleep 0.2 && rmdir {tmp_path}/alone"

    async def at_once() -> list[Outcome]:
        work = [make_work("command", {"program": "sh", "arguments": [alone]}) for _ in range(3)]
        return await asyncio.gather(*(pool.run(replace(one, gpus=whole), on_progress=lambda _: None) for one in work))

    assert [outcome.error for outcome in runner.run(at_once())] == [None] * 3


@pytest.mark.parametrize(("gpus", "slots", "share"), scaled([(2, 4, 40_539)], [(8, 8, 81_079), (2, 4, 40_539)]))
def test_programs_are_spread_over_the_gpus(
    runner: asyncio.Runner, start: Start, nvml: FakeNvml, make_work: Any, gpus: int, slots: int, share: int
) -> None:
    nvml.count(gpus)
    pool, _ = start(slots=slots)

    async def at_once() -> list[Outcome]:
        works = [make_work("command", {"program": "sh", "arguments": [f"{SEEN}; sleep 1"]}) for _ in range(slots)]
        return await asyncio.gather(*(pool.run(work, on_progress=lambda _: None) for work in works))

    seen = [line.split("|") for outcome in runner.run(at_once()) for line in lines_of(outcome)]
    counts = {uuid: [each[0] for each in seen].count(uuid) for uuid in {each[0] for each in seen}}
    assert counts == {f"GPU-{index:08d}": slots // gpus for index in range(gpus)}
    assert {each[2] for each in seen} == {str(share)}


@pytest.mark.parametrize(
    ("torch", "said"),
    [
        ("import", "failed to map segment"),
        ("init", "CUDA driver initialization failed"),
        ("allocation", "CUDA out of memory"),
        ("product", "torch 2.11.0 computed 1568768.0 instead of 1572864.0 on the GPU"),
        ("memory", "more than 67108864 bytes of memory"),
        ("hang", "ran longer than its 1 seconds"),
        ("cpu", "neither torch nor cupy is here, and the driver's library cannot be loaded"),
    ],
)
def test_where_a_program_of_our_own_fails_none_is_offered_and_it_says_why(
    start: Start, nvml: FakeNvml, torch: str, said: str
) -> None:
    nvml.count(1)
    options: dict[str, Any] = {"memory_bytes": 64 * MIB} if torch == "memory" else {}
    if torch == "hang":
        options["canary_seconds"] = 1
    _, status = start(torch, **options)
    assert (status.usable, status.reason) == (False, "gpu_unusable")
    assert said in status.message and "GPU-00000000" in status.message
    assert 'gpus = "none"' in status.message


def test_a_gpu_that_fails_where_others_work_is_left_out(start: Start, nvml: FakeNvml, work_at: Any) -> None:
    nvml.count(2)
    pool, status = start("init@GPU-00000000")
    assert status.usable
    assert "initialization failed" in str(pool.gpus.fault_of("GPU-00000000"))
    assert pool.gpus.fault_of("GPU-00000001") is None
    assert {line for _ in range(3) for line in lines_of(work_at(pool, SEEN))} == {"GPU-00000001|GPU-00000001|81079"}


def test_a_gpu_that_comes_back_is_tried_before_it_is_used(
    runner: asyncio.Runner, start: Start, nvml: FakeNvml, tmp_path: Path, work_at: Any
) -> None:
    nvml.count(2)
    pool, _ = start()
    nvml.change(0, ecc=1)
    pool.gpus.update(inventory(tmp_path)["devices"])
    assert lines_of(work_at(pool, SEEN))[0].startswith("GPU-00000001|")
    nvml.change(0, ecc=0)
    pool.gpus.update(inventory(tmp_path)["devices"])
    assert pool.gpus.untried == ["GPU-00000000"]
    assert lines_of(work_at(pool, SEEN))[0].startswith("GPU-00000001|")
    assert runner.run(pool.check("command")).usable
    assert lines_of(work_at(pool, SEEN))[0].startswith("GPU-00000000|")


def test_what_cuda_says_of_the_machine_is_the_miners_fault(
    runner: asyncio.Runner, start: Start, nvml: FakeNvml, work_at: Any
) -> None:
    nvml.count(1)
    pool, _ = start()
    failed = work_at(pool, "echo 'RuntimeError: CUDA error: unknown error' >&2; exit 1")
    assert reason_of(failed) == ("miner", "gpu_failed")
    assert failed.error is not None and "CUDA error: unknown error" in failed.error.message
    assert pool.gpus.untried == ["GPU-00000000"]
    assert reason_of(work_at(pool, "true")) == ("miner", "gpu_unusable")
    assert runner.run(pool.check("command")).usable
    assert reason_of(work_at(pool, "echo oh >&2; exit 1")) == ("requester", "exit_nonzero")


def test_the_same_words_without_a_gpu_are_the_programs_own(start: Start, nvml: FakeNvml, work_at: Any) -> None:
    pool, _ = start()
    failed = work_at(pool, "echo 'RuntimeError: No CUDA GPUs are available' >&2; exit 1")
    assert reason_of(failed) == ("requester", "exit_nonzero")


@pytest.mark.parametrize(
    ("said", "is_machine"),
    [
        ("RuntimeError: No CUDA GPUs are available", True),
        ("torch.AcceleratorError: CUDA error: system not yet initialized", True),
        ("CUDA error: uncorrectable ECC error encountered", True),
        (
            "cupy_backends.cuda.api.runtime.CUDARuntimeError: cudaErrorNoDevice: no CUDA-capable device is detected",
            True,
        ),
        ("Failed to initialize NVML: Driver/library version mismatch", True),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.", False),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", False),
        ("RuntimeError: CUDA error: device-side assert triggered", False),
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device", False),
        ("ModuleNotFoundError: No module named 'torch'", False),
    ],
)
def test_machine_faults_are_told_from_those_of_programs(said: str, is_machine: bool) -> None:
    assert (machine_fault(f"Traceback\n{said}\n") is not None) == is_machine


HOLDING = "echo '{uuid} {mib}' > {held}/$$; sleep {seconds}; rm -f {held}/$$"


def hold(nvml: FakeNvml, mib: int, seconds: float, uuid: str = "GPU-00000000") -> str:
    return HOLDING.format(uuid=uuid, mib=mib, held=nvml.folder / "held", seconds=seconds)


def test_a_program_past_its_share_of_gpu_memory_is_ended(start: Start, nvml: FakeNvml, work_at: Any) -> None:
    nvml.count(1)
    pool, _ = start(slots=2)
    outcome = work_at(pool, hold(nvml, 50_000, 15))
    assert reason_of(outcome) == ("requester", "gpu_memory_exceeded")
    assert outcome.error is not None and "50000 MiB" in outcome.error.message and "40539 MiB" in outcome.error.message
    assert work_at(pool, hold(nvml, 40_000, 0.6)).error is None


def test_the_memory_of_others_is_not_counted(start: Start, nvml: FakeNvml, work_at: Any) -> None:
    nvml.count(1)
    pool, _ = start()
    (nvml.folder / "held" / "1").write_text("GPU-00000000 90000")
    outcome = work_at(pool, hold(nvml, 700, 0.8))
    assert outcome.error is None and outcome.usage["gpu_memory_peak_mib"] == 700


def test_usage_says_what_nvml_gives_and_nothing_else(start: Start, nvml: FakeNvml, work_at: Any) -> None:
    nvml.count(1)
    pool, _ = start()
    grow = f'sed -i \'s/"energy": 1000/"energy": 43000/\' {nvml.folder}/nvml.json'
    outcome = work_at(pool, f"{hold(nvml, 700, 0.6)}; {grow}")
    assert outcome.error is None, outcome.error
    used = outcome.usage
    assert used["gpu_milliseconds"] == used["milliseconds"] >= 600
    assert (used["gpu_memory_peak_mib"], used["gpu_millijoules"]) == (700, 42_000)
    nvml.change(0, energy=None, fails={"nvmlDeviceGetComputeRunningProcesses": 3})
    assert set(work_at(pool, "sleep 0.4").usage) == {"milliseconds", "gpu_milliseconds"}


def test_the_energy_of_a_shared_gpu_is_nobodys(start: Start, nvml: FakeNvml, work_at: Any) -> None:
    nvml.count(1)
    pool, _ = start(slots=2)
    assert "gpu_millijoules" not in work_at(pool, "true").usage


def test_memory_is_bounded_by_what_is_used(start: Start, nvml: FakeNvml, work_at: Any) -> None:
    nvml.count(1)
    pool, _ = start()
    hold = "held = b'x' * (1100 << 20); import time; time.sleep(3)"
    outcome = work_at(pool, hold, "python")
    assert reason_of(outcome) == ("requester", "out_of_memory")


def test_without_a_control_group_the_watch_bounds_what_is_used(start: Start, nvml: FakeNvml, work_at: Any) -> None:
    nvml.count(1)
    pool, status = start(control_groups=False)
    assert status.detail["memory_bounded_by"] == "watch"
    assert work_at(pool, TORCH, "python").error is None
    outcome = work_at(pool, "held = b'x' * (1100 << 20); import time; time.sleep(3)", "python")
    assert reason_of(outcome) == ("requester", "out_of_memory")


@pytest.mark.skipif(cgroup_parent() is None, reason="no control group can be made here")
def test_a_control_group_bounds_all_processes_together_and_is_gone_afterwards(start: Start, work_at: Any) -> None:
    pool, status = start(memory_bytes=64 * MIB)
    assert status.detail["memory_bounded_by"] == "cgroup"
    # More address space than memory: no limit on it stands in the way.
    reserve = "import mmap; m = mmap.mmap(-1, 1 << 34, flags=0x4022); print('reserved')"
    assert lines_of(work_at(pool, reserve, "python")) == ["reserved"]
    together = "for i in 1 2 3 4; do (head -c 25000000 /dev/zero | tail | sleep 20) & done; wait"
    assert reason_of(work_at(pool, together)) == ("requester", "out_of_memory")
    where = lines_of(work_at(pool, "grep -E ':memory:|^0::' /proc/self/cgroup"))
    assert any("aitbc-program-" in line for line in where)
    left = list(Path("/sys/fs/cgroup").rglob(f"aitbc-program-{pool.workers()['command'][0]}-*"))
    assert left == []


def test_the_interpreter_of_programs_is_the_one_that_is_tried(tmp_path: Path) -> None:
    script = tmp_path / "train"
    script.write_text("#!/opt/venv/bin/python3.11\nprint(1)\n")
    commands = [["/usr/bin/wc"], [str(script)], ["/srv/venv/bin/python3", "/srv/x.py"], ["/srv/venv/bin/python3", "y"]]
    assert gpu_canary.interpreters(commands) == ["/opt/venv/bin/python3.11", "/srv/venv/bin/python3"]
    assert gpu_canary.interpreters([["/usr/bin/wc"]]) == [sys.executable]
