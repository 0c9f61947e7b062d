"""The format of blocks, records, proofs and exports, and the offline check of a receipt's file against a public key.

Nothing here needs a server, a database or any package but PyNaCl; the node writes blocks and exports with this code.

    export  = header line, then for each block its line and the lines of its records, then the end line
    record  = the canonical JSON of a ledger transaction or of a receipt; its digest is the SHA-256 of those bytes
    leaf    = SHA-256(0x00 ‖ digest);  node = SHA-256(0x01 ‖ left ‖ right);  the tree is that of RFC 6962
    block   = the canonical JSON of its header; its hash is the SHA-256 of that, its signature is the node key's over it
"""

import base64
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

from aitbc.kernel.crypto import receipt_fields
from aitbc.kernel.crypto.copies import copy_number

EXPORT = "aitbc.export.v1"
BLOCK = "aitbc.block.v1"
TRANSACTION = "aitbc.transaction.v1"
RECEIPT = "aitbc.receipt.v1"
WORK = "aitbc.work.v1"
LINE_BYTES_MAX = 1024 * 1024
UNIT = 10**8

HEADER_FIELDS = frozenset(
    {"first_sequence", "height", "merkle_root", "node_key", "previous", "records", "time", "version"}
)
TRANSACTION_FIELDS = frozenset({"at", "entries", "hold", "id", "kind", "reason", "reference", "version"})
SYSTEM = "system/"
ESCROW = "system/escrow"
FEES = "system/fees"
TREASURY = "system/treasury"
MAIN = "/main"


class ChainError(ValueError):
    """A check failed; with the block, record, field and line of the file, as far as they are known."""

    def __init__(
        self,
        message: str,
        *,
        field: str,
        height: int | None = None,
        record: str | None = None,
        line: int | None = None,
    ) -> None:
        self.message, self.field, self.height, self.record, self.line = message, field, height, record, line
        super().__init__(message)

    def __str__(self) -> str:
        places = [
            f"height {self.height}" if self.height is not None else "",
            self.record or "",
            f"line {self.line}" if self.line is not None else "",
            self.field,
        ]
        return f"{', '.join(place for place in places if place)}: {self.message}"


# Canonical bytes


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical(value: Any) -> bytes:
    """The canonical JSON of strings, integers, booleans, null, lists and objects: sorted keys, no spaces, UTF-8."""
    return _encode(value).encode()


def parse(raw: bytes) -> Any:
    """Parse JSON without duplicate keys and with integers only; raises `ValueError` for anything else."""
    text = raw.decode()
    try:
        value = _strict.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if "\\u" in text:
        canonical(value)  # raises for an escaped lone surrogate, which UTF-8 cannot encode
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not a whole number")


_strict = json.JSONDecoder(object_pairs_hook=_distinct, parse_float=_refuse, parse_constant=_refuse)


def name_digest(digest: bytes) -> str:
    """`sha256:` and the hexadecimal digits of a digest."""
    return f"sha256:{digest.hex()}"


def read_digest(name: Any) -> bytes:
    """The 32 bytes behind `sha256:…`; raises `ValueError` for any other spelling."""
    if not isinstance(name, str) or len(name) != 71 or not name.startswith("sha256:"):
        raise ValueError("not a digest")
    digest = bytes.fromhex(name[7:])
    if name_digest(digest) != name:
        raise ValueError("not a digest")
    return digest


_amount = re.compile(r"(-?)(0|[1-9][0-9]{0,19})(?:\.([0-9]{0,7}[1-9]))?").fullmatch


def read_units(text: Any) -> int:
    """Minor units of a decimal string in its one canonical spelling; raises `ValueError` for any other."""
    found = _amount(text) if isinstance(text, str) else None
    if found is None or text == "-0":
        raise ValueError("not an amount")
    sign, whole, part = found.groups()
    units = int(whole) * UNIT + int((part or "").ljust(8, "0"))
    return -units if sign else units


def _decode64(text: Any, size: int) -> bytes:
    if not isinstance(text, str) or not text.isascii():
        raise ValueError("not base 64")
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if len(data) != size or base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise ValueError("not base 64 of the right length")
    return data


def signed_by(key: Any, data: bytes, signature: Any) -> bool:
    """Whether the owner of this Ed25519 public key signed these bytes; malformed input is simply false."""
    try:
        crypto_sign_open(_decode64(signature, 64) + data, _decode64(key, 32))
    except (CryptoError, ValueError, TypeError):
        return False
    return True


# The Merkle tree of RFC 6962


def leaf(digest: bytes) -> bytes:
    """The tree's leaf for a record's digest."""
    return hashlib.sha256(b"\x00" + digest).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The tree's inner node over two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The root of a growing list of leaves, in memory that grows with the logarithm of their number."""

    def __init__(self) -> None:
        self._peaks: list[bytes] = []
        self.size = 0

    def add(self, digest: bytes) -> None:
        """Append a record's digest."""
        top, filled = leaf(digest), self.size
        while filled & 1:
            top = node(self._peaks.pop(), top)
            filled >>= 1
        self._peaks.append(top)
        self.size += 1

    def root(self) -> bytes:
        """The root over all leaves so far; of none, the SHA-256 of nothing."""
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        top = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            top = node(peak, top)
        return top


def merkle_root(digests: Iterable[bytes]) -> bytes:
    """The root over records' digests."""
    tree = Tree()
    for digest in digests:
        tree.add(digest)
    return tree.root()


def merkle_path(digests: Sequence[bytes], index: int) -> list[bytes]:
    """The Merkle path of one leaf: the sibling hashes up to the root, lowest first."""
    level, path = [leaf(digest) for digest in digests], []
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        pairs = [node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]  # an unpaired node moves up unchanged
        index >>= 1
    return path


def root_by_path(digest: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root computed from a leaf and its path; raises `ValueError` when the path does not fit the tree's size."""
    if not 0 <= index < size:
        raise ValueError("the index lies outside the tree")
    top, last, steps = leaf(digest), size - 1, iter(path)
    try:
        while last:
            if index & 1:
                top = node(next(steps), top)
            elif index < last:
                top = node(top, next(steps))
            index, last = index >> 1, last >> 1
    except StopIteration:
        raise ValueError("the path is too short") from None
    if next(steps, None) is not None:
        raise ValueError("the path is too long")
    return top


# Blocks and exports


def block_header(
    *,
    height: int,
    previous: str | None,
    time: str,
    merkle_root: bytes,
    first_sequence: int,
    records: int,
    node_key: str,
) -> dict[str, Any]:
    """The header of a block: the part that is hashed and signed."""
    return {
        "first_sequence": first_sequence,
        "height": height,
        "merkle_root": name_digest(merkle_root),
        "node_key": node_key,
        "previous": previous,
        "records": records,
        "time": time,
        "version": BLOCK,
    }


def block_hash(header: Mapping[str, Any]) -> str:
    """The name of a block: the digest of its header."""
    return name_digest(hashlib.sha256(canonical(header)).digest())


def export_start(genesis: str) -> bytes:
    """The first line of an export."""
    return canonical({"chain": genesis, "version": EXPORT})


def export_block(header: Mapping[str, Any], signature: str) -> bytes:
    """The line of a block."""
    return canonical({"block": dict(header), "hash": block_hash(header), "signature": signature})


def export_end(*, head: str, height: int, records: int, keys: Collection[str]) -> bytes:
    """The last line of an export: its head, so that a truncated file is detected."""
    return canonical({"end": {"head": head, "height": height, "keys": sorted(keys), "records": records}})


# Checking receipts


def check_receipt(receipt: Any) -> None:
    """Check both signatures and the arithmetic of a receipt; raises `ChainError` that names the field."""
    if not isinstance(receipt, dict) or not receipt_fields.are_all(receipt.keys()) or receipt["version"] != RECEIPT:
        raise ChainError(f"this is not a receipt of version {RECEIPT}", field="receipt")
    name = str(receipt["id"])[:64]
    for field_name, value in receipt.items():
        if not receipt_fields.has_type(field_name, value):
            raise ChainError("the value has the wrong type", field=field_name, record=name)
    try:
        price, fee, earned = (read_units(receipt[part]) for part in ("price", "fee", "earned"))
        asked = read_units(receipt["unit_price"]) * int(receipt["units"]) if "unit_price" in receipt else price
    except ValueError:
        raise ChainError("an amount is not a decimal string", field="price", record=name) from None
    if min(price, fee, earned) < 0 or fee + earned != price:
        raise ChainError("fee and earned do not add up to the price", field="price", record=name)
    if fee != (price * receipt["fee_basis_points"] + 5_000) // 10_000:
        raise ChainError("the fee is not the stated share of the price", field="fee", record=name)
    if price > asked:
        raise ChainError("the price is more than the offer asked for these units", field="unit_price", record=name)
    copy = copy_number(receipt["job"], receipt["id"])
    if copy is None or (copy and "verification" not in receipt):
        raise ChainError("the receipt is of another job", field="job", record=name)
    if "verification" in receipt and (fault := receipt_fields.verdict_fault(receipt)) is not None:
        raise ChainError(fault, field="verification", record=name)
    body = {key: value for key, value in receipt.items() if key != "node_signature"}
    if not signed_by(receipt["node_key"], canonical(body), receipt["node_signature"]):
        raise ChainError("the node's signature does not match", field="node_signature", record=name)
    statement = {
        key: receipt[key] for key in ("attempt", "input_digest", "job", "kind", "miner", "output_digest", "token")
    }
    if not signed_by(receipt["miner_key"], canonical(statement | {"statement": WORK}), receipt["miner_signature"]):
        raise ChainError("the miner's signature does not match", field="miner_signature", record=name)


@dataclass(frozen=True)
class ReceiptChecked:
    """The result of checking a receipt's file."""

    receipt: dict[str, Any]
    height: int | None
    """The block that contains it; none when the file holds no proof of inclusion."""
    keys: frozenset[str]
    """The node keys that signed."""


def verify_receipt(document: bytes, *, trusted_keys: Collection[str] = ()) -> ReceiptChecked:
    """Check a receipt's file offline: `{"receipt": …, "proof": …}`; other fields are ignored.

    With `trusted_keys` nothing signed by another node key passes. Raises `ChainError`.
    """
    try:
        file = parse(document)
    except ValueError as error:
        raise ChainError(f"the file is not strict JSON: {error}", field="file") from None
    if not isinstance(file, dict) or "receipt" not in file:
        raise ChainError("the file holds no receipt", field="receipt")
    receipt, proof = file["receipt"], file.get("proof")
    check_receipt(receipt)
    keys = {receipt["node_key"]}
    height = None
    if proof is not None:
        height = _check_proof(receipt, proof)
        keys.add(proof["block"]["node_key"])
    require_trusted(keys, trusted_keys, height)
    return ReceiptChecked(receipt=receipt, height=height, keys=frozenset(keys))


def _check_proof(receipt: dict[str, Any], proof: Any) -> int:
    name = receipt["id"]
    if not isinstance(proof, dict) or not {"block", "hash", "index", "path", "signature"} <= proof.keys():
        raise ChainError("the proof lacks a part", field="proof", record=name)
    header = checked_header(proof["block"], proof["hash"], proof["signature"], record=name)
    height = int(header["height"])
    try:
        digest = hashlib.sha256(canonical(receipt)).digest()
        index, path = proof["index"], [read_digest(step) for step in proof["path"]]
        if type(index) is not int:
            raise ValueError("the index is no number")
        root = root_by_path(digest, index, header["records"], path)
    except (ValueError, TypeError) as error:
        raise ChainError(f"the path cannot be followed: {error}", field="proof", height=height, record=name) from None
    if name_digest(root) != header["merkle_root"]:
        raise ChainError("the path does not lead to the block's root", field="proof", height=height, record=name)
    return height


def checked_header(
    header: Any, hash_: Any, signature: Any, *, height: int | None = None, record: str | None = None
) -> dict[str, Any]:
    """Check the fields, hash and signature of a block header, and return it; raises `ChainError`."""
    if not isinstance(header, dict) or header.keys() != HEADER_FIELDS or header["version"] != BLOCK:
        raise ChainError(f"this is not a block of version {BLOCK}", field="block", height=height, record=record)
    for name in ("height", "first_sequence", "records"):
        if not receipt_fields.is_whole(header[name]):
            raise ChainError("the value is no whole number", field=name, height=height, record=record)
    at = header["height"] if height is None else height
    if block_hash(header) != hash_:
        raise ChainError("the header does not have the stated hash", field="hash", height=at, record=record)
    if not signed_by(header["node_key"], canonical(header), signature):
        raise ChainError("the node's signature does not match", field="signature", height=at, record=record)
    return header


def require_trusted(keys: Collection[str], trusted: Collection[str], height: int | None) -> None:
    """Raises `ChainError` for a key outside of those trusted; when none is named, any key will do."""
    for key in sorted(keys):
        if trusted and key not in trusted:
            raise ChainError(f"signed by {key}, which is not a key you trust", field="node_key", height=height)
