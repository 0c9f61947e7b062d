"""Containers under a real podman: what they may do, how they end, and that nothing of them is left."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.miner.containers.runtime import remembered
from aitbc_cli.miner.executors.pool import ExecutorPool, Outcome, Progress, Work
from aitbc_cli.miner.executors.work import Gpu
from aitbc_cli.miner.executors.worker_process import _miner_of
from aitbc_cli.miner.nvml import FIELDS
from tests.cli.miner.busybox import busybox_archive
from tests.cli.miner.test_command import gone, nap, reason_of, sleepers
from tests.cli.miner.test_daemon import Market, market, server

__all__ = ["market", "nap", "server"]
_MIB = 1024 * 1024
UUID = "GPU-6a1f0c22-0000-4000-8000-00000000c0de"
pytestmark = pytest.mark.skipif(
    shutil.which("podman") is None or os.getuid() != 0, reason="needs podman and root: apt-get install -y podman runc"
)
Run = Callable[..., Outcome]


class Podman:
    """Podman with images and containers of its own, and one image."""

    def __init__(self, folder: Path) -> None:
        self.words = ["podman", "--root", str(folder / "images"), "--runroot", str(folder / "run")]
        self.call("import", "-", "localhost/busybox:1", stdin=busybox_archive())
        digest = self.call("images", "--format", "{{.Digest}}").strip()
        self.reference = f"localhost/busybox@{digest}"

    def call(self, *words: str, stdin: bytes = b"") -> str:
        """What a call says."""
        return subprocess.run([*self.words, *words], input=stdin, capture_output=True, check=True).stdout.decode()

    @property
    def containers(self) -> list[str]:
        """The containers that there are."""
        return self.call("ps", "-a", "-q").split()

    def options(self, **more: Any) -> dict[str, Any]:
        """The options of a miner that allows the image."""
        limits = {"memory_bytes": 64 * _MIB, "processes": 20, "disk_bytes": 4 * _MIB, "output_bytes": 1000}
        return {"runtime": self.words, "images": {"busybox": self.reference}, **limits, **more}


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    with tempfile.TemporaryDirectory(prefix="pm", ignore_cleanup_errors=True) as folder:
        made = Podman(Path(folder))  # a short one: podman takes no run root of more than 50 characters
        yield made
        made.call("rm", "-f", "-a", "-t", "0")  # its file systems are mounted below the folder


@pytest.fixture(scope="module")
def pool(open_pool: Callable[..., ExecutorPool], podman: Podman) -> ExecutorPool:
    return open_pool({"container": podman.options()})


@pytest.fixture(scope="module")
def run(runner: asyncio.Runner, pool: ExecutorPool, make_work: Callable[..., Work]) -> Run:
    """Run a line of shell in a container and answer its outcome."""

    def done(line: str, *, seconds: float = 30.0, files: dict[str, Path] | None = None, **more: Any) -> Outcome:
        value = {"image": "busybox", "command": ["/bin/sh", "-c", line], **more}
        work = make_work("container", value, seconds=seconds, files=files)
        return runner.run(pool.run(work, on_progress=lambda _: None))

    return done


def test_the_canary_runs_before_an_image_is_offered(runner: asyncio.Runner, pool: ExecutorPool, podman: Podman) -> None:
    status = runner.run(pool.check("container"))
    assert status.usable, status.message
    assert status.detail["models"] == ["busybox", podman.reference.partition("@")[2]]
    assert podman.containers == []
    assert "canary" not in podman.call("images")


def test_a_container_has_no_privileges_no_network_and_a_root_that_it_cannot_write(run: Run, podman: Podman) -> None:
    outcome = run(
        "id -u; ls /sys/class/net; grep CapEff /proc/self/status; touch /tmp/y; ls /tmp; touch /x; touch /in/z; env"
    )
    assert outcome.error is None, outcome.error
    assert outcome.output is not None
    said = outcome.output["stdout"].splitlines()
    assert said[:4] == ["65534", "lo", "CapEff:\t0000000000000000", "y"]
    assert "Read-only" in outcome.output["stderr"]
    assert "NVIDIA_VISIBLE_DEVICES=void" in said
    assert not any(line.startswith("PODMAN") or "LD_PRELOAD" in line for line in said)
    assert podman.containers == []


def test_files_go_in_and_come_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "upload").write_text("three words here")
    line = (
        "wc -w < /in/data.txt > /out/count; mkdir -p /out/deep/er; cat > /out/deep/er/said; ln -s /etc/passwd /out/link"
    )
    outcome = run(line, files={"files/data.txt": tmp_path / "upload"}, stdin="said", env={"A": "b"})
    assert outcome.error is None, outcome.error
    files = {name: path.read_text() for name, path in outcome.output_files.items()}
    assert files == {"files/count": "3\n", "files/deep/er/said": "said"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("echo no >&2; exit 3", "exit_nonzero"),
        ("exit 125", "exit_nonzero"),
        ("x=a; while true; do x=$x$x; done", "exit_nonzero"),
        ("for i in $(seq 40); do sleep 50 & done; wait", "exit_nonzero"),
        (
            "for i in $(seq 9); do dd if=/dev/zero of=/out/$i bs=1M count=1 2>/dev/null; done; sleep 50",
            "output_too_large",
        ),
        ("for i in $(seq 33); do touch /out/$i; done", "output_too_large"),
    ],
)
def test_what_a_program_does_wrong_is_its_requesters_fault(run: Run, podman: Podman, line: str, reason: str) -> None:
    assert reason_of(run(line)) == ("requester", reason)
    assert podman.containers == []


def test_time_runs_out_and_all_of_it_is_gone(run: Run, podman: Podman, nap: str) -> None:
    assert reason_of(run(f"sleep {nap} & sleep {nap}", seconds=2.0)) == ("requester", "timed_out")
    assert gone(nap)
    assert podman.containers == []


def test_a_program_that_is_not_in_the_image_is_the_requesters_fault_and_an_image_that_is_not_allowed_nobodys(
    runner: asyncio.Runner, pool: ExecutorPool, make_work: Callable[..., Work]
) -> None:
    def outcome(**value: Any) -> Any:
        return reason_of(runner.run(pool.run(make_work("container", value), on_progress=lambda _: None)))

    assert outcome(image="busybox", command=["/no/such"]) == ("requester", "exit_nonzero")
    assert outcome(image="busybox") == ("miner", "executor_unavailable")  # it says nothing to run
    assert outcome(image="other", command=["/bin/true"]) == ("platform", "program_unavailable")
    assert outcome(image="x@sha256:" + "0" * 64, command=["/bin/true"]) == ("platform", "program_unavailable")
    assert outcome(image="busybox", command=["/bin/true"], network=True) == ("platform", "program_unavailable")


def test_a_canceled_container_is_gone_with_all_it_started(
    runner: asyncio.Runner, pool: ExecutorPool, make_work: Callable[..., Work], podman: Podman, nap: str
) -> None:
    lines: list[str] = []

    async def cancel() -> float:
        line = f"sleep {nap} & setsid sleep {nap} & echo begun; wait"
        work = make_work("container", {"image": "busybox", "command": ["/bin/sh", "-c", line]}, seconds=60)
        hear: Callable[[Progress], None] = lambda progress: lines.extend(progress.lines)  # noqa: E731
        running = asyncio.create_task(pool.run(work, on_progress=hear))
        async with asyncio.timeout(30):
            while "begun" not in lines or len(sleepers(nap)) < 2:  # noqa: ASYNC110 - processes tell nobody
                await asyncio.sleep(0.02)
        began = time.monotonic()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return time.monotonic() - began

    assert runner.run(cancel()) < 20
    assert sleepers(nap) == []
    assert podman.containers == []


def test_what_an_earlier_miner_left_is_found_by_its_label_and_removed(
    runner: asyncio.Runner, tmp_path: Path, podman: Podman, nap: str
) -> None:
    labels = ("--label", f"aitbc.miner={_miner_of(tmp_path)}", "--label", "aitbc.daemon=earlier")
    limits = ("--ulimit", "nofile=64:64", "--ulimit", "nproc=1000:1000", "--network", "none")
    podman.call("run", "-d", *labels, *limits, "localhost/busybox:1", "/bin/sleep", nap)
    assert sleepers(nap)
    pool = ExecutorPool(slots=1, kinds={"container": podman.options()}, scratch=tmp_path)
    assert runner.run(pool.check("container")).usable
    runner.run(pool.stop())
    assert gone(nap)
    assert podman.containers == []


def test_a_runtime_or_an_image_that_does_not_work_is_not_offered(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], podman: Podman
) -> None:
    broken = open_pool({"container": podman.options(runtime=["/bin/false"])})
    status = runner.run(broken.check("container"))
    assert (status.usable, status.reason) == (False, "executor_unavailable")
    missing = {"gone": "localhost/gone@sha256:" + "0" * 64}
    status = runner.run(open_pool({"container": podman.options(images=missing)}).check("container"))
    assert not status.usable
    assert "podman pull localhost/gone@sha256:" in status.message


def test_where_the_runtime_ignores_limits_the_miner_watches_them_and_gives_no_machine(
    runner: asyncio.Runner, tmp_path: Path, podman: Podman, make_work: Callable[..., Work]
) -> None:
    """As podman of an ordinary user does under control groups of version 1: it says so, and goes on without them."""
    wrapper = tmp_path / "podman-without-limits"
    lines = ("#!/bin/sh", "echo Resource limits are not supported and ignored on cgroups V1 rootless systems >&2")
    limits = r"s/ --(memory|memory-swap|pids-limit) [^ ]+//g"
    words = f'exec $(echo "podman $*" | sed -E "{limits}")'
    wrapper.write_text("\n".join((*lines, 'case "$*" in *" run "*|run*) ;; *) exec podman "$@" ;; esac', words)))
    wrapper.chmod(0o755)
    options = podman.options(runtime=[str(wrapper), *podman.words[1:]])
    (tmp_path / "work").mkdir()
    pool = ExecutorPool(slots=1, kinds={"container": options}, scratch=tmp_path / "work")
    try:
        status = runner.run(pool.check("container"))
        assert status.usable, status.message
        assert not remembered(tmp_path / "work").bounds  # type: ignore[union-attr]
        kept = {"image": "busybox", "command": ["/bin/cat"], "stdin": "x"}
        done = runner.run(pool.run(make_work("container", kept), on_progress=lambda _: None))
        assert done.error is None and done.output and done.output["stdout"] == "x", done
        many = {"image": "busybox", "command": ["/bin/sh"], "stdin": "for i in $(seq 60); do sleep 50 & done; wait"}
        done = runner.run(pool.run(make_work("container", many), on_progress=lambda _: None))
        assert reason_of(done) == ("requester", "too_many_processes")
        assert podman.containers == []
    finally:
        runner.run(pool.stop())


@pytest.fixture
def cdi() -> Iterator[None]:
    """A CDI file whose only device is a harmless one: another name of /dev/null."""
    folder = Path("/var/run/cdi")
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    file = folder / f"aitbc-test-{os.getpid()}.json"
    node = {"path": "/dev/aitbc-gpu", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3}
    device = {"name": UUID, "containerEdits": {"deviceNodes": [node]}}
    file.write_text(json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [device]}))
    yield
    file.unlink()
    if made:
        folder.rmdir()


def test_a_container_gets_the_gpu_of_its_lease_by_cdi_and_no_other(
    runner: asyncio.Runner, tmp_path: Path, podman: Podman, make_work: Callable[..., Work], cdi: None
) -> None:
    device = dict.fromkeys(FIELDS) | {"type": "cuda", "uuid": UUID, "memory_sellable_mib": 1000}
    pool = ExecutorPool(slots=1, kinds={"container": podman.options()}, scratch=tmp_path)
    try:
        pool.gpus.update([device])
        assert runner.run(pool.check("container")).usable
        work = make_work("container", {"image": "busybox", "command": ["/bin/ls", "/dev"]})
        has = runner.run(pool.run(replace(work, gpus=(Gpu(UUID, 1000),)), on_progress=lambda _: None))
        work = make_work("container", {"image": "busybox", "command": ["/bin/ls", "/dev"]})
        hasnt = runner.run(pool.run(replace(work, gpus=()), on_progress=lambda _: None))
        assert has.output and hasnt.output
        assert "aitbc-gpu" in has.output["stdout"].split()
        assert "aitbc-gpu" not in hasnt.output["stdout"].split()
        pool.gpus.update([device, device | {"uuid": "GPU-unknown"}])
        status = runner.run(pool.check("container"))
        assert re.search("No container gets the GPU GPU-unknown.*nvidia-ctk cdi generate", status.message)
    finally:
        runner.run(pool.stop())


def test_a_bought_container_reads_uploads_and_its_files_come_back(market: Market, podman: Podman, nap: str) -> None:
    market.start(token=market.token(), kinds={"container": podman.options()}, slots=1, forked=False)
    uploaded = urllib.request.Request(
        f"{market.server.url}/api/v1/ai/artifacts",
        b"one two three",
        {"Authorization": f"Bearer {market.key}", "Content-Type": "application/octet-stream"},
    )
    with urllib.request.urlopen(uploaded, timeout=60) as answer:
        artifact = json.loads(answer.read())["id"]
    market.until(lambda: market.ask("/api/v1/ai/models?kind=container")["data"])

    def submit(line: str, **more: Any) -> str:
        value = {"image": "busybox", "command": ["/bin/sh", "-c", line], **more}
        return market.submit(line, kind="container", input=value, clocks={"run_seconds": 90})

    job = submit("echo said; wc -w < /in/words > /out/count", files={"words": {"artifact": artifact}})
    done = market.until_state(job, "succeeded")
    assert done["output"]["stdout"] == "said\n"
    made = done["output"]["files"]["count"]
    assert made["bytes"] == 2
    with urllib.request.urlopen(market.request(f"/api/v1/ai/artifacts/{made['artifact']}"), timeout=60) as content:
        assert content.read() == b"3\n"
    assert done["receipt"]
    running = submit(f"sleep {nap} & sleep {nap}")
    market.until(lambda: sleepers(nap))
    market.cancel(running)
    assert gone(nap)
    again = submit(f"sleep {nap}")
    market.until(lambda: sleepers(nap))
    market.miners[0].kill()
    assert gone(nap)
    market.cancel(again)
    assert gone_containers(podman)


def gone_containers(podman: Podman) -> bool:
    """Whether no container is left soon; who removes them may not have ended yet."""
    deadline = time.monotonic() + 20
    while podman.containers and time.monotonic() < deadline:
        time.sleep(0.1)
    return not podman.containers
