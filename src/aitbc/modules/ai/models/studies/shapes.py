"""Studies and their trials, as everyone speaks of them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.text import Name
from aitbc.modules.ai.api import Clocks
from aitbc.modules.ai.models.submit_job import Requirements

TRIALS_MAX = 1000
PARAMS_MAX = 50
STEPS_MAX = 1000
"""So many reports of a trial are kept."""
Amount = Annotated[str, Meta(max_length=40, examples=["0.5"])]
ParamName = Annotated[
    str,
    Meta(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9_]*\Z"),
    Meta(extra_json_schema={"pattern": "^[a-z][a-z0-9_]*$", "examples": ["rate"]}),
]
Choice = str | int | float | bool


class StudyState(StrEnum):
    """Where a study is."""

    RUNNING = "running"
    PAUSED = "paused"
    """No trial begins; those under way go on."""
    CANCELING = "canceling"
    COMPLETE = "complete"
    """All its trials have ended."""
    EXHAUSTED = "exhausted"
    """What is left of its budget covers no further trial."""
    FAILED = "failed"
    """Ten trials in a row failed."""
    CANCELED = "canceled"


OPEN = (StudyState.RUNNING, StudyState.PAUSED, StudyState.CANCELING)


class TrialState(StrEnum):
    """Where a trial is."""

    STARTING = "starting"
    """Its parameters are chosen, its job is about to be submitted."""
    RUNNING = "running"
    STOPPING = "stopping"
    """It is to be pruned or canceled; its job has not ended yet."""
    COMPLETE = "complete"
    PRUNED = "pruned"
    """It was stopped early, since it did worse than others at the same step; its money went back."""
    FAILED = "failed"
    CANCELED = "canceled"


UNDER_WAY = (TrialState.STARTING, TrialState.RUNNING, TrialState.STOPPING)


class StudyParam(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A parameter that is looked for: a number between two others, or one of several values."""

    type: Literal["float", "int", "choice"]
    """What it is. For example `float`."""
    low: float | None = None
    """The least, for a number. For example `0.0001`."""
    high: float | None = None
    """The most, for a number. For example `0.1`."""
    log: bool = False
    """Whether a number is drawn by its logarithm: for what matters by its order of magnitude."""
    step: float | None = None
    """Only numbers that are so far apart, from the least on. For example `8`."""
    choices: Annotated[tuple[Choice, ...], Meta(max_length=100)] = ()
    """The values of a choice. For example `["adam", "sgd"]`."""


class StudyObjective(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to become small or large."""

    direction: Literal["minimize", "maximize"] = "minimize"
    """Which. For example `minimize`."""
    value: Annotated[str, Meta(min_length=1, max_length=200, examples=["output.stdout"])] = "text"
    """Where in a job's output it stands: `text`, or `output.PATH`. A number, or a text whose last line is one.
    For example `output.stdout`."""


class StudyPruner(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a trial is stopped before its end, by the values that its job reports in its log."""

    type: Literal["none", "median", "halving", "hyperband"] = "none"
    """`median`: where it is worse than half of the others at that step. `halving`: of those that came to a step the
    best quarter goes on, at four times the step again. `hyperband`: the best third, and some begin later with it.
    For example `median`."""
    startup_trials: Annotated[int, Meta(ge=0, le=TRIALS_MAX)] = 5
    """So many trials end first, for `median`. For example `5`."""
    warmup_steps: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Before this step none is stopped, for `median`. For example `10`."""


class CreateStudy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A study: a job that is tried with many parameters, and the most that all of it may cost."""

    name: Name = "study"
    """What it is called. For example `Learning rate`."""
    kind: Annotated[str, Meta(max_length=40, examples=["command"])]
    """The kind of work, one of `GET /api/v1/ai/kinds`."""
    input: Annotated[dict[str, Any], Meta(examples=[{"program": "wc", "arguments": ["--rate={{params.rate}}"]}])]
    """The input of each trial's job. `{{params.NAME}}` stands for a parameter; a text that is one place and nothing
    else becomes the value itself."""
    params: Annotated[
        dict[ParamName, StudyParam],
        Meta(min_length=1, max_length=PARAMS_MAX, examples=[{"rate": {"type": "float", "low": 0.001, "high": 0.1}}]),
    ]
    """What is looked for."""
    objective: StudyObjective = StudyObjective()
    """What is to become small or large."""
    sampler: Literal["tpe", "random", "qmc"] = "tpe"
    """How parameters are chosen: by those that did well (`tpe`), at random, or spread evenly (`qmc`).
    For example `tpe`."""
    pruner: StudyPruner = StudyPruner()
    """When a trial is stopped before its end."""
    trials: Annotated[int, Meta(ge=1, le=TRIALS_MAX)] = 20
    """How many are made. For example `50`."""
    parallel: Annotated[int, Meta(ge=1, le=64)] = 4
    """How many may be under way at once. For example `4`."""
    budget: Amount
    """The most that all trials may cost together, in AITBC: what is held for them and was paid never passes it."""
    max_price: Amount
    """The most that one trial may cost, in AITBC. For example `0.05`."""
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    """With the same seed the same parameters are chosen after the same results. For example `7`."""
    requirements: Requirements = Requirements()
    """What a miner must have to take a trial."""
    clocks: Clocks = Clocks()
    """How long each job may take, in each part of its life."""


class StudyTrial(Struct, frozen=True, kw_only=True):
    """A trial: the parameters that were tried, and what came of it."""

    number: int
    """Its number within the study, from 0. For example `12`."""
    state: Annotated[str, one_of(TrialState)]
    """Where it is. For example `complete`."""
    params: dict[str, Any]
    """The parameters that were tried. For example `{"rate": 0.01}`."""
    value: float | None
    """What the objective came to; null where it did not. For example `0.31`."""
    reports: tuple[tuple[int, float], ...]
    """The values that its job reported, each with its step. For example `[[1, 0.8], [2, 0.5]]`."""
    job: str | None
    """Its job. For example `job_01k0000000000000000000000a`."""
    spent: str
    """What it cost, in AITBC. For example `0.01`."""
    message: str
    """Why it failed, where it did; else empty. For example `The output has no number at text.`."""
    started_at: datetime
    """When its parameters were chosen."""
    ended_at: datetime | None
    """When it ended; null while it is under way."""


class Study(Struct, frozen=True, kw_only=True):
    """A study, without its trials."""

    id: str
    """The study. For example `study_01k0000000000000000000000a`."""
    name: str
    """What it is called. For example `Learning rate`."""
    state: Annotated[str, one_of(StudyState)]
    """Where it is. For example `running`."""
    direction: Literal["minimize", "maximize"]
    """What the objective is to become."""
    trials: int
    """How many are to be made. For example `50`."""
    begun: int
    """How many were begun. For example `20`."""
    complete: int
    """How many of them have a value. For example `12`."""
    pruned: int
    """How many were stopped early. For example `3`."""
    failed: int
    """How many failed. For example `1`."""
    best: int | None
    """The trial with the best value; null while there is none. For example `7`."""
    best_value: float | None
    """That value. For example `0.31`."""
    budget: str
    """The most that all trials may cost, in AITBC. For example `0.5`."""
    reserved: str
    """What is reserved for those under way, in AITBC. For example `0.05`."""
    spent: str
    """What the ended ones cost, in AITBC. For example `0.1`."""
    created_at: datetime
    """When it was created."""
    ended_at: datetime | None
    """When it ended; null while it goes on."""


class StudyDetail(Study, frozen=True, kw_only=True):
    """A study with its trials."""

    results: tuple[StudyTrial, ...]
    """Its trials, by number."""
    importance: dict[str, float] | None
    """How much each parameter decides about the best tenth of the values, 0 to 1 and 1 in all (PED-ANOVA); null for
    `no data`: too few trials have ended. For example `{"rate": 0.9, "layers": 0.1}`."""
