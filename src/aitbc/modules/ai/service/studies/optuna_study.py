"""What is asked of optuna: of a study in memory, made anew of the trials; the only file that imports it."""

import warnings
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from aitbc.modules.ai.models.studies.halving import HALVING_FACTOR, HYPERBAND_FACTOR, Ladder, behind
from aitbc.modules.ai.models.studies.quasi_random import quasi_random
from aitbc.modules.ai.models.studies.shapes import CreateStudy, StudyParam, TrialState
from aitbc.modules.ai.models.studies.values import Trial


def advice(
    spec: CreateStudy, trials: Sequence[Trial], wanted: int, looked_at: Sequence[int]
) -> tuple[list[dict[str, Any]], list[int]]:
    """The parameters of `wanted` further trials, and which of those looked at are to be stopped."""
    worse = _worse(spec, trials, looked_at)
    if spec.sampler == "qmc":
        return [quasi_random(spec.params, len(trials) + index, spec.seed) for index in range(wanted)], worse
    study = _study(spec, trials)
    return [dict(study.ask(_distributions(spec)).params) for _ in range(wanted)], worse


def _worse(spec: CreateStudy, trials: Sequence[Trial], looked_at: Sequence[int]) -> list[int]:
    """Which of these trials are to be stopped.

    Optuna's own pruners by halving keep what they compare with in the study's storage, so in one that is made anew they
    stop nobody (findings/optuna-forgets-rungs-of-added-trials.sh).
    """
    if not looked_at or spec.pruner.type == "none":
        return []
    if spec.pruner.type == "median":
        study = _study(spec, trials)
        pruner = MedianPruner(n_startup_trials=spec.pruner.startup_trials, n_warmup_steps=spec.pruner.warmup_steps)
        frozen = study.get_trials(deepcopy=False)
        return [number for number in looked_at if pruner.prune(study, frozen[number])]
    is_hyperband = spec.pruner.type == "hyperband"
    factor = HYPERBAND_FACTOR if is_hyperband else HALVING_FACTOR
    is_most_best = spec.objective.direction == "maximize"
    return behind(trials, looked_at, Ladder(factor=factor, has_brackets=is_hyperband, is_most_best=is_most_best))


def importance(spec: CreateStudy, trials: Sequence[Trial]) -> dict[str, float] | None:
    """How much each parameter decides about the best tenth of the values, 1 in all; none where that cannot be said."""
    try:
        found = get_param_importances(_study(spec, trials), evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):  # all of one value, or one parameter with one value
        return None
    return {name: round(float(value), 6) for name, value in found.items()}


def _study(spec: CreateStudy, trials: Sequence[Trial]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=spec.objective.direction, sampler=_sampler(spec, len(trials)))
    states = optuna.trial.TrialState
    known = {
        TrialState.COMPLETE.value: states.COMPLETE,
        TrialState.PRUNED.value: states.PRUNED,
        TrialState.FAILED.value: states.FAIL,
        TrialState.CANCELED.value: states.FAIL,
    }
    distributions = _distributions(spec)
    for trial in trials:
        state = known.get(trial.state, states.RUNNING)
        pruned = trial.reports[-1][1] if state == states.PRUNED and trial.reports else None
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=trial.value if state == states.COMPLETE else pruned,
                params=trial.params,
                distributions=distributions,
                intermediate_values=dict(trial.reports),
            )
        )
    return study


def _sampler(spec: CreateStudy, made: int) -> BaseSampler:
    seed = (spec.seed * 1_000_003 + made) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that constant_liar is experimental
        if spec.sampler == "random":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, constant_liar=True)


def _distributions(spec: CreateStudy) -> dict[str, BaseDistribution]:
    return {name: _distribution(param) for name, param in sorted(spec.params.items())}


def _distribution(param: StudyParam) -> BaseDistribution:
    if param.type == "choice":
        return CategoricalDistribution(param.choices)
    assert param.low is not None and param.high is not None, "checked when the study was created"
    high = param.high if param.step is None else _last_on_grid(param.low, param.high, param.step)
    if param.type == "int":
        return IntDistribution(int(param.low), int(high), log=param.log, step=int(param.step or 1))
    return FloatDistribution(param.low, high, log=param.log, step=param.step)


def _last_on_grid(low: float, high: float, step: float) -> float:
    """The last number up to `high` that is whole steps from the least: optuna warns where that is not `high`."""
    exact = [Decimal(str(number)) for number in (low, high, step)]
    return float(exact[0] + (exact[1] - exact[0]) // exact[2] * exact[2])
