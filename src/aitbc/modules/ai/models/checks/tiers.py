"""Tiers: how a job's work is verified, what that costs at most, and for which kinds it can be had."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.modules.ai.models.kinds.chat_input import ChatInput
from aitbc.modules.ai.models.kinds.kind import Kind
from aitbc.modules.ai.models.queue import Needs

NONE, SAMPLED, RECHECK = "none", "sampled", "recheck"
QUORUM = "quorum:"
QUORUM_MAX = 7
TierName = Annotated[
    str,
    Meta(max_length=8, pattern=r"^(none|sampled|recheck|quorum:[2-7])\Z"),
    Meta(extra_json_schema={"pattern": "^(none|sampled|recheck|quorum:[2-7])$", "examples": ["quorum:3"]}),
]


class VerificationNotOffered(Invalid):
    """Work of this sort cannot be verified in this way; the message says what can."""

    code: ClassVar[str] = "verification_not_offered"


def copies_of(tier: str) -> int:
    """How many answers of a tier are paid at most, each at the price of the job."""
    if tier.startswith(QUORUM):
        return int(tier.removeprefix(QUORUM))
    return 2 if tier in (SAMPLED, RECHECK) else 1


def is_quorum(tier: str) -> bool:
    """Whether answers of equals are compared, and not with that of a trusted miner."""
    return tier.startswith(QUORUM)


def require_offered(tier: str, kind: Kind, given: Any, needs: Needs, tolerances: Mapping[str, float]) -> None:
    """Raises `VerificationNotOffered` for a tier that this kind of work, this input, or a booking, does not have.

    `tolerances` has, by model, what was measured for checks of chats.
    """
    if tier == NONE:
        return
    if needs.booking is not None:
        raise _refused("Only the GPU that you booked gets this job, so nobody else can verify it.")
    if kind.equality is None:
        raise _refused(f"Honest miners differ in work of kind {kind.name}, and nobody can evaluate it: ask for none.")
    if not kind.is_evaluated:
        return
    if is_quorum(tier):
        raise _refused(
            f"Honest miners differ in {kind.name}, so equal answers prove nothing and different ones neither: ask for "
            "recheck, by which a trusted miner evaluates the answer."
        )
    _require_evaluable(given, needs, tolerances)


def _require_evaluable(given: ChatInput, needs: Needs, tolerances: Mapping[str, float]) -> None:
    """Raises `VerificationNotOffered` for a chat whose answer a trusted miner cannot evaluate."""
    if needs.model is None:
        raise _refused("Name the model: the answer of a chat is checked by an engine with the same one.")
    if needs.model not in tolerances:
        measured = ", ".join(sorted(tolerances)) or "none"
        raise _refused(
            f"No tolerance was measured for {needs.model} here, so nobody can say which answers are honest; measured "
            f"are: {measured}. Operators measure one with `aitbc verify calibrate`, and state it in ai.chat_tolerances."
        )
    if not given.logprobs:
        raise _refused(
            "Ask with logprobs: true; the check compares how likely its miner and another engine find each token."
        )
    if (given.n or 1) > 1 or given.tools or needs.pictures or given.reasoning_effort not in (None, "none"):
        raise _refused("Only one answer in text can be checked: no further ones, tools, pictures or thinking.")


def is_greedy(given: ChatInput) -> bool:
    """Whether the likeliest token is wanted everywhere."""
    shifts = (given.frequency_penalty, given.presence_penalty, given.logit_bias, given.response_format)
    return given.temperature == 0 and not any(shifts)


def _refused(message: str) -> VerificationNotOffered:
    return VerificationNotOffered(message, fields=(FieldError("/verification", message),))
