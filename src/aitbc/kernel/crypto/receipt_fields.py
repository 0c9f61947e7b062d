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


def are_all(names: AbstractSet[str]) -> bool:
    """Whether a receipt may have exactly these fields."""
    return names - {DEVICES} in (REQUIRED, REQUIRED | OF_AN_OFFER)


def has_type(name: str, value: Any) -> bool:
    """Whether a field may have this value, as far as its type goes."""
    if name == DEVICES:
        return type(value) is list and all(_is_device(one) for one in value)
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
