"""The figures: what each is called and what it should be, and the table that people read."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct


class Aim(Struct, frozen=True):
    """A figure that `make bench` reports: its key, what it says, and its aim if it has one."""

    key: str
    meaning: str
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool | None:
        """Whether the aim is met; none where there is none."""
        if self.at_least is not None:
            return value >= self.at_least
        return None if self.at_most is None else value <= self.at_most

    @property
    def text(self) -> str:
        """The aim as people write it."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"


AIMS = (
    Aim("life_vs_pgbench", "lives per second ÷ pgbench with the same row writes", at_least=0.5),
    Aim("cpu_ms_per_life", "CPU of server and PostgreSQL for one paid job", at_most=1.5),
    Aim("quorum_3_cpu", "CPU of a job that three miners answer ÷ of a plain paid job", at_most=3.2),
    Aim("graph_node_overhead", "CPU of a node of a graph ÷ of a plain paid job", at_most=1.5),
    Aim("get_vs_bare_asgi", "CPU of reading one job ÷ a bare answer of that size", at_most=4),
    Aim("list_1e6_vs_1e3", "CPU of a page of 50 among 10⁶ jobs ÷ among 10³", at_most=1.3),
    Aim("dashboard_ms", "the older monitoring service's dashboard, for one viewer", at_most=10),
    Aim("page_overview_ms", "CPU of the overview page among 10⁶ jobs ÷ among 10³", at_most=1.3),
    Aim("sse_viewer_kib", "memory of one of 1,000 viewers of the overview", at_most=24),
    Aim("event_to_page_p99_ms", "from a sealed block to its line on the pages of 1,000 viewers", at_most=250),
    Aim("life_with_viewers", "lives a second with 100 viewers of the overview ÷ without", at_least=0.95),
    Aim("poller_kib", "memory of one waiting miner", at_most=20),
    Aim("wake_p99_ms", "from a job's acknowledgement to a waiting miner", at_most=50),
    Aim(
        "gateway_vs_port",
        "reads a second through the gateway's prefix ÷ at the module's port, one process",
        at_least=0.95,
    ),
    Aim("gateway_split_vs_direct", "reads a second through the gateway ÷ at the split module's port", at_least=0.5),
    Aim("face_http_vs_local", "a call of a face in another process ÷ in this one"),
    Aim("life_split_vs_one", "lives a second with all modules split ÷ in one process", at_least=0.4),
    Aim("replicas_2_vs_1", "lives a second at two servers over one database ÷ at one"),
    Aim("wake_replicas_p99_ms", "from a job's acknowledgement to a miner that waits at the other server", at_most=250),
    Aim("pss_split_mib", "memory of the idle server with all modules split, database included"),
    Aim("start_split_s", "a warm start until all split modules are ready"),
    Aim("ttft_added_p50_ms", "what we add to a chat's first text, 64 streams, half of them", at_most=10),
    Aim("ttft_added_p99_ms", "the same, 99 of 100", at_most=50),
    Aim("stream_vs_direct", "tokens a second of 64 streams ÷ of the same engine asked directly", at_least=0.97),
    Aim("cpu_us_per_token", "CPU of server, database and miner for one streamed token", at_most=60),
    Aim("device_claim_us", "CPU of a claim that reserves a GPU, of 1,000 miners with 8 each"),
    Aim("device_claim_vs_plain", "the same ÷ a claim without a GPU", at_most=1.3),
    Aim("hook_native_us", "CPU of asking a plugin in Python for a price", at_most=50),
    Aim("hook_wasm_us", "the same of a sandboxed one with a warm instance", at_most=100),
    Aim("hook_none_ns", "what a call site costs where no plugin is installed, paired with none", at_most=1000),
    Aim("hostile_p99_ratio", "p99 of others while hostile plugins are asked ÷ without them", at_most=1.2),
    Aim("vote_vs_submission", "CPU of a vote ÷ of a job's submission", at_most=3),
    Aim("verify_us_per_entry", "CPU of the offline verifier for one ledger entry"),
    Aim("verify_mib", "peak memory of the offline verifier"),
    Aim("pss_mib", "memory of the idle server with its database"),
    Aim("start_s", "a warm start until the server is ready"),
    Aim("help_ms", "aitbc --help"),
)


class Measured(Struct, frozen=True):
    """A figure as it was measured: the median of its rounds, and all that stands behind it."""

    value: float | None
    rounds: Sequence[float] = ()
    details: Mapping[str, float | str] = {}
    """What it is made of."""
    why: str = ""
    """Why there is no value."""

    @classmethod
    def impossible(cls, why: str) -> "Measured":
        """A figure that could not be measured, and why."""
        return cls(None, why=why)

    @classmethod
    def of(cls, rounds: Sequence[float], **details: float | str) -> "Measured":
        """The median of some rounds."""
        return cls(rounded(statistics.median(rounds)), [rounded(each) for each in rounds], details)


def report(machine: Mapping[str, float | str], measured: Mapping[str, Measured]) -> dict[str, Any]:
    """What is written as JSON: each figure under its key, null where there is none, and below what stands behind them."""
    aims = {aim.key: aim for aim in AIMS if aim.key in measured}
    behind = {
        key: {
            "aim": aim.text,
            "met": None if (value := measured[key].value) is None else aim.is_met(value),
            "meaning": aim.meaning,
            "rounds": list(measured[key].rounds),
            "details": dict(measured[key].details),
            "why": measured[key].why,
        }
        for key, aim in aims.items()
    }
    return {key: measured[key].value for key in aims} | {"machine": dict(machine), "figures": behind}


def rounded(value: float) -> float:
    """Three digits are more than the machine keeps still."""
    return float(f"{value:.3g}")


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(measured: Mapping[str, Measured]) -> str:
    """Everything in lines: the figure, its aim, whether it is met, the rounds from least to most."""
    lines = [f"{'figure':<24} {'median':>9} {'aim':>7}      {'min … max':<18} what it is"]
    for aim in AIMS:
        found = measured.get(aim.key)
        if found is None or found.value is None:
            why = "not asked for" if found is None else f"not measured: {found.why}"
            lines.append(f"{aim.key:<24} {'—':>9} {aim.text:>7}      {why}")
            continue
        met = {True: "ok", False: "MISS", None: ""}[aim.is_met(found.value)]
        spread = f"{min(found.rounds):g} … {max(found.rounds):g}" if len(found.rounds) > 1 else ""
        lines.append(f"{aim.key:<24} {found.value:>9g} {aim.text:>7} {met:<4} {spread:<18} {aim.meaning}")
        for name, value in found.details.items():
            lines.append(f"{'':<24} {value if isinstance(value, str) else rounded(value):>9}  {name}")
    return "\n".join(lines)
