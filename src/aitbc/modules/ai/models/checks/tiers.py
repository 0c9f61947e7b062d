"""Tiers: how a job's work is verified, what that costs at most, and for which kinds it can be had."""

from typing import Annotated, ClassVar

from msgspec import Meta

from aitbc.kernel.primitives.errors import FieldError, Invalid
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


def require_offered(tier: str, kind: Kind, needs: Needs) -> None:
    """Raises `VerificationNotOffered` for a tier that this kind of work, or a booking, does not have."""
    if tier == NONE:
        return
    if needs.booking is not None:
        raise _refused("Only the GPU that you booked gets this job, so nobody else can verify it.")
    if kind.equality is not None:
        return
    if is_quorum(tier):
        raise _refused(
            f"Honest miners differ in {kind.name}, so equal answers prove nothing and different ones neither: ask for "
            "recheck, by which a trusted miner evaluates the answer."
        )
    raise _refused(
        f"No miner can check work of kind {kind.name} yet: there is no command by which a trusted one tells the "
        "log-probabilities of an answer. Ask for verification none, or compare miners with `aitbc verify calibrate`."
    )


def _refused(message: str) -> VerificationNotOffered:
    return VerificationNotOffered(message, fields=(FieldError("/verification", message),))
