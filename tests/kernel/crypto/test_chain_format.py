"""The format of the chain and its offline verifier: every change is found and located."""

import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.crypto import chain_format, receipt_fields, signing
from aitbc.kernel.crypto.chain_format import ChainError
from aitbc.kernel.primitives.money import render

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | text,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_the_verifiers_canonical_form_is_the_signers(value: Any) -> None:
    assert chain_format.canonical(value) == signing.canonical(value)
    assert chain_format.parse(chain_format.canonical(value)) == value


@pytest.mark.parametrize(
    "raw",
    [b'{"a":1,"a":2}', b"1.5", b"NaN", b"[Infinity]", b"1e3", b"{", b"", b"\xff", b'"\\ud800"', b'{"a":{"b":1,"b":1}}'],
)
def test_what_is_not_strict_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        chain_format.parse(raw)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_amounts_have_one_spelling(units: int) -> None:
    assert chain_format.read_units(render(units)) == units


@pytest.mark.parametrize(
    "spelling",
    [
        "",
        "-",
        "+1",
        "01",
        "1.",
        ".5",
        "1.0",
        "1.10",
        "1e2",
        "-0",
        "0.000000001",
        " 1",
        "1 ",
        "\u0661",
        None,
        5,
        "1" * 40,
    ],
)
def test_other_spellings_of_amounts_are_refused(spelling: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        chain_format.read_units(spelling)


def by_definition(digests: list[bytes]) -> bytes:
    """The tree of RFC 6962, section 2.1, as it is written there."""
    if len(digests) < 2:
        return chain_format.leaf(digests[0]) if digests else hashlib.sha256(b"").digest()
    split = 1
    while split * 2 < len(digests):
        split *= 2
    return chain_format.node(by_definition(digests[:split]), by_definition(digests[split:]))


@pytest.mark.parametrize("size", [*range(34), 100, 255, 256, 257])
def test_every_leaf_has_a_path_to_the_root_and_no_other(size: int) -> None:
    digests = [hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(size)]
    root = chain_format.merkle_root(digests)
    assert root == by_definition(digests)
    for index in range(size):
        path = chain_format.merkle_path(digests, index)
        assert chain_format.root_by_path(digests[index], index, size, path) == root
        wrong = chain_format.root_by_path(hashlib.sha256(b"other").digest(), index, size, path)
        assert wrong != root
        with pytest.raises(ValueError, match=r"."):
            chain_format.root_by_path(digests[index], index, size, [*path, root])
        if path:
            with pytest.raises(ValueError, match=r"."):
                chain_format.root_by_path(digests[index], index, size, path[:-1])
        with pytest.raises(ValueError, match=r"."):
            chain_format.root_by_path(digests[index], size, size, path)


NODE, MINER, STRANGER = (signing.Key(bytes([n]) * 32) for n in (1, 2, 3))


def a_receipt(**changes: Any) -> dict[str, Any]:
    """A receipt that holds, but for the changes, which are signed too."""
    work = {
        "attempt": "att_01kb2c3d4e5f6g7h8j9kamnpqr",
        "input_digest": signing.digest(b"in"),
        "job": "job_01kb2c3d4e5f6g7h8j9kamnpqr",
        "kind": "embed",
        "miner": "mnr_01kb2c3d4e5f6g7h8j9kamnpqs",
        "output_digest": signing.digest(b"out"),
        "token": 3,
    }
    claims: dict[str, Any] = work | {
        "earned": "0.0975",
        "fee": "0.0025",
        "fee_basis_points": 250,
        "finished_at": "2026-01-31T12:00:01.000000Z",
        "id": "rcpt_01kb2c3d4e5f6g7h8j9kamnpqr",
        "issued_at": "2026-01-31T12:00:02.000000Z",
        "miner_account": "acct_01kb2c3d4e5f6g7h8j9kamnpqt",
        "miner_key": MINER.public,
        "miner_signature": MINER.sign(signing.canonical(work | {"statement": chain_format.WORK})),
        "node_key": NODE.public,
        "payer": "acct_01kb2c3d4e5f6g7h8j9kamnpqv",
        "price": "0.1",
        "started_at": "2026-01-31T12:00:00.000000Z",
        "transaction": "txn_01kb2c3d4e5f6g7h8j9kamnpqw",
        "unit": "token",
        "units": "12",
        "version": chain_format.RECEIPT,
    }
    claims |= changes
    return claims | {"node_signature": NODE.sign(signing.canonical(claims))}


def a_file(receipt: dict[str, Any], *, others: int = 4) -> dict[str, Any]:
    """A receipt's file with a proof of inclusion."""
    digests = [hashlib.sha256(bytes([n])).digest() for n in range(others)]
    digests.insert(others // 2, hashlib.sha256(chain_format.canonical(receipt)).digest())
    header = chain_format.block_header(
        height=7,
        previous=signing.digest(b"before"),
        time="2026-01-31T12:00:03.000000Z",
        merkle_root=chain_format.merkle_root(digests),
        first_sequence=31,
        records=len(digests),
        node_key=NODE.public,
    )
    path = [chain_format.name_digest(step) for step in chain_format.merkle_path(digests, others // 2)]
    signature = NODE.sign(chain_format.canonical(header))
    proof = {"block": header, "hash": chain_format.block_hash(header), "index": others // 2, "path": path}
    return {"receipt": receipt, "proof": proof | {"signature": signature}}


def test_a_receipt_is_verified_from_its_file_alone() -> None:
    checked = chain_format.verify_receipt(
        json.dumps(a_file(a_receipt()), indent=2).encode(), trusted_keys=[NODE.public]
    )
    assert (checked.height, checked.keys) == (7, frozenset({NODE.public}))
    assert chain_format.verify_receipt(json.dumps({"receipt": a_receipt(), "proof": None}).encode()).height is None


@pytest.mark.parametrize("name", sorted(receipt_fields.REQUIRED))
def test_changing_any_field_of_a_receipt_is_found(name: str) -> None:
    receipt = a_receipt()
    changed = receipt[name] + 1 if isinstance(receipt[name], int) else receipt[name] + "0"
    others: list[Any] = [changed, None, 1.5, [], "", 2**60]
    for value in others:
        if value != receipt[name]:
            with pytest.raises(ChainError):
                chain_format.verify_receipt(json.dumps({"receipt": receipt | {name: value}}).encode())
    without = {key: value for key, value in receipt.items() if key != name}
    with pytest.raises(ChainError):
        chain_format.verify_receipt(json.dumps({"receipt": without}).encode())


GPU = {"index": 0, "is_whole": True, "memory_mib": 24_576, "uuid_digest": signing.digest(b"GPU-1")}
OFFERED = {"offer": "offer_01kb2c3d4e5f6g7h8j9kamnpqx", "unit_price": "0.01"}


@pytest.mark.parametrize(
    "more", [{"devices": []}, {"devices": [GPU, GPU | {"index": None}]}, OFFERED, OFFERED | {"devices": [GPU]}]
)
def test_a_receipt_may_name_the_gpus_and_the_offer(more: dict[str, Any]) -> None:
    chain_format.check_receipt(a_receipt(**more))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"offer": OFFERED["offer"]}, "receipt"),
        ({"unit_price": "0.01"}, "receipt"),
        ({"note": "more"}, "receipt"),
        (OFFERED | {"unit_price": "0.008"}, "unit_price"),
        (OFFERED | {"unit_price": "x"}, "price"),
        (OFFERED | {"units": "x"}, "price"),
        ({"devices": {}}, "devices"),
        ({"devices": [GPU | {"more": 1}]}, "devices"),
        ({"devices": [GPU | {"is_whole": 1}]}, "devices"),
        ({"devices": [GPU | {"memory_mib": -1}]}, "devices"),
        ({"devices": [GPU | {"index": "0"}]}, "devices"),
        ({"price": "0.2"}, "price"),
        ({"fee": "0.0026", "earned": "0.0974"}, "fee"),
        ({"earned": "-0.0025", "fee": "0.1025"}, "price"),
        ({"job": "job_01kb2c3d4e5f6g7h8j9kamnpqs"}, "job"),
        ({"attempt": "att_01kb2c3d4e5f6g7h8j9kamnpqs"}, "miner_signature"),
        ({"output_digest": signing.digest(b"another")}, "miner_signature"),
        ({"miner_key": STRANGER.public}, "miner_signature"),
    ],
)
def test_a_forgery_that_the_node_signed_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ChainError) as found:
        chain_format.verify_receipt(json.dumps({"receipt": a_receipt(**changes)}).encode())
    assert found.value.field == field


def test_a_receipt_signed_by_an_unknown_key_is_refused() -> None:
    claims = {key: value for key, value in a_receipt().items() if key != "node_signature"} | {
        "node_key": STRANGER.public
    }
    receipt = claims | {"node_signature": STRANGER.sign(signing.canonical(claims))}
    with pytest.raises(ChainError, match="not a key you trust"):
        chain_format.verify_receipt(json.dumps({"receipt": receipt}).encode(), trusted_keys=[NODE.public])
    with pytest.raises(ChainError) as found:
        chain_format.verify_receipt(json.dumps({"receipt": a_receipt() | {"node_key": STRANGER.public}}).encode())
    assert found.value.field == "node_signature"


def test_a_receipt_with_a_key_that_occurs_twice_is_refused() -> None:
    raw = json.dumps({"receipt": a_receipt()}).replace('"price": "0.1"', '"price": "0.1", "price": "0.1"')
    with pytest.raises(ChainError, match="twice"):
        chain_format.verify_receipt(raw.encode())


def test_any_changed_byte_of_a_receipts_file_is_found() -> None:
    raw = chain_format.canonical(a_file(a_receipt()))
    chance = random.Random(7)
    for _ in range(1000):
        at = chance.randrange(len(raw))
        flipped = bytearray(raw)
        flipped[at] ^= chance.randrange(1, 256)
        assert found_out(bytes(flipped))


def found_out(document: bytes) -> bool:
    """Whether verification refuses a file, or says that it proves no inclusion: so when the name `proof` itself was hit."""
    try:
        return chain_format.verify_receipt(document).height is None
    except ChainError:
        return True


@pytest.mark.parametrize("proof", [[], {}, "x", 5, {"block": {}, "hash": "", "index": 0, "path": [], "signature": ""}])
def test_a_proof_of_another_shape_is_refused(proof: Any) -> None:
    with pytest.raises(ChainError):
        chain_format.verify_receipt(json.dumps({"receipt": a_receipt(), "proof": proof}).encode())


@pytest.mark.parametrize("document", [b"", b"[]", b"5", b"{}", b'{"receipt":5}', b"\xff\xfe", b"[" * 100_000])
def test_files_that_are_no_receipts_are_refused(document: bytes) -> None:
    with pytest.raises(ChainError):
        chain_format.verify_receipt(document)
