"""The receipt of a booking, checked offline: what holds is taken, and every forgery is found, signed or not."""

import json
from typing import Any

import pytest

from aitbc.kernel.crypto.booking_receipt import FIELDS, is_booking, verify_booking
from aitbc.kernel.crypto.chain_format import ChainError
from aitbc.kernel.crypto.signing import canonical
from tests.kernel.crypto.test_chain_format import NODE, STRANGER, a_receipt


def a_slice(number: int, paid: str, **changes: Any) -> dict[str, Any]:
    """Five minutes at 3.6 AITBC an hour."""
    transaction = f"txn_{number:026d}" if paid != "0" else None
    told = {"number": number, "millis": 300_000, "price_hour": "3.6", "paid": paid, "fee": "0.001"}
    return told | {"transaction": transaction, "fee": told["fee"] if transaction else None} | changes


def a_booking(**changes: Any) -> dict[str, Any]:
    """A receipt that holds, but for the changes, which are signed too."""
    claims: dict[str, Any] = {
        "began_at": "2026-01-31T12:00:00Z",
        "booking": "book_01kb2c3d4e5f6g7h8j9kamnpqr",
        "ended_at": "2026-01-31T12:07:00Z",
        "machine_ms": 361_500,
        "miner": "mnr_01kb2c3d4e5f6g7h8j9kamnpqs",
        "node_key": NODE.public,
        "offer": None,
        "owner": "acct_01kb2c3d4e5f6g7h8j9kamnpqt",
        "paid": "0.4",
        "payer": "acct_01kb2c3d4e5f6g7h8j9kamnpqv",
        "reason": "released",
        "slices": [a_slice(1, "0.3"), a_slice(2, "0.1"), a_slice(3, "0")],
        "used_ms": 400_000,
        "version": "aitbc.booking.v1",
    }
    claims |= changes
    return claims | {"node_signature": NODE.sign(canonical(claims))}


def check(receipt: Any, *, trusted: bool = True) -> None:
    document = json.dumps({"receipt": receipt}, indent=2).encode()
    found = verify_booking(document, trusted_keys=[NODE.public] if trusted else [STRANGER.public])
    assert found.receipt == receipt and found.keys == frozenset({NODE.public})


def test_what_holds_is_taken() -> None:
    for receipt in (
        a_booking(),
        a_booking(offer="offer_01kb2c3d4e5f6g7h8j9kamnpqs", machine_ms=0),
        a_booking(slices=[], paid="0", used_ms=0, machine_ms=0, miner=None),
        a_booking(slices=[a_slice(1, "0.3", fee=None), a_slice(2, "0.09")], paid="0.39"),
    ):
        check(receipt)
    assert is_booking(json.dumps({"receipt": a_booking()}).encode())
    assert not any(map(is_booking, (b"", b"[]", b'{"receipt":1}', json.dumps({"receipt": a_receipt()}).encode())))


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_field_that_was_changed_or_taken_away_is_found(name: str) -> None:
    receipt = a_booking()
    forged = receipt | {name: receipt[name] + 1 if isinstance(receipt[name], int) else f"{receipt[name]}0"}
    with pytest.raises(ChainError):
        check(forged)
    del forged[name]
    with pytest.raises(ChainError) as found:
        check(forged)
    assert found.value.field == "receipt"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"machine_ms": 400_001}, "machine_ms"),
        ({"machine_ms": -1}, "machine_ms"),
        ({"machine_ms": True}, "machine_ms"),
        ({"used_ms": "400000"}, "used_ms"),
        ({"used_ms": 399_999}, "slices"),
        ({"paid": "0.5"}, "slices"),
        ({"paid": "0.40"}, "slices"),
        ({"slices": [a_slice(1, "0.31"), a_slice(2, "0.09")]}, "slices"),
        ({"slices": [a_slice(1, "0.3"), a_slice(2, "0.1", transaction=None)]}, "slices"),
        ({"slices": [a_slice(1, "0.3"), a_slice(2, "0.1", transaction=a_slice(1, "0.3")["transaction"])]}, "slices"),
        ({"slices": [a_slice(2, "0.3"), a_slice(2, "0.1")]}, "slices"),
        ({"slices": [a_slice(1, "0.3", fee="0.31"), a_slice(2, "0.1")]}, "slices"),
        ({"slices": [a_slice(1, "0.3", price_hour=3), a_slice(2, "0.1")]}, "slices"),
        ({"slices": [a_slice(1, "0.3") | {"more": 1}]}, "slices"),
        ({"more": 1}, "receipt"),
        ({"version": "aitbc.receipt.v1"}, "receipt"),
        ({"node_key": STRANGER.public}, "node_signature"),
    ],
)
def test_what_cannot_be_is_refused_though_the_node_signed_it(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ChainError) as found:
        check(a_booking(**changes))
    assert found.value.field == field


def test_a_strangers_node_is_not_trusted() -> None:
    with pytest.raises(ChainError) as found:
        check(a_booking(), trusted=False)
    assert found.value.field == "node_key"
