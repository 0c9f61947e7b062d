"""Anchors of the chain: signed heads that were kept elsewhere, compared with an export; no server, no network."""

from collections.abc import Mapping
from typing import Any, BinaryIO

from msgspec import Struct

from aitbc.kernel.crypto.chain_format import ChainError, checked_header, parse

LINE_BYTES_MAX = 4096
"""No anchor is longer."""
BLOCK_LINE = b'{"block":'
"""How the lines of blocks begin in an export, whose keys are sorted."""


class Anchored(Struct, frozen=True):
    """What was found of anchors in a chain."""

    count: int
    """How many blocks are anchored."""
    height: int
    """Of the newest anchored block."""
    time: str
    """When that block was sealed."""


def read_anchors(file: BinaryIO) -> Mapping[int, Mapping[str, Any]]:
    """The anchors of a file by height, each with `hash` and `time`, signatures checked.

    Raises `ChainError` for a line that is no anchor, and for two that contradict each other: the chain was forked.
    """
    found: dict[int, Mapping[str, Any]] = {}
    number = 0
    while raw := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        try:
            line = parse(raw.rstrip(b"\n"))
        except ValueError:
            line = None
        if not isinstance(line, dict) or line.keys() != {"block", "hash", "signature"}:
            raise ChainError("this is no anchor", field="line", line=number)
        header = checked_header(line["block"], line["hash"], line["signature"])
        height = header["height"]
        if height in found and found[height]["hash"] != line["hash"]:
            raise ChainError(
                "two anchors name different blocks at this height", field="hash", height=height, line=number
            )
        found[height] = {"hash": line["hash"], "time": header["time"]}
    return found


def check_anchors(export: BinaryIO, anchors: Mapping[int, Mapping[str, Any]]) -> Anchored:
    """Find every anchored block in an export that was verified before. Raises `ChainError` for one that differs."""
    missing = dict(anchors)
    for raw in export:
        if not raw.startswith(BLOCK_LINE):
            continue
        line = parse(raw.rstrip(b"\n"))
        anchor = missing.pop(line["block"]["height"], None)
        if anchor is not None and anchor["hash"] != line["hash"]:
            raise ChainError("the block is not the one that was anchored", field="hash", height=line["block"]["height"])
    if missing:
        raise ChainError("an anchored block is missing: the chain was cut", field="height", height=min(missing))
    newest = max(anchors, default=-1)
    return Anchored(len(anchors), newest, "" if newest < 0 else anchors[newest]["time"])
