"""What a job would cost and who could take it, and why one is where it is."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from aitbc.modules.ai.api import Attempt, JobState, ModelFacts

PIN = "@sha256:"
"""What stands in the name of a model between its own name and the beginning of its weights' digest: an exact model."""


class FilterCount(Struct, frozen=True, kw_only=True):
    """How many miners one condition left."""

    filter: str
    """The condition. For example `min_vram_mib`."""
    wanted: str
    """What the job wants of it. For example `24576`."""
    before: int
    """How many miners there were before it. For example `12`."""
    after: int
    """How many it left. For example `3`."""
    hardware: Literal["claimed"] | None = None
    """How the hardware is known that it goes by: `claimed`, by what miners' drivers say; none for other conditions."""


class ExpectedWait(Struct, frozen=True, kw_only=True):
    """How long until a miner takes the job, as far as that can be known."""

    low_seconds: float | None
    """The least, in seconds; null where it is unknown. For example `2.0`."""
    high_seconds: float | None
    """The most, in seconds; null where it is unknown. For example `30.0`."""
    basis: str
    """What the interval rests on, or `no data`. For example `the last 20 jobs with equal needs`."""


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a job is where it is, and what would help."""

    job: str
    """The job. For example `job_01k0000000000000000000000a`."""
    state: JobState
    """Where the job is."""
    reason: str
    """Why it is there, in one word. For example `submitted`."""
    summary: str
    """The whole in one sentence. For example `It waits: 2 jobs are before it.`."""
    position: int | None
    """Its place among the jobs with equal needs, from 1; none when it does not wait."""
    expected_wait: ExpectedWait
    """How long until a miner takes it."""
    filters: tuple[FilterCount, ...]
    """What its needs leave of all miners, condition by condition."""
    suggestion: str
    """What its owner can do. For example `Wait, or ask for less memory.`."""
    attempts: tuple[Attempt, ...]
    """Every attempt, the first one first."""


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model that miners serve."""

    name: str
    """What miners announce it as. For example `llama-3-8b`."""
    kind: str
    """The kind of work that it does. For example `chat`."""
    miners: int
    """How many miners that are online serve it."""
    slots: int
    """How many jobs these can work on at one time, of whatever kind."""
    context: int | None = None
    """How many tokens a conversation may have, its answer included, at the miner that takes most; null where a miner
    does not say. For example `32768`."""
    modalities: tuple[str, ...] | None = None
    """What it takes at one miner at least: `text`, `image`, `audio`; null where a miner does not say. For example
    `["text"]`."""
    quantizations: tuple[str, ...] = ()
    """How its weights are stored, as far as miners say. For example `["Q4_K_M"]`."""
    digest: str | None = None
    """The digest of its weights, or the beginning of it, where the name pins one. For example `sha256:365c0bd3c000`."""


def model_info(*, name: str, kind: str, miners: int, slots: int, facts: Sequence[str] | None) -> ModelInfo:
    """A model with what is known of it: `facts` are what the miners that are online say, each once, as JSON."""
    said = [msgspec.json.decode(one, type=ModelFacts) for one in facts or ()]
    contexts = [one.context for one in said]
    modalities = [one.modalities for one in said]
    known = [one for one in contexts if one is not None]
    takes = {word for one in modalities if one is not None for word in one}
    _, _, digest = name.partition(PIN)
    return ModelInfo(
        name=name,
        kind=kind,
        miners=miners,
        slots=slots,
        context=max(known) if known and len(known) == len(contexts) else None,
        modalities=tuple(sorted(takes)) if takes and None not in modalities else None,
        quantizations=tuple(sorted({one.quantization for one in said if one.quantization})),
        digest=f"sha256:{digest}" if digest else None,
    )


REFUND_RULE = (
    "A job that fails or is canceled costs nothing; one that is stopped costs what was delivered. What was paid can be "
    "disputed within 72 hours: it is set aside as far as the miner's owner has it, and where nobody decides within 7 "
    "days half of it returns, or all if the owner said nothing."
)


class QuotedOffer(Struct, frozen=True, kw_only=True):
    """An offer at which a miner that is online would do the job."""

    offer: str
    """The offer. For example `offer_01k0000000000000000000000a`."""
    miner: str
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    unit_price: str
    """What it asks for one unit, in AITBC. For example `0.00002`."""
    price: str
    """The price if the output adds nothing to the meter. For example `0.0000066`."""
    price_max: str
    """The most it can cost there, to the unit: it takes the job only if max_price covers that. For example `0.0016`."""
    sufficient: bool
    """Whether max_price covers that."""
    units_per_second: float | None = None
    """How fast it was: half its paid jobs of this sort made so many units a second or more, in the last seven days;
    null for `no data`, which is fewer than three jobs. For example `1280.5`."""
    jobs_measured: int = 0
    """How many paid jobs say so. For example `40`."""


class Quote(Struct, frozen=True, kw_only=True):
    """What a job would cost and who could take it; nothing was changed."""

    kind: str
    """The kind of work, one of `GET /api/v1/ai/kinds`. For example `chat`."""
    unit: str
    """What is metered. For example `byte`."""
    unit_price: str
    """The price of one unit, in AITBC. For example `0.0000002`."""
    units: int
    """What the input alone is metered at."""
    units_max: int
    """The most that input and output together can be metered at. For example `8225`."""
    price: str
    """The price if the output adds nothing to the meter. For example `0.0000066`."""
    price_max: str
    """The most it can cost: max_price must cover it. For example `0.001645`."""
    fee_basis_points: int
    """The platform's share of the price, in 1/10 000. For example `250`."""
    fee_max: str
    """The platform's share of that most, taken out of the price. For example `0.000041125`."""
    max_price: str
    """The most that the job would offer, in AITBC. For example `0.05`."""
    sufficient: bool
    """Whether max_price covers price_max."""
    verification: str = "none"
    """How the work would be verified. For example `quorum:3`."""
    answers_max: int = 1
    """How many answers would be paid at most to verify it; the prices here are those of all together. For example `3`.
    """
    position: int
    """The place in the queue it would take."""
    miners_eligible: int
    """How many miners could do it. For example `3`."""
    own_miners: int = 0
    """How many of these are the caller's own: they do it before the jobs of others, without a fee, and it counts in no
    reputation, rating or statistics. For example `1`."""
    filters: tuple[FilterCount, ...]
    """What its needs leave of all miners, condition by condition."""
    offers: tuple[QuotedOffer, ...] = ()
    """The best three offers of those miners by what is preferred, else the cheapest; a miner without one works at
    `unit_price`."""
    prefer: Literal["cheapest", "fastest", "balanced"] | None = None
    """What the job would prefer."""
    kept_for: tuple[str, ...] = ()
    """The miners that it would be kept for at first, for three seconds: the best that have a slot free, where one is
    preferred at all."""
    readable_by: tuple[str, ...] = ()
    """Who can read what the job is asked and answers, each in a sentence with what and for how long. For example
    `["The owner of the miner that takes it: work is not hidden from the machine that does it."]`."""
    refund_rule: str = REFUND_RULE
    """What is paid, and what can come back. For example `A job that fails costs nothing.`."""


class KindInfo(Struct, frozen=True, kw_only=True):
    """A kind of work that can be bought."""

    name: str
    """What jobs name it. For example `chat`."""
    summary: str
    """What it does. For example `Answers messages with a language model.`."""
    unit: str
    """What is metered. For example `byte`."""
    unit_price: str
    """The price of one unit, in AITBC. For example `0.0000002`."""
    metering: str
    """How units are counted, in one sentence. For example `One unit for each byte of the texts in UTF-8.`."""
    streams: bool
    """Whether the output is told while it is made, so that a job can be stopped early. For example `true`."""
    input_schema: Any
    """The JSON Schema of a job's input."""
    output_schema: Any
    """The JSON Schema of its output."""
