"""What is asked of optuna: of a study in memory, made anew of the trials; the only file that imports it."""

import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler

from aitbc.modules.ai.models.studies.shapes import CreateStudy, StudyParam, TrialState
from aitbc.modules.ai.models.studies.values import Trial


def advice(
    spec: CreateStudy, trials: Sequence[Trial], wanted: int, looked_at: Sequence[int]
) -> tuple[list[dict[str, Any]], list[int]]:
    """The parameters of `wanted` further trials, and which of those looked at are to be stopped."""
    study = _study(spec, trials)
    worse = []
    if looked_at and spec.pruner.type != "none":
        frozen = study.get_trials(deepcopy=False)
        worse = [number for number in looked_at if study.pruner.prune(study, frozen[number])]
    asked = [study.ask(_distributions(spec)).params for _ in range(wanted)]
    return [dict(params) for params in asked], worse


def importance(spec: CreateStudy, trials: Sequence[Trial]) -> dict[str, float] | None:
    """How much each parameter decides about the best tenth of the values, 1 in all; none where that cannot be said."""
    try:
        found = get_param_importances(_study(spec, trials), evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):  # all of one value, or one parameter with one value
        return None
    return {name: round(float(value), 6) for name, value in found.items()}


def _study(spec: CreateStudy, trials: Sequence[Trial]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction=spec.objective.direction, sampler=_sampler(spec, len(trials)), pruner=_pruner(spec)
    )
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
        warnings.simplefilter("ignore")  # that constant_liar and QMCSampler are experimental
        if spec.sampler == "random":
            return RandomSampler(seed=seed)
        if spec.sampler == "qmc":
            return QMCSampler(seed=spec.seed, scramble=True)
        return TPESampler(seed=seed, constant_liar=True)


def _pruner(spec: CreateStudy) -> BasePruner:
    match spec.pruner.type:
        case "median":
            return MedianPruner(n_startup_trials=spec.pruner.startup_trials, n_warmup_steps=spec.pruner.warmup_steps)
        case "halving":
            return SuccessiveHalvingPruner()
        case "hyperband":
            return HyperbandPruner()
    return NopPruner()


def _distributions(spec: CreateStudy) -> dict[str, BaseDistribution]:
    return {name: _distribution(param) for name, param in sorted(spec.params.items())}


def _distribution(param: StudyParam) -> BaseDistribution:
    if param.type == "choice":
        return CategoricalDistribution(param.choices)
    assert param.low is not None and param.high is not None, "checked when the study was created"
    if param.type == "int":
        return IntDistribution(int(param.low), int(param.high), log=param.log, step=int(param.step or 1))
    return FloatDistribution(param.low, param.high, log=param.log, step=param.step)
