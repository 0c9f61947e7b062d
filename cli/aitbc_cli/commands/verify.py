"""Whether an engine serves the model that it says: calibrated by honest engines, and compared with one of them."""

import json
from typing import Annotated, Any

import typer

from aitbc_cli import engine_probe, files
from aitbc_cli.command import Call, command, noun
from aitbc_cli.engine_probe import Engine, differences
from aitbc_cli.exits import FAILED, REFUSED, UNAVAILABLE, USAGE, Stop
from aitbc_cli.likelihoods import MORE, PASSED, POSITIONS_MORE, judged, tolerance_of
from aitbc_cli.output import Column, columns
from aitbc_cli.terminal import progress, say

TOLERANCE_BYTES_MAX = 64 * 1024
PROMPTS_BYTES_MAX = 1024 * 1024
PROMPTS_MAX = 500
FIGURES = columns("mean", "p95", "p99", "most", "passes", "fails", kind="number")
EngineUrl = Annotated[str, typer.Option("--engine", metavar="URL", help="A llama.cpp server, which decodes.")]
Checker = Annotated[
    str | None, typer.Option("--against", metavar="URL", help="The one that checks; left out, the same one.")
]
Prompts = Annotated[
    str | None, typer.Option("--prompts", metavar="FILE", help="Prompts, one a line; left out, twelve of its own.")
]
app = noun("verify", "Verify that an engine serves the model that it says.")


@command(
    app,
    "calibrate",
    examples=[
        "aitbc verify calibrate --engine http://127.0.0.1:8080 --model gemma-3-270m --out gemma.json",
        "aitbc verify calibrate --engine http://127.0.0.1:8080 --against http://10.0.0.7:8080 --model qwen --json",
    ],
    server=False,
    ends=[UNAVAILABLE],
)
def calibrate(
    call: Call,
    engine: EngineUrl,
    model: Annotated[str, typer.Option("--model", help="What the model is called.")],
    against: Checker = None,
    prompts: Prompts = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Where the tolerance is written.")] = None,
) -> None:
    """Measure how far two honest engines of a model differ, and write the tolerance that follows.

    One decodes greedily and says how likely each token was; the other tells how likely it finds the same tokens, by a
    prefill. Engines of other builds, cards or storage widen the tolerance: calibrate with those that you accept.
    """
    found = _measured(engine, against, _prompts(prompts))
    try:
        tolerance = tolerance_of(model, found).told()
    except ValueError as error:
        raise Stop(str(error), exit_code=USAGE, code="too_few_prompts") from None
    if out is not None:
        files.save(out, [json.dumps(tolerance, indent=2).encode() + b"\n"])
        say(f"saved {out}")
    call.out.one(tolerance, (*columns("model", "positions", "prompts"), *FIGURES, *columns("accused")), name="passes")


@command(
    app,
    "engine",
    examples=[
        "aitbc verify engine --engine http://10.0.0.9:8080 --against http://127.0.0.1:8080 --tolerance gemma.json"
    ],
    server=False,
    ends=[UNAVAILABLE, REFUSED],
)
def verify_engine(
    call: Call,
    engine: EngineUrl,
    against: Annotated[str, typer.Option("--against", metavar="URL", help="An engine of yours with the model.")],
    tolerance: Annotated[str, typer.Option("--tolerance", metavar="FILE", help="What `calibrate` wrote.")],
    prompts: Prompts = None,
) -> None:
    """Compare an engine with one of yours: another model, or weights of fewer bits, lie outside the tolerance."""
    allowed = _tolerance(tolerance)
    texts = _prompts(prompts)
    passes, fails = allowed["passes"], allowed["fails"]
    used = min(len(texts), max(4, -(-20 // len(engine_probe.CHECKED))))
    found = _measured(engine, against, texts[:used])
    verdict = _judged(passes, fails, found)
    if verdict == MORE and used < len(texts):
        more = -(-POSITIONS_MORE // len(engine_probe.CHECKED))
        found += _measured(engine, against, texts[used : used + more])
        verdict = _judged(passes, fails, found)
    values = [value for prompt in found for value in prompt]
    told: dict[str, Any] = {
        "verdict": verdict,
        "model": allowed["model"],
        "positions": len(values),
        "mean": round(sum(values) / len(values), 4),
        "passes": passes,
        "fails": fails,
    }
    if verdict != PASSED:
        place = "beyond the tolerance" if verdict != MORE else "between passing and failing, after more positions too"
        message = f"a mean difference of {told['mean']} lies {place}: up to {passes} passes, more than {fails} fails"
        raise Stop(message, exit_code=REFUSED if verdict != MORE else FAILED, code="not_verified", **told)
    call.out.one(told, (*columns("verdict", "model", "positions"), Column("MEAN", "mean", "number"), *FIGURES[-2:]))


def _judged(passes: float, fails: float, found: list[list[float]]) -> str:
    try:
        return judged(passes, fails, [value for prompt in found for value in prompt], prompts=len(found))
    except ValueError as error:
        raise Stop(str(error), exit_code=USAGE, code="too_few_prompts") from None


def _measured(engine: str, against: str | None, prompts: list[str]) -> list[list[float]]:
    decodes, checks = Engine(engine), Engine(against or engine)
    with progress(f"asking about {len(prompts)} prompts"):
        return differences(decodes, checks, prompts)


def _prompts(file: str | None) -> list[str]:
    if file is None:
        return list(engine_probe.PROMPTS)
    return files.lines_of(files.read(file, bytes_max=PROMPTS_BYTES_MAX).decode("utf-8", "replace"))[:PROMPTS_MAX]


def _tolerance(file: str) -> dict[str, Any]:
    try:
        told = json.loads(files.read(file, bytes_max=TOLERANCE_BYTES_MAX))
        passes, fails, model = float(told["passes"]), float(told["fails"]), str(told["model"])
    except (ValueError, KeyError, TypeError) as error:
        raise Stop(f"{file} is no tolerance: {error}", exit_code=USAGE, code="bad_tolerance") from None
    if not 0 < passes <= fails < float("inf"):
        raise Stop(f"{file} is no tolerance: passes and fails do not fit", exit_code=USAGE, code="bad_tolerance")
    return {"passes": passes, "fails": fails, "model": model}
