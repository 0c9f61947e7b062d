"""GPUs that must rest, and those that fail under a program: what is seen of them, and whose fault it is."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.miner.executors.pool import ExecutorPool, Outcome, Work
from aitbc_cli.miner.executors.work import Gpu
from aitbc_cli.miner.gpu_condition import Condition
from aitbc_cli.miner.inventory import inventory
from aitbc_cli.miner.xid import PROGRAMS, Xid, XidWatch
from tests.cli.miner.fake_nvml import FakeNvml

MIB = 1 << 20
ONE = (Gpu("GPU-00000000", memory_mib=81_079),)
PART = (Gpu("GPU-00000000", memory_mib=8000, is_shared=True),)


@pytest.fixture
def done(runner: asyncio.Runner, make_work: Callable[..., Work]) -> Callable[..., Outcome]:
    """Run a line on a GPU; `meanwhile` is done while it runs."""

    def run(pool: ExecutorPool, line: str, gpus: tuple[Gpu, ...] = ONE, meanwhile: Any = None) -> Outcome:
        work = replace(make_work("command", {"program": "sh", "arguments": [line]}), gpus=gpus)

        async def both() -> Outcome:
            running = asyncio.create_task(pool.run(work, on_progress=lambda _: None))
            if meanwhile is not None:
                while not pool.gpus._programs_on["GPU-00000000"]:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)
                meanwhile()
            return await running

        return runner.run(both())

    return run


def look(pool: ExecutorPool, folder: Path) -> None:
    pool.gpus.update(inventory(folder)["devices"])


def test_a_gpu_whose_memory_stays_held_rests_until_it_is_free_and_says_so(
    runner: asyncio.Runner, start: Any, nvml: FakeNvml, done: Any, tmp_path: Path
) -> None:
    nvml.count(1)
    pool, _ = start()
    told = []

    async def note() -> None:
        told.append(pool.gpus.condition.rests("GPU-00000000"))

    pool.on_gpus_changed = note
    assert done(pool, "true").error is None
    assert told == []
    assert done(pool, "true", meanwhile=lambda: nvml.change(0, used=815 * MIB)).error is None
    assert told == ["draining: 812 MiB of its memory are still held"]
    assert not runner.run(pool.gpus.until_free(ONE, 0.3))
    look(pool, tmp_path)
    assert pool.gpus.condition.rests("GPU-00000000") == told[0]
    nvml.change(0, used=3 * MIB)
    look(pool, tmp_path)
    assert pool.gpus.condition.rests("GPU-00000000") is None
    assert runner.run(pool.gpus.until_free(ONE, 20))


def test_a_gpu_that_the_owner_uses_rests_and_a_desktop_does_not_count(
    start: Any, nvml: FakeNvml, tmp_path: Path
) -> None:
    nvml.count(1)
    pool, _ = start()
    for mib, said in ((900, None), (20_000, "in use: other programs hold 20000 MiB"), (3, None)):
        nvml.change(0, used=mib * MIB)
        look(pool, tmp_path)
        assert pool.gpus.condition.rests("GPU-00000000") == said


@pytest.mark.parametrize(("reasons", "said"), [(64, "thermal_hardware"), (128, "power_brake"), (4, None), (1, None)])
def test_a_gpu_that_heat_or_its_power_supply_holds_back_rests(
    start: Any, nvml: FakeNvml, tmp_path: Path, reasons: int, said: str | None
) -> None:
    nvml.count(1)
    pool, _ = start()
    nvml.change(0, reasons=reasons)
    look(pool, tmp_path)
    rests = pool.gpus.condition.rests("GPU-00000000")
    assert rests == (said and f"its clocks are held back: {said}")


@pytest.mark.parametrize(
    ("codes", "line", "fault", "reason"),
    [
        ((), "exit 1", "requester", "exit_nonzero"),
        ((79,), "exit 1", "miner", "gpu_failed"),
        ((79,), "true", None, None),
        ((31,), "exit 1", "requester", "exit_nonzero"),
        ((31,), "echo 'CUDA error: unknown error' >&2; exit 1", "requester", "gpu_misused"),
        ((), "echo 'CUDA error: unknown error' >&2; exit 1", "miner", "gpu_failed"),
        ((31, 95), "exit 1", "miner", "gpu_failed"),
        ((63,), "exit 1", "requester", "exit_nonzero"),
        ((777,), "exit 1", "miner", "gpu_failed"),
    ],
)
def test_what_the_driver_reports_decides_whose_fault_it_is(
    start: Any, nvml: FakeNvml, done: Any, codes: tuple[int, ...], line: str, fault: str | None, reason: str | None
) -> None:
    nvml.count(1)
    pool, _ = start()
    pool.gpus.condition.note_xid(Xid("GPU-00000000", 31))  # of a program before

    def report() -> None:
        for code in codes:
            pool.gpus.note_xid(Xid("GPU-00000000", code))
        pool.gpus.note_xid(Xid("GPU-00000001", 48))  # of another GPU

    error = done(pool, f"sleep 0.2; {line}", meanwhile=report).error
    assert (error and error.fault, error and error.reason) == (fault, reason)
    hardware = [code for code in codes if code in (79, 95, 777)]
    assert pool.gpus.can_be_had(ONE) is (not hardware and reason != "gpu_failed")
    assert (pool.gpus.condition.failure_of("GPU-00000000") is not None) is bool(hardware)


def test_of_a_gpu_that_others_share_nobody_knows_which_program_did_it(start: Any, nvml: FakeNvml, done: Any) -> None:
    nvml.count(1)
    pool, _ = start()
    line = "sleep 0.2; echo 'CUDA error: unknown error' >&2; exit 1"
    error = done(pool, line, PART, lambda: pool.gpus.note_xid(Xid("GPU-00000000", 31))).error
    assert error is not None and (error.fault, error.reason) == ("miner", "gpu_failed")


@pytest.mark.parametrize("change", [{"ecc": 2}, {"rows": [0, 1, 1, 0]}, {"fails": {"nvmlDeviceGetHandleByIndex": 15}}])
def test_work_that_is_lost_with_its_gpu_is_the_miners_fault(
    start: Any, nvml: FakeNvml, done: Any, change: dict[str, Any]
) -> None:
    nvml.count(1)
    pool, _ = start()
    error = done(pool, "sleep 0.2; exit 1", meanwhile=lambda: nvml.change(0, **change)).error
    assert error is not None and (error.fault, error.reason) == ("miner", "gpu_failed")


@pytest.fixture
def watch(nvml: FakeNvml) -> Iterator[tuple[XidWatch, list[Xid], threading.Event]]:
    found: list[Xid] = []
    came = threading.Event()

    def note(xid: Xid) -> None:
        found.append(xid)
        came.set()

    made = XidWatch(note)
    yield made, found, came
    made.stop()


def test_events_of_the_driver_are_heard_also_of_a_gpu_that_is_lost(watch: Any, nvml: FakeNvml) -> None:
    made, found, came = watch
    nvml.count(2)
    assert made.start()
    nvml.change(1, fails={"nvmlDeviceGetUUID": 15, "nvmlDeviceGetHandleByIndex": 15})
    nvml.report(1, 79)
    assert came.wait(20)
    assert found == [Xid("GPU-00000001", 79)]
    assert (found[0].is_hardware, str(found[0])) == (True, "Xid 79 (it has fallen off the bus)")


def test_where_no_driver_tells_of_events_none_are_waited_for(watch: Any, nvml: FakeNvml) -> None:
    made, _, _ = watch
    nvml.show(nvml.module.device(0, fails={"nvmlDeviceRegisterEvents": 3}))
    assert not made.start()
    nvml.show(nvmlInit=9)
    assert not made.start()


def test_codes_are_told_apart() -> None:
    assert not any(Xid("GPU-1", code).is_hardware for code in (*PROGRAMS, 63, 92, 154))
    assert all(Xid("GPU-1", code).is_hardware for code in (48, 74, 79, 94, 95, 119, 4711))
    assert str(Xid("GPU-1", 4711)) == "Xid 4711"
    condition = Condition()
    for _ in range(300):
        condition.note_xid(Xid("GPU-1", 31))
    assert len(condition._xids) == 100
