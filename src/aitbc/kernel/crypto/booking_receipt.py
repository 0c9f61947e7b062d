"""The receipt of a booking, as its file is checked offline: its form, the node's signature, and its arithmetic."""

from collections.abc import Collection
from typing import Any

from aitbc.kernel.crypto.chain_format import (
    ChainError,
    ReceiptChecked,
    canonical,
    parse,
    read_units,
    require_trusted,
    signed_by,
)
from aitbc.kernel.crypto.receipt_fields import is_whole

BOOKING = "aitbc.booking.v1"
HOUR_MS = 3_600_000
TEXTS = frozenset(
    {"began_at", "booking", "ended_at", "node_key", "node_signature", "owner", "paid", "payer", "reason", "version"}
)
WHOLE = frozenset({"machine_ms", "used_ms"})
FIELDS = TEXTS | WHOLE | {"miner", "offer", "slices"}
OF_A_SLICE = frozenset({"fee", "millis", "number", "paid", "price_hour", "transaction"})


def is_booking(document: bytes) -> bool:
    """Whether a receipt's file says that it is of a booking; what it holds beside that is not looked at."""
    try:
        file = parse(document)
    except ValueError:
        return False
    receipt = file.get("receipt") if isinstance(file, dict) else None
    return isinstance(receipt, dict) and receipt.get("version") == BOOKING


def verify_booking(document: bytes, *, trusted_keys: Collection[str] = ()) -> ReceiptChecked:
    """Check a file `{"receipt": …}` of a booking offline, like `verify_receipt`. Raises `ChainError`."""
    try:
        receipt = parse(document)["receipt"]
    except (ValueError, TypeError, KeyError) as error:
        raise ChainError(f"the file holds no receipt in strict JSON: {error}", field="file") from None
    check_booking(receipt)
    require_trusted({receipt["node_key"]}, trusted_keys, None)
    return ReceiptChecked(receipt=receipt, height=None, keys=frozenset({receipt["node_key"]}))


def check_booking(receipt: Any) -> None:
    """Check the node's signature and the arithmetic of a booking's receipt. Raises `ChainError` that names the field.

    No slice is paid beyond what its price comes to for the time that was used of it, the payments add up, no
    transaction pays twice, and a machine ran for no longer than the miner was used.
    """
    if not isinstance(receipt, dict) or receipt.keys() != FIELDS or receipt["version"] != BOOKING:
        raise ChainError(f"this is not a receipt of version {BOOKING}", field="receipt")
    name = str(receipt["booking"])[:64]
    for field in sorted(FIELDS):
        if not _has_type(field, receipt[field]):
            raise ChainError("the value has the wrong type", field=field, record=name)
    if receipt["machine_ms"] > receipt["used_ms"]:
        raise ChainError("the machine ran for longer than the miner was used", field="machine_ms", record=name)
    try:
        _check_slices(receipt)
    except (ValueError, TypeError) as error:
        raise ChainError(f"the slices do not hold: {error}", field="slices", record=name) from None
    body = {key: value for key, value in receipt.items() if key != "node_signature"}
    if not signed_by(receipt["node_key"], canonical(body), receipt["node_signature"]):
        raise ChainError("the node's signature does not match", field="node_signature", record=name)


def _has_type(field: str, value: Any) -> bool:
    if field in WHOLE:
        return is_whole(value)
    if field == "slices":
        return type(value) is list and all(type(one) is dict and one.keys() == OF_A_SLICE for one in value)
    return type(value) is str or (value is None and field in ("miner", "offer"))


def _check_slices(receipt: dict[str, Any]) -> None:
    begins, total, number, seen = 0, 0, 0, set[str]()
    for one in receipt["slices"]:
        if not is_whole(one["millis"]) or not is_whole(one["number"]) or one["number"] <= number:
            raise ValueError("their numbers do not rise")
        number, paid, fee = one["number"], read_units(one["paid"]), read_units(one["fee"] or "0")
        used = max(0, min(receipt["used_ms"] - begins, one["millis"]))
        if not 0 <= fee <= paid <= (read_units(one["price_hour"]) * used * 2 + HOUR_MS) // (2 * HOUR_MS):
            raise ValueError(f"slice {number} is paid beyond its price")
        if (type(one["transaction"]) is str) != (paid > 0) or one["transaction"] in seen:
            raise ValueError(f"slice {number} names no payment of its own")
        seen.update([one["transaction"]] if paid else ())
        begins, total = begins + one["millis"], total + paid
    if total != read_units(receipt["paid"]):
        raise ValueError("they do not add up to what was paid")
