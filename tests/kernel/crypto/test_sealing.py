"""What is sealed opens here, for its purpose, unchanged; and nowhere else."""

import pytest

from aitbc.kernel.crypto.sealing import Seal, Unsealable

SECRET = bytes(32)


def test_what_was_sealed_opens_again() -> None:
    seal = Seal(SECRET, "letters")
    closed = seal.close(b"a seed of 32 bytes, or anything")
    assert b"seed" not in closed
    assert seal.close(b"a seed of 32 bytes, or anything") != closed
    assert Seal(SECRET, "letters").open(closed) == b"a seed of 32 bytes, or anything"


@pytest.mark.parametrize("other", [Seal(b"1" * 32, "letters"), Seal(SECRET, "parcels")])
def test_another_secret_or_purpose_opens_nothing(other: Seal) -> None:
    with pytest.raises(Unsealable):
        other.open(Seal(SECRET, "letters").close(b"mine"))


def test_what_was_changed_or_cut_does_not_open() -> None:
    seal = Seal(SECRET, "letters")
    closed = bytearray(seal.close(b"mine"))
    closed[-1] ^= 1
    for broken in (bytes(closed), bytes(closed[:10]), b""):
        with pytest.raises(Unsealable):
            seal.open(broken)
