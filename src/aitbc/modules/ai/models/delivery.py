"""Whether a result may be accepted, and what it is worth: pure, and the last word on the price."""

from datetime import datetime
from typing import Any

import msgspec

from aitbc.kernel.crypto.signing import canonical, digest, verify, work_statement
from aitbc.modules.ai.api import OutputTooLarge, Result, WrongDigest, WrongSignature
from aitbc.modules.ai.models.kinds.kind import OutputRefused, is_same_model
from aitbc.modules.ai.models.kinds.registry import KINDS, price_of
from aitbc.modules.ai.models.queue import needs_of
from aitbc.modules.ai.models.speed import Work, believed
from aitbc.modules.ai.models.values import AttemptValue, Delivered, JobValue

OUTPUT_BYTES_MAX = 64 * 1024
"""What a job's row keeps of an output; larger ones are artifacts."""
USAGE_MAX = 32
"""How many counts of a miner are kept."""
_encoder = msgspec.json.Encoder(order="deterministic")


def output_text(result: Result) -> str:
    """The output as JSON text, once it is small enough and its digest is right.

    Raises `OutputTooLarge`, `WrongDigest`.
    """
    try:
        text = _encoder.encode(result.output)
    except (UnicodeEncodeError, RecursionError, TypeError):
        raise WrongDigest("The output is not JSON that can be kept.") from None
    if len(text) > OUTPUT_BYTES_MAX:
        raise OutputTooLarge
    if digest(text) != result.output_digest:
        raise WrongDigest
    return text.decode()


def require_signature(result: Result, job: JobValue, attempt: AttemptValue) -> None:
    """Raises `WrongSignature` unless the miner's key signed exactly this output for this input under this lease."""
    statement = work_statement(
        job=job.id,
        attempt=attempt.id,
        token=attempt.token,
        miner=attempt.miner,
        kind=job.kind,
        input_digest=job.input_digest,
        output_digest=result.output_digest,
    )
    if not verify(result.miner_key, canonical(statement), result.signature):
        raise WrongSignature


def judge(
    result: Result,
    text: str,
    value: Any,
    job: JobValue,
    attempt: AttemptValue,
    at: datetime,
    *,
    streamed: str | None = None,
    ceiling: float | None = None,
) -> Delivered:
    """Hold an output against its kind, meter it and price it. Raises `OutputRefused`.

    `value` is the output itself: what the result carries, or what is in the artifact that it refers to. `streamed` is
    the text that was sent in parts, where the kind may do so: the output begins with it. Of what came faster than
    `ceiling`, in units a second, so much is paid as that allows.
    """
    kind = KINDS[job.kind]
    expects = msgspec.json.decode(job.expects, type=dict[str, int])
    output = kind.read_output(value)
    made_by, wanted = kind.model_of(output), needs_of(job.needs).model
    if wanted is not None and made_by is not None and not is_same_model(made_by, wanted):
        raise OutputRefused(f"the model {made_by} made it where {wanted} was asked for")
    if streamed and not kind.text_of(output).startswith(streamed):
        raise OutputRefused("it does not begin with the text that was told in parts")
    seconds = max((at - attempt.started_at).total_seconds(), 0.0)
    units = kind.meter(output, input_units=job.input_units, expects=expects, seconds=seconds)
    units = min(units, job.units_max)
    work = Work(kind.made(units, expects), seconds)
    credible = units - work.made + believed(work, ceiling)
    usage = dict(list(result.usage.items())[:USAGE_MAX])
    return Delivered(
        job=job.id,
        attempt=attempt.id,
        miner=attempt.miner,
        token=attempt.token,
        output=text,
        output_digest=result.output_digest,
        units=credible,
        price_units=price_of(credible, unit_price_of(job, attempt), job.max_price_units // job.copies),
        usage=msgspec.json.encode(usage).decode(),
        note=_doubt(work, ceiling) if credible < units else kind.evidence(usage, units, expects),
        is_of_parts=streamed is not None and kind.text_of(output) == streamed,
        is_overcounted=kind.is_overcounted(usage, units, expects),
        work=work,
        is_too_fast=credible < units,
        miner_key=result.miner_key,
        signature=result.signature,
    )


def unit_price_of(job: JobValue, attempt: AttemptValue) -> int:
    """What one unit costs: what the miner asked when it took the job, else what held when the job was submitted."""
    return job.unit_price_units if attempt.ask_units is None else attempt.ask_units


def _doubt(work: Work, ceiling: float | None) -> str:
    return (
        f"It made {work.made} units in {work.seconds:.2f} seconds; of such work at most {ceiling:.0f} a second are "
        f"believed, and {believed(work, ceiling)} were paid."
    )


__all__ = ["OUTPUT_BYTES_MAX", "OutputRefused", "judge", "output_text", "require_signature"]
