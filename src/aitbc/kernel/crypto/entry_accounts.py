"""Entries of the ledger's records: their fields, and how they tell an account in one asset from that in another."""

from collections.abc import Mapping
from typing import Any

NATIVE = "AITBC"
ENTRY_FIELDS = frozenset({"account", "amount", "balance", "version"})
ASSET_ENTRY_FIELDS = ENTRY_FIELDS | {"asset"}
"""Of an entry that is not counted in AITBC."""


def account_key(name: str, asset: str = NATIVE) -> str:
    """An account by its name and what it is counted in: `owner/purpose`, and `owner/purpose:GOLD` for other assets."""
    return name if asset == NATIVE else f"{name}:{asset}"


def asset_suffix(key: str) -> str:
    """What follows the name of an account in its key: nothing for AITBC, `:GOLD` for others."""
    _, colon, asset = key.partition(":")
    return colon + asset


def entry_key(entry: Mapping[str, Any]) -> str:
    """The account of an entry, by name and asset. Raises `ValueError` for an asset that is no word."""
    if "asset" not in entry:
        return str(entry["account"])
    asset = entry["asset"]
    if not isinstance(asset, str) or not asset.isalnum() or asset == NATIVE:
        raise ValueError("not an asset")
    return account_key(entry["account"], asset)
