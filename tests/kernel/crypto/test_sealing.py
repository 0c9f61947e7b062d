"""Sealed secrets: unsealed with the same secret and purpose only, and unchanged only."""

import pytest

from aitbc.kernel.crypto.sealing import Sealer, Unsealable

SECRET = bytes(32)


def test_what_was_sealed_opens_again() -> None:
    seal = Sealer(SECRET, "letters")
    closed = seal.seal(b"a seed of 32 bytes, or anything")
    assert b"seed" not in closed
    assert seal.seal(b"a seed of 32 bytes, or anything") != closed
    assert Sealer(SECRET, "letters").unseal(closed) == b"a seed of 32 bytes, or anything"


@pytest.mark.parametrize("other", [Sealer(b"1" * 32, "letters"), Sealer(SECRET, "parcels")])
def test_another_secret_or_purpose_opens_nothing(other: Sealer) -> None:
    with pytest.raises(Unsealable):
        other.unseal(Sealer(SECRET, "letters").seal(b"mine"))


def test_what_was_changed_or_cut_does_not_open() -> None:
    seal = Sealer(SECRET, "letters")
    closed = bytearray(seal.seal(b"mine"))
    closed[-1] ^= 1
    for broken in (bytes(closed), bytes(closed[:10]), b""):
        with pytest.raises(Unsealable):
            seal.unseal(broken)
