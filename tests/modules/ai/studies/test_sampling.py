"""Each way to choose parameters and to stop trials does what it says, asked anew each time."""

from typing import Any

import msgspec
import pytest

from aitbc.modules.ai.models.studies.quasi_random import quasi_random
from aitbc.modules.ai.models.studies.shapes import CreateStudy
from aitbc.modules.ai.models.studies.values import Trial, wrong_param
from aitbc.modules.ai.service.studies.optuna_study import advice

PARAMS: dict[str, Any] = {
    "share": {"type": "float", "low": 0, "high": 1},
    "rate": {"type": "float", "low": 0.001, "high": 1000, "log": True},
    "grid": {"type": "float", "low": 0, "high": 1.1, "step": 0.25},
    "layers": {"type": "int", "low": 1, "high": 8},
    "width": {"type": "int", "low": 1, "high": 1000, "log": True},
    "even": {"type": "int", "low": 2, "high": 9, "step": 2},
    "sort": {"type": "choice", "choices": ["adam", "sgd", True, 7]},
}


def a_spec(**fields: Any) -> CreateStudy:
    """A study of all sorts of parameters."""
    named = [f"{{{{params.{name}}}}}" for name in PARAMS]
    made = {"kind": "command", "input": {"program": "wc", "arguments": named}, "params": PARAMS}
    return msgspec.convert({**made, "budget": "1", "max_price": "0.1", **fields}, CreateStudy)


def chosen(spec: CreateStudy, count: int) -> list[dict[str, Any]]:
    """The parameters of trials that begin and end one after the other."""
    trials: list[Trial] = []
    for number in range(count):
        [params], _ = advice(spec, trials, 1, [])
        state = "running" if number % 3 == 1 else "complete"
        value = params["share"] if state == "complete" else None
        trials.append(Trial(number=number, state=state, params=params, value=value))
    return [trial.params for trial in trials]


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_every_sampler_chooses_other_parameters_for_each_trial_and_the_same_again(sampler: str) -> None:
    spec = a_spec(sampler=sampler, seed=3)
    params = chosen(spec, 8)
    assert len({one["share"] for one in params}) == 8
    assert params == chosen(spec, 8)
    assert params != chosen(a_spec(sampler=sampler, seed=4), 8)
    for one in params:
        assert 0 <= one["share"] <= 1 and 0.001 <= one["rate"] <= 1000 and one["grid"] in (0, 0.25, 0.5, 0.75, 1)
        assert one["layers"] in range(1, 9) and one["width"] in range(1, 1001) and one["even"] in (2, 4, 6, 8)
        assert one["sort"] in PARAMS["sort"]["choices"]


def test_quasi_random_parameters_are_spread_evenly() -> None:
    spec = a_spec(sampler="qmc", seed=5)
    made = [quasi_random(spec.params, index, 5) for index in range(64)]
    assert advice(spec, [], 64, [])[0] == made
    spread = {
        "share": [sum(quarter / 4 <= one["share"] < (quarter + 1) / 4 for one in made) for quarter in range(4)],
        "rate": [sum(10**low <= one["rate"] < 10 ** (low + 3) for one in made) for low in (-3, 0)],
        "grid": [sum(one["grid"] == value / 4 for one in made) for value in range(5)],
        "layers": [sum(one["layers"] == value for one in made) for value in range(1, 9)],
        "even": [sum(one["even"] == value for one in made) for value in (2, 4, 6, 8)],
        "sort": [sum(one["sort"] is value for one in made) for value in PARAMS["sort"]["choices"]],
    }
    for name, counts in spread.items():
        even = 64 / len(counts)
        assert all(even / 2 <= count <= even * 1.7 for count in counts), (name, counts)
    assert {one["width"] for one in made} >= {1} and max(one["width"] for one in made) > 500


def reporting(number: int, value: float, steps: int, state: str = "running") -> Trial:
    """A trial whose job reported this value at each step."""
    ended = value if state == "complete" else None
    params = quasi_random(a_spec().params, number, 1)
    return Trial(number=number, state=state, params=params, value=ended, reports=[(k, value) for k in range(steps + 1)])


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(("pruner", "factor"), [("halving", 4), ("hyperband", 3)])
def test_of_the_trials_that_came_to_a_rung_the_best_go_on(direction: str, pruner: str, factor: int) -> None:
    sign = 1 if direction == "minimize" else -1
    spec = a_spec(pruner={"type": pruner}, objective={"direction": direction})
    running = [reporting(number, sign * float(number), 5) for number in range(60)]
    assert advice(spec, running, 0, range(60))[1] == []  # nobody knows how far a trial goes
    trials = [*running, reporting(60, sign * 0.5, 64, "complete"), reporting(61, sign * -1.0, 64, "failed")]
    _, worse = advice(spec, trials, 0, range(60))
    assert advice(spec, trials, 0, range(60))[1] == worse  # asked anew, it says the same
    assert 0 not in worse and 59 in worse
    kept = 60 - len(worse)
    if pruner == "halving":  # all came to the rung at step 4, with the complete one
        assert kept == 61 // factor - 1 and worse == list(range(kept, 60))
    else:  # each bracket keeps its best, and those of later brackets have not come to a rung yet
        assert 60 // factor <= kept <= 30


def test_the_median_pruner_stops_what_is_worse_than_half() -> None:
    spec = a_spec(pruner={"type": "median", "startup_trials": 3})
    ended = [reporting(number, float(number), 9, "complete") for number in range(5)]
    trials = [*ended, reporting(5, 1.5, 4), reporting(6, 2.5, 4)]
    assert advice(spec, trials, 0, [5, 6])[1] == [6]


def test_a_step_contradicts_a_logarithm() -> None:
    for kind, is_wrong in (("float", True), ("int", False)):
        [param] = a_spec(params={"x": {"type": kind, "low": 1, "high": 9, "log": True, "step": 1}}).params.values()
        assert (wrong_param(param) is not None) == is_wrong
