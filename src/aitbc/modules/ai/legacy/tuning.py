"""Benchmarks, tuning and predictions of the older dialect: by recorded runs and studies; else `no data`."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import Meta, Struct

from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.primitives.errors import NotDone
from aitbc.modules.ai.legacy.caller import CREATE, NATURAL, READ, Ai
from aitbc.modules.ai.legacy.media import MODALITIES
from aitbc.modules.ai.legacy.shapes import not_offered
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.studies.shapes import CreateStudy
from aitbc.modules.ai.service.kind_status import KindStatus
from aitbc.modules.ai.service.recorded_runs import RecordedRuns
from aitbc.modules.ai.service.studies.sampling import is_installed
from aitbc.modules.ai.service.studies.studies import StudyInvalid

NO_DATA = "no data"
OPTIMIZERS = {
    "tpe": ("Tree-structured Parzen estimator", "bayesian"),
    "random": ("Random search", "random"),
    "qmc": ("Quasi-Monte Carlo search", "quasi-random"),
}
STATES = {"running": "tuning", "complete": "tuned", "exhausted": "tuned"}


class Benchmark(Struct, kw_only=True):
    """What is to be looked up."""

    modality: Annotated[str, Meta(max_length=40)] = "text"


class Tune(Struct, kw_only=True):
    """What is to be tuned: a study, or the name of one that was run."""

    model: Annotated[str, Meta(max_length=200)] = "default"
    study: dict[str, Any] | None = None


class Predict(Struct, kw_only=True):
    """Of which model."""

    model: Annotated[str, Meta(max_length=200)] = "default"


class TuningController(Controller):
    """Benchmarks, tuning, predictions, and who does them."""

    @post("/multimodal/benchmark", status_code=200, opt=NATURAL)
    async def benchmark(self, ai: Ai, query: QueryParams, data: JSONBody[Benchmark]) -> dict[str, Any]:
        """How fast paid work of a medium was in the last seven days; nothing is run for it."""
        kind = MODALITIES.get(data.modality)
        if kind is None:
            raise NotDone(not_offered(f"Benchmarking {data.modality[:40]}"))
        found = await ai.run_records.of(kind=kind)
        milliseconds = None if found is None else round(found.median_seconds * 1000)
        return {
            "benchmark_id": None,
            "modality": data.modality,
            "performance_score": None,
            "latency_ms": milliseconds,
            "throughput": said_of(found),
            "runs": 0 if found is None else found.runs,
        }

    @get("/multimodal/agents", opt=READ)
    async def agents(self, ai: Ai, query: QueryParams) -> dict[str, Any]:
        """The kinds of work that process a medium and that a miner does now."""
        statuses = await ai.kind_statuses.of(MODALITIES.values())
        found = [
            {"id": kind, "name": KINDS[kind].summary, "capabilities": [medium]}
            for medium, kind in MODALITIES.items()
            if statuses[kind].status != KindStatus.NO_MINER
        ]
        return {"agents": found, "total": len(found)}

    @get("/optimization/agents", opt=READ)
    async def optimizers(self, query: QueryParams) -> dict[str, Any]:
        """The samplers by which studies look for parameters; none where the server lacks them."""
        found = [{"id": id_, "name": name, "type": kind} for id_, (name, kind) in OPTIMIZERS.items() if is_installed()]
        return {"agents": found, "total": len(found)}

    @post("/optimization/tune", status_code=200, opt=CREATE)
    async def tune(self, ai: Ai, who: Who, once: Once, query: QueryParams, data: JSONBody[Tune]) -> dict[str, Any]:
        """Create the study that is told; without one, say what the caller's newest study of that name found."""
        if data.study is not None:
            try:
                spec = msgspec.convert({"name": data.model, **data.study}, CreateStudy)
            except msgspec.ValidationError as error:
                raise StudyInvalid(f"study: {error}") from None
            made = await ai.studies.create(who, spec, once)
            return {"tuning_id": made.id, "model": data.model, "parameters": {}, "status": "tuning"}
        found = [one for one in await ai.studies.page(who, state=None, after=None, limit=200) if one.name == data.model]
        if not found:
            return {"tuning_id": None, "model": data.model, "parameters": {}, "status": NO_DATA}
        detail = await ai.studies.get(who, found[0].id)
        best = {} if detail.best is None else detail.results[detail.best].params
        status = STATES.get(detail.state, detail.state)
        return {"tuning_id": detail.id, "model": data.model, "parameters": best, "status": status}

    @post("/optimization/predict", status_code=200, opt=NATURAL)
    async def predict(self, ai: Ai, query: QueryParams, data: JSONBody[Predict]) -> dict[str, Any]:
        """How long work of a model will take, by recorded runs and with how sure that is; accuracy nobody measures."""
        found = await ai.run_records.of(model=data.model)
        return {
            "prediction_id": None,
            "model": data.model,
            "expected_performance": said_of(found),
            "estimated_accuracy": None,
            "seconds": None if found is None else msgspec.to_builtins(found),
        }


class SessionController(Controller):
    """Tuning sessions at the coordinator: studies."""

    @get("/tune/sessions/{session:str}", opt=READ)
    async def session(self, ai: Ai, who: Who, query: QueryParams, session: FromPath[str]) -> dict[str, Any]:
        """How far a study is."""
        found = await ai.studies.get(who, session)
        ended = found.complete + found.pruned + found.failed
        return {
            "id": found.id,
            "status": STATES.get(found.state, found.state),
            "best_score": found.best_value,
            "current_iteration": ended,
            "total_iterations": found.trials,
            "progress": round(ended / found.trials, 4),
        }

    @get("/tune/sessions/{session:str}/results", opt=READ)
    async def results(self, ai: Ai, who: Who, query: QueryParams, session: FromPath[str]) -> dict[str, Any]:
        """What a study found: its best parameters, and each trial."""
        found = await ai.studies.get(who, session)
        trials = [{"number": one.number, "parameters": one.params, "score": one.value} for one in found.results]
        best = {} if found.best is None else found.results[found.best].params
        return {"id": found.id, "best_parameters": best, "best_score": found.best_value, "trials": trials}


def said_of(found: RecordedRuns | None) -> str:
    """How long work takes, in words, or that there is no data."""
    if found is None:
        return NO_DATA
    return (
        f"{found.median_seconds} s, with 95 % between {found.low_seconds} and {found.high_seconds} s "
        f"({found.runs} runs of 7 days)"
    )
