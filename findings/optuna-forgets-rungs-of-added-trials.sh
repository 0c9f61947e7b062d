#!/usr/bin/env bash
# optuna 5.0.0: in a study made of trials that are added, SuccessiveHalvingPruner stops nobody and Hyperband changes a trial's bracket.
#
# `create_trial` and `add_trial` are how trials get into a study from elsewhere, with all their reports. What the pruners by halving
# compare with is not the reports, though, but notes that each call of `prune` leaves in the storage about the trial it was asked of;
# trials that were added have none, so the worst of them is alone at its rung and goes on. A trial's bracket in Hyperband is a hash of
# its number and of the study's *name*, which is random where none is given. And QMCSampler counts its points in such a note too; it
# needs scipy, which optuna does not install: the first trial is sampled without it, the second raises ModuleNotFoundError.
#
# Seen with Python 3.11.7 on 2026-11-28:
#   worst of 40, asked live: stopped, added: goes on; the verdicts on trial 7 of 60 equal studies: both;
#   QMCSampler: 1 trial, then ModuleNotFoundError
# What follows here: studies are rows, and optuna is asked in a study made anew; halving, Hyperband and quasi-random points are worked
# out from the rows instead (modules/ai/models/studies), and each has a test that it stops or spreads at all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check optuna==5.0.0 >&2
HOME=$folder "$folder/venv/bin/python" -W ignore - <<'PY'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
RUNNING, COMPLETE = optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.COMPLETE
STEPS = range(1, 17)


def worst(*, added: bool) -> str:
    """Whether the worst of 40 trials is stopped, each having reported its number at every step."""
    study = optuna.create_study(pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1))
    for number in range(40):
        if added:
            reports = {step: float(number) for step in STEPS}
            study.add_trial(optuna.trial.create_trial(state=RUNNING, intermediate_values=reports))
            continue
        trial = study.ask()
        verdicts = []
        for step in STEPS:
            trial.report(float(number), step)
            verdicts.append(trial.should_prune())
    if added:
        verdicts = [study.pruner.prune(study, study.get_trials(deepcopy=False)[-1])]
    return "stopped" if any(verdicts) else "goes on"


def bracket() -> bool:
    """Whether trial 7 is stopped in a study of ten that are made alike, live, with Hyperband."""
    study = optuna.create_study(pruner=optuna.pruners.HyperbandPruner(max_resource=81))
    stopped = False
    for number in range(10):
        trial = study.ask()
        trial.report(float(number), 3)
        stopped = trial.should_prune() if number == 7 else (trial.should_prune(), stopped)[1]
    return stopped


def quasi_random() -> str:
    study = optuna.create_study(sampler=optuna.samplers.QMCSampler(seed=1))
    for count in range(3):
        try:
            trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        except ModuleNotFoundError as error:
            return f"{count} trial, then {type(error).__name__}"
        study.tell(trial, 0.0)
    return "3 trials"


live, added, verdicts = worst(added=False), worst(added=True), {bracket() for _ in range(60)}
seen = f"worst of 40, live: {live}, added: {added}; verdicts on trial 7: {sorted(verdicts)}; QMCSampler: {quasi_random()}"
print(seen)
assert seen == "worst of 40, live: stopped, added: goes on; verdicts on trial 7: [False, True]; QMCSampler: 1 trial, then ModuleNotFoundError", seen
PY
