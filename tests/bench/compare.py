"""Measures this checkout against another one in turns: `python -m tests.bench.compare --base FOLDER [--rounds N] [--only KEY]`.

A shared machine drifts: only what is measured in pairs, one right after the other, can be compared. Each pair gives the ratio
this ÷ base; the figure is the median ratio, with the 95 % confidence interval of a median (order statistics of the binomial
distribution, which assumes nothing about the ratios). A figure has got worse only if its whole interval lies beyond 2 %.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from math import comb
from pathlib import Path

from tests.bench.figures import AIMS

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("life_vs_pgbench", "cpu_ms_per_life", "get_vs_bare_asgi", "start_s", "pss_mib")
COUNTED = ("database transactions a life", "write-ahead log, KiB a life", "rows written a life")
"""Details that are compared too: what a life costs the database."""
WORSE = 0.02
HIGHER_IS_BETTER = {aim.key for aim in AIMS if aim.at_least is not None}


def interval(ratios: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The confidence interval of the median; all of the ratios' range where there are too few for the confidence."""
    ordered, count = sorted(ratios), len(ratios)
    outside, rank = 0.0, 0
    while rank < count // 2 and 2 * (outside + comb(count, rank) / 2**count) <= 1 - confidence:
        outside += comb(count, rank) / 2**count
        rank += 1
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[count - 1 - rank]


def is_worse(key: str, low: float, high: float) -> bool:
    """Whether the whole interval of the ratio this ÷ base lies on the worse side, beyond 2 %."""
    return high < 1 - WORSE if key in HIGHER_IS_BETTER else low > 1 + WORSE


def measure(checkout: Path, keys: Sequence[str]) -> dict[str, float]:
    """One round in a checkout, by its own program: figures and counted details by their names."""
    with tempfile.TemporaryDirectory(prefix="aitbc-compare-") as folder:
        file = Path(folder) / "bench.json"
        command = [str(checkout / ".venv/bin/python"), "-m", "tests.bench", "--rounds", "1", "--json", str(file)]
        command += [word for key in keys for word in ("--only", key)]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
        report = json.loads(file.read_bytes())
    found = {key: report[key] for key in keys if report.get(key) is not None}
    for figure in report["figures"].values():
        found |= {name: value for name, value in figure["details"].items() if name in COUNTED}
    return found


def main(arguments: list[str]) -> int:
    """Compare; the exit code is 1 when a figure has got worse."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.compare", description="Measure against another checkout."
    )
    parser.add_argument("--base", type=Path, required=True, help="a checkout in which `make setup` was run")
    parser.add_argument("--rounds", type=int, default=20, help="pairs, each measured in turns")
    parser.add_argument("--only", action="append", metavar="KEY", help="this figure; can be repeated")
    asked = parser.parse_args(arguments)
    keys, base = asked.only or list(KEYS), asked.base.resolve()
    ratios: dict[str, list[float]] = {}
    for number in range(asked.rounds):
        order = (ROOT, base) if number % 2 else (base, ROOT)
        measured = {checkout: measure(checkout, keys) for checkout in order}
        for name in measured[base].keys() & measured[ROOT].keys():
            ratios.setdefault(name, []).append(measured[ROOT][name] / measured[base][name])
        told = ", ".join(f"{name} {values[-1]:.3f}" for name, values in sorted(ratios.items()))
        print(f"{number + 1}/{asked.rounds}: {told}", file=sys.stderr, flush=True)
    return report(ratios)


def report(ratios: dict[str, list[float]]) -> int:
    """Print each figure's median ratio and interval; 1 when one has got worse."""
    failed = False
    print(f"{'this ÷ base':<32} {'median':>7} {'95 % interval':>17}  pairs")
    for name, values in sorted(ratios.items()):
        low, high = interval(values)
        worse = is_worse(name, low, high)
        failed |= worse
        verdict = "WORSE" if worse else ""
        print(f"{name:<32} {statistics.median(values):>7.3f} {low:>8.3f} … {high:<6.3f}  {len(values):>4}  {verdict}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
