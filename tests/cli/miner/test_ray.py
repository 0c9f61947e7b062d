"""A miner before a real Ray of one node, in a network of its own: Ray listens on all interfaces without a token."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.scale import only_in_full

SECONDS = 420
INSIDE = """
import asyncio, json, subprocess, sys, time
from pathlib import Path
from aitbc_cli.miner.cluster.ray import Ray
from aitbc_cli.miner.executors.work import Work

folder, command = Path(sys.argv[1]), json.loads(sys.argv[2])
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
URL = "http://127.0.0.1:8265"
seen = {}


def work(line, attempt, seconds=90.0):
    place = folder / "work" / attempt
    place.mkdir(parents=True, exist_ok=True)
    return Work("job_1", 1, "command", {"program": "sh", "arguments": [line], "stdin": "in"}, {}, place, seconds)


def over(process):
    try:
        told = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True
    return told.rpartition(")")[2].split()[0] == "Z"  # nobody fetches how it ended: this is the first process here


async def reported(ray, free):
    end = time.monotonic() + 60
    while (found := await ray.free()) != free and time.monotonic() < end:
        await asyncio.sleep(0.5)
    return found


async def until(holds, seconds=90):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.2)


async def main():
    home = folder / "home"
    home.mkdir()
    absent = await Ray(command, home, "http://127.0.0.1:9").check("command")
    seen["absent"] = [absent.usable, absent.message]
    ray = Ray(command, home, URL)
    end = time.monotonic() + 200
    while not (status := await ray.check("command")).usable:
        assert time.monotonic() < end, status.message
        await asyncio.sleep(2)
    seen["free"] = await reported(ray, 2)  # the cluster tells of a change seconds later
    lines = []

    async def done(line, attempt, **more):
        found = await ray.run(work(line, attempt, **more), lambda progress: lines.extend(progress.lines))
        error = found.error and [found.error.fault, found.error.reason]
        return [error, found.output["exit_code"], found.output["stdout"], found.output["stderr"]]

    seen["good"] = await done("tr a-z A-Z; echo; echo careful >&2; echo $SECRET_TOKEN", "att_1")
    seen["lines"] = sorted(set(lines))
    seen["bad"] = await done("echo why >&2; exit 3", "att_2")
    seen["late"] = (await done("sleep 600", "att_3", seconds=4.0))[0]
    began, go = folder / "began", folder / "go"
    script = f"echo x >>{began}; while ! [ -e {go} ]; do sleep 0.2; done; cat {began}"
    first = asyncio.create_task(ray.run(work(script, "att_4"), lambda _: None))
    await until(began.exists)
    seen["busy"] = await reported(ray, 1)
    again = Ray(command, home, URL)  # a miner that was started again finds the job by its name
    found = asyncio.create_task(again.run(work(script, "att_4"), lambda _: None))
    await asyncio.sleep(2)
    go.touch()
    seen["found"] = [(await found).output["stdout"], (await first).output["stdout"]]
    marks = folder / "mark"
    running = asyncio.create_task(ray.run(work(f"echo $$ >{marks}; sleep 500", "att_5"), lambda _: None))
    await until(lambda: marks.exists() and marks.read_text().strip())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await until(lambda: over(marks.read_text().strip()))
    seen["gone"] = True
    marks.unlink()
    left = asyncio.create_task(ray.run(work(f"echo $$ >{marks}; sleep 500", "att_6"), lambda _: None))
    await until(lambda: marks.exists() and marks.read_text().strip())
    await Ray(command, home, URL).keep_only([])
    seen["canceled"] = await ray.jobs() == {}
    await asyncio.gather(left, return_exceptions=True)


started = subprocess.Popen(
    ["ray", "start", "--head", "--port=6399", "--dashboard-host=127.0.0.1", "--num-cpus=2", "--disable-usage-stats",
     "--include-dashboard=true", f"--temp-dir={folder}/ray", "--block"],
    stdout=(folder / "ray.log").open("wb"), stderr=subprocess.STDOUT,
)
try:
    asyncio.run(main())
finally:
    started.terminate()
    started.wait(60)
print(json.dumps(seen))
"""
"""What is tried within the namespace; whatever Ray leaves there ends with it."""


@only_in_full
def test_jobs_of_a_ray_run_end_are_found_again_and_canceled() -> None:
    missing = [name for name in ("ray", "unshare", "ip") if shutil.which(name) is None]
    if os.getuid() != 0 or missing:
        pytest.skip("needs root, iproute2 and Ray: pip install 'ray[default]==2.60.0'")
    command = {"programs": {"sh": ["/bin/sh", "-c"]}, "memory_bytes": 64 << 20}
    with tempfile.TemporaryDirectory(prefix="ry", ignore_cleanup_errors=True) as folder:
        words = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
        done = subprocess.run(
            [*words, sys.executable, "-c", INSIDE, folder, json.dumps(command)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            cwd=Path(__file__).parents[3],
            env=os.environ | {"SECRET_TOKEN": "secret"},
        )
        said = Path(folder, "ray.log").read_text()[-2000:] if Path(folder, "ray.log").exists() else ""
        assert done.returncode == 0, (done.stderr[-3000:], said)
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop("absent")[0] is False
    assert seen == {
        "free": 2,
        "good": [None, 0, "IN\n\n", "careful\n"],
        "lines": ["", "IN", "careful"],
        "bad": [["requester", "exit_nonzero"], 3, "", "why\n"],
        "late": ["requester", "timed_out"],
        "busy": 1,
        "found": ["x\n", "x\n"],
        "gone": True,
        "canceled": True,
    }
