"""The fields of a receipt: those that each has, those that some have, and their types."""

from collections.abc import Set as AbstractSet
from typing import Any

SAFE_INTEGER = 2**53
REQUIRED = frozenset(
    {"attempt", "earned", "fee", "fee_basis_points", "finished_at", "id", "input_digest", "issued_at", "job", "kind"}
    | {"miner", "miner_account", "miner_key", "miner_signature", "node_key", "node_signature", "output_digest", "payer"}
    | {"price", "started_at", "token", "transaction", "unit", "units", "version"}
)
OF_AN_OFFER = frozenset({"offer", "unit_price"})
"""Both, where the job was done at a miner's offer."""
DEVICES = "devices"
"""The GPUs that were reserved for the job; absent where it asked for none."""
OF_A_DEVICE = frozenset({"index", "is_whole", "memory_mib", "uuid_digest"})
VERIFICATION = "verification"
"""How the work was verified; absent where the job asked for nothing."""
OF_A_VERIFICATION = frozenset({"answers", "rule", "tier", "verdict"})
OF_AN_ANSWER = frozenset({"agrees", "attempt", "output_digest", "trusted"})


def are_all(names: AbstractSet[str]) -> bool:
    """Whether a receipt may have exactly these fields."""
    return names - {DEVICES, VERIFICATION} in (REQUIRED, REQUIRED | OF_AN_OFFER)


def has_type(name: str, value: Any) -> bool:
    """Whether a field may have this value, as far as its type goes."""
    if name == DEVICES:
        return type(value) is list and all(_is_device(one) for one in value)
    if name == VERIFICATION:
        return _is_verification(value)
    return is_whole(value) if name in ("token", "fee_basis_points") else type(value) is str


def is_whole(value: Any) -> bool:
    """Whether this is an integer that every JSON reader keeps, not below zero."""
    return type(value) is int and 0 <= value < SAFE_INTEGER


def _is_device(value: Any) -> bool:
    return (
        type(value) is dict
        and value.keys() == OF_A_DEVICE
        and (value["index"] is None or is_whole(value["index"]))
        and is_whole(value["memory_mib"])
        and (type(value["is_whole"]), type(value["uuid_digest"])) == (bool, str)
    )


def _is_verification(value: Any) -> bool:
    return (
        type(value) is dict
        and value.keys() == OF_A_VERIFICATION
        and all(type(value[name]) is str for name in ("rule", "tier", "verdict"))
        and type(value["answers"]) is list
        and all(_is_answer(one) for one in value["answers"])
    )


def _is_answer(value: Any) -> bool:
    return (
        type(value) is dict
        and value.keys() == OF_AN_ANSWER
        and (type(value["agrees"]), type(value["trusted"])) == (bool, bool)
        and (type(value["attempt"]), type(value["output_digest"])) == (str, str)
    )


def verdict_fault(receipt: dict[str, Any]) -> str | None:
    """What is wrong with the verdict that a receipt tells, by its own evidence; none where the two fit.

    The attempt that is paid stands among the answers, with the same output, as one of those that agree; a quorum has
    as many answers as its tier says and more than half of them agree; of two answers one is a trusted miner's.
    """
    said = receipt[VERIFICATION]
    answers, tier = said["answers"], said["tier"]
    own = [one for one in answers if one["attempt"] == receipt["attempt"]]
    if len(own) != 1 or not own[0]["agrees"] or own[0]["output_digest"] != receipt["output_digest"]:
        return "the work that is paid is not among the answers that agree"
    if len({one["attempt"] for one in answers}) != len(answers):
        return "an answer is counted twice"
    agreeing = sum(one["agrees"] for one in answers)
    is_fitting = {
        "valid": _is_quorum(tier, len(answers), agreeing) or _is_rechecked(tier, answers),
        "unclear": _is_rechecked(tier, answers) and agreeing == len(answers),
        "trusted": tier in ("sampled", "recheck") and len(answers) == 1 and answers[0]["trusted"],
        "unchecked": tier == "sampled" and len(answers) == 1,
    }
    return None if is_fitting.get(said["verdict"], False) else "the answers do not bear the verdict out"


def _is_quorum(tier: str, answers: int, agreeing: int) -> bool:
    return tier == f"quorum:{answers}" and answers > 1 and agreeing * 2 > answers


def _is_rechecked(tier: str, answers: list[dict[str, Any]]) -> bool:
    return (
        tier in ("sampled", "recheck")
        and len(answers) == 2
        and any(one["trusted"] and one["agrees"] for one in answers)
    )
