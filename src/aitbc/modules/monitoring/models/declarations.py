"""What is to be watched and who is told: the same shapes in a file and over the API, with all their limits."""

import re
from datetime import datetime
from typing import Annotated, Literal, NoReturn

from msgspec import Meta, Struct, field

from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.text import Name

BUILT_IN, FILE, API = "built_in", "file", "api"
ORIGINS = (BUILT_IN, FILE, API)
MONITOR_KINDS = ("process", "module", "database", "bus", "miners", "declarations", "http", "tcp", "push")
SOURCES = ("monitor", "figure", "event", "objective")
SEVERITIES = ("info", "warning", "critical")
TARGET_LENGTH_MAX = 2048
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")
_FIGURE = re.compile(r'aitbc_[a-z0-9_]+(\{[a-z_]+="[^"\\]{0,100}"(,[a-z_]+="[^"\\]{0,100}")*\})?')

Key = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=r"^[a-z0-9][a-z0-9._/-]*\Z",
        extra_json_schema={"pattern": r"^[a-z0-9][a-z0-9._/-]*$", "examples": ["site"]},
    ),
]
"""A name in lower case, by which monitors and rules refer to each other."""
Target = Annotated[
    str,
    Meta(
        max_length=TARGET_LENGTH_MAX,
        pattern=r"^[!-~]*\Z",
        extra_json_schema={"pattern": "^[!-~]*$", "examples": ["https://example.org/health"]},
    ),
]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Threshold = Annotated[float, Meta(ge=-1e15, le=1e15)]


class UnusableDeclaration(Invalid):
    """This cannot be watched so."""

    code = "unusable_declaration"


class WantedMonitor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that is to be looked at again and again."""

    name: Key
    """Its name, unique among the monitors. For example `site`."""
    kind: Literal["http", "tcp", "push", "miners"]
    """How it is looked at: a GET of a URL, a TCP connection, what is pushed here, or a group of miners."""
    target: Target = ""
    """A URL, `host:port`, or for `miners` the kind of work or `region:NAME`; empty for all miners, and for `push`.
    For example `https://example.org/health`."""
    interval_seconds: Annotated[float, Meta(ge=5, le=86_400)] = 60.0
    """How many seconds pass from one look to the next; for `push`, from one push to the next. For example `60`."""
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    """How many seconds a look may take, and for `push` how late it may be. For example `10`."""
    slow_seconds: Annotated[float, Meta(gt=0, le=60)] | None = None
    """From how many seconds on it is degraded; null for never. For example `0.5`."""
    fall: Annotated[int, Meta(ge=1, le=100)] = 3
    """How many looks in a row must be worse before the state is. For example `3`."""
    rise: Annotated[int, Meta(ge=1, le=100)] = 2
    """How many looks in a row must be better before the state is. For example `2`."""
    parents: Annotated[list[Key], Meta(max_length=20)] = field(default_factory=list)
    """The monitors it depends on: while one of them is down, nobody is alarmed about this one. For example
    `["process/main"]`."""
    public: bool = False
    """Whether the status page shows it to everybody. For example `false`."""


class WantedRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When somebody is to be told."""

    name: Key
    """Its name, unique among the rules. For example `site-down`."""
    source: Literal["monitor", "figure", "event", "objective"]
    """What it looks at: the state of monitors, a metric, how often an event came in five minutes, or whether an
    objective's error budget is used up too fast (1) or not (0)."""
    target: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=500,
            pattern=r"^[!-~]+\Z",
            extra_json_schema={"pattern": "^[!-~]+$", "examples": ["site"]},
        ),
    ]
    """The monitor's name or `*` for each of them, the metric with its labels, or the event's type.
    For example `aitbc_ledger_drift`."""
    direction: Literal["above", "below"] = "above"
    """On which side of `threshold` values are bad. For example `above`."""
    threshold: Threshold = 1.5
    """Beyond this a value is bad. A monitor counts 0 up, 1 degraded, 2 unknown, 3 down. For example `1.5`."""
    clear_threshold: Threshold | None = None
    """From here on it is good again; null for `threshold` itself. For example `0.5`."""
    for_seconds: Seconds = 60.0
    """How many seconds it must be bad, or unknown, before the alert fires. For example `60`."""
    clear_seconds: Seconds = 300.0
    """How many seconds it must be good before the alert is cleared. For example `300`."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """How bad that is. For example `warning`."""
    group: Name = "monitoring"
    """Alerts of one group that fire together are told together. For example `monitoring`."""
    mail: bool = True
    """Whether it is also told by e-mail, where that is set up. For example `true`."""


class WantedObjective(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What share of the looks at a monitor, or of the attempts at a kind of work, is to be good (SLO)."""

    name: Key
    """Its name, unique among the objectives. For example `trading-99`."""
    monitor: Key | None = None
    """The monitor, by its name; null where a kind of work is meant. For example `module/trading`."""
    work: Key | None = None
    """The kind of work whose attempts are to succeed; null where a monitor is meant. For example `chat`."""
    target: Annotated[float, Meta(gt=0, lt=1)] = 0.99
    """The share that is aimed at. For example `0.99`."""
    window_days: Annotated[int, Meta(ge=1, le=90)] = 30
    """Over how many days. For example `30`."""
    counts_degraded: bool = False
    """Whether degraded counts against it. For example `false`."""


class WantedWindow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time in which monitors are maintained."""

    title: Name
    """What is done. For example `New disks`."""
    starts_at: datetime
    """From when. For example `2030-01-31T12:00:00Z`."""
    ends_at: datetime
    """Until when, at most 30 days later. For example `2030-01-31T13:00:00Z`."""
    monitors: Annotated[list[Key], Meta(max_length=100)] = field(default_factory=list)
    """The monitors that it concerns, by name; empty for all. For example `["site"]`."""


def address_of(target: str) -> tuple[str, int]:
    """Host and port of a TCP target. Raises `UnusableDeclaration`."""
    found = _HOST_PORT.fullmatch(target)
    if found is None or not 0 < int(found[2]) < 65_536:
        refuse("/target", "It must read host:port.")
    return found[1], int(found[2])


def check_objective(objective: WantedObjective) -> None:
    """Check what an objective is about. Raises `UnusableDeclaration`."""
    if (objective.monitor is None) is (objective.work is None):
        refuse("/monitor", "Say either monitor or work.")


def check_rule(rule: WantedRule) -> float:
    """The threshold from which on a rule clears. Raises `UnusableDeclaration` for one that contradicts itself."""
    if rule.source == "figure" and not _FIGURE.fullmatch(rule.target):
        refuse("/target", 'It must read aitbc_name or aitbc_name{label="value"}, as /metrics shows it.')
    if rule.clear_threshold is None:
        return rule.threshold
    is_wrong = (
        rule.clear_threshold > rule.threshold if rule.direction == "above" else rule.clear_threshold < rule.threshold
    )
    if is_wrong:
        refuse(
            "/clear_threshold", f"It must not lie {rule.direction} threshold: an alert would be cleared while it fires."
        )
    return rule.clear_threshold


def refuse(pointer: str, reason: str) -> NoReturn:
    """Raise `UnusableDeclaration` about one field."""
    raise UnusableDeclaration(reason, fields=(FieldError(pointer, reason),))
