"""The offline verifier, `aitbc chain verify`, on exports of a hundred thousand and of a million ledger entries."""

import os
import re
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

from msgspec import Struct

from tests.bench import exports
from tests.bench.figures import Measured
from tests.bench.ground import Ground
from tests.bench.standing import PROGRAM

SHORT, LONG = 100_000, 1_000_000
LOOK_SECONDS = 0.05


class Run(Struct, frozen=True):
    """What one verification used."""

    entries: int
    us_per_entry: float
    mib: float


def measure(ground: Ground) -> dict[str, Measured]:
    """`verify_us_per_entry` and `verify_mib`; one run of each length, for each reads every entry once."""
    if not PROGRAM.exists():
        why = f"there is no {PROGRAM.name} beside {Path(sys.executable).name}"
        return {"verify_us_per_entry": Measured.impossible(why), "verify_mib": Measured.impossible(why)}
    small, large = _verified(SHORT), _verified(LONG)
    return {
        "verify_us_per_entry": Measured.of(
            [large.us_per_entry],
            **{
                "entries": float(large.entries),
                "CPU s of all": large.us_per_entry * large.entries / 1e6,
                "CPU µs an entry of 10⁵": small.us_per_entry,
            },
        ),
        "verify_mib": Measured.of([large.mib], **{"MiB with 10⁵ entries": small.mib}),
    }


def _verified(entries: int) -> Run:
    """Verify an export while it is written: what counts is the CPU time of the verifier, which has a core for itself."""
    process = subprocess.Popen(
        [str(PROGRAM), "chain", "verify", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    seen, done = [0.0], Event()
    watch = Thread(target=_watch, args=(process.pid, seen, done))
    watch.start()
    try:
        with process.stdin:
            written = exports.write(process.stdin, entries)
        told = process.stdout.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        done.set()
        watch.join()
        if process.returncode is None:
            process.kill()
            process.wait()
    assert process.returncode == 0, told
    assert re.search(rf'entries"?:?\s+{written}\b', told, re.IGNORECASE), told
    return Run(written, (used.ru_utime + used.ru_stime) * 1e6 / written, seen[0])


def _watch(pid: int, seen: list[float], done: Event) -> None:
    # Not the resource usage's: a child's begins with the memory of whoever started it.
    while not done.wait(LOOK_SECONDS):
        try:
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        except OSError:
            return
        if found is not None:
            seen[0] = max(seen[0], int(found[1]) / 1024)
