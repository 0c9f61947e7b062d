"""Measures the platform: `python -m tests.bench [--only KEY] [--json FILE] [--rounds N]`."""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.bench import (
    chained,
    dashboards,
    devices,
    hooks,
    hostile,
    paid,
    reads,
    replicas,
    spread,
    standing,
    streaming,
    verifying,
    viewers,
    votes,
)
from tests.bench.figures import AIMS, Measured, report, table
from tests.bench.ground import Ground, ground
from tests.bench.machine import described
from tests.bench.stage import rounds_wanted

Measurement = Callable[[Ground], dict[str, Measured]]
# In this order: what needs quiet and little data first, the million jobs last.
MEASUREMENTS: tuple[tuple[tuple[str, ...], Measurement], ...] = (
    (("help_ms",), standing.measure_help),
    (("pss_mib",), standing.measure_memory),
    (("start_s",), standing.measure_start),
    (("life_vs_pgbench", "cpu_ms_per_life"), paid.measure),
    (chained.KEYS, chained.measure),
    (("get_vs_bare_asgi",), reads.measure_one),
    (("dashboard_ms",), dashboards.measure),
    (("poller_kib", "wake_p99_ms"), standing.measure_waiting),
    (("pss_split_mib", "start_split_s"), spread.measure_standing),
    (("life_split_vs_one",), spread.measure_lives),
    (("gateway_vs_port",), spread.measure_prefix),
    (("gateway_split_vs_direct",), spread.measure_forwarding),
    (("face_http_vs_local",), spread.measure_calls),
    (("replicas_2_vs_1",), replicas.measure_lives),
    (("wake_replicas_p99_ms",), replicas.measure_waking),
    (streaming.KEYS, streaming.measure),
    (("device_claim_us", "device_claim_vs_plain"), devices.measure),
    (hooks.KEYS, hooks.measure),
    (hostile.KEYS, hostile.measure),
    (votes.KEYS, votes.measure),
    (viewers.KEYS, viewers.measure_viewers),
    (("life_with_viewers",), viewers.measure_lives),
    (("list_1e6_vs_1e3",), reads.measure_list),
    (("page_overview_ms",), viewers.measure_overview),
    (("verify_us_per_entry", "verify_mib"), verifying.measure),
)


def main(arguments: list[str]) -> int:
    """Measure, print and write. The exit code is 1 when something could not be measured; a missed aim is only told."""
    asked = _options(arguments)
    keys = asked.only or [aim.key for aim in AIMS]
    machine = described()
    measured: dict[str, Measured] = {}
    with ground(asked.rounds) as place:
        for names, measure in MEASUREMENTS:
            if not set(names) & set(keys):
                continue
            print(f"measuring {', '.join(names)} …", file=sys.stderr, flush=True)
            started = time.monotonic()
            try:
                measured |= measure(place)
            except Exception as error:  # noqa: BLE001 - the other figures are still wanted
                traceback.print_exc()
                why = f"{type(error).__name__}: {error}".partition("\n")[0]
                measured |= dict.fromkeys(names, Measured.impossible(why))
            print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    measured = {key: measured[key] for key in keys if key in measured}
    print("  ".join(f"{name}: {value}" for name, value in machine.items()))
    print(table(measured))
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(report(machine, measured))) + b"\n")
    return int(any(one.value is None for one in measured.values()))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure what the platform costs.")
    parser.add_argument(
        "--only", action="append", choices=[aim.key for aim in AIMS], metavar="KEY", help="this figure; can be repeated"
    )
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), metavar="FILE", help="where to write")
    parser.add_argument("--rounds", type=int, default=rounds_wanted(), help="of which the medians are made")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
