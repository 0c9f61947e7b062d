"""Anchors: the newest signed head of the chain, written again and again to a place that the operator does not control.

Who has the anchors notices a chain that was rewritten behind them, whoever signed it anew.
"""

import asyncio
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.service.blocks import LAST_BLOCK, header_of
from aitbc.modules.trading.service.settings import TradingSettings

LINE_BYTES_MAX = 4096
"""No anchor is longer; so much of a file's end is read to find the last one."""

log = structlog.get_logger("aitbc.trading")


class Anchors:
    """Writes anchors to a file: on another disk, or in a folder that is synchronised or pushed elsewhere."""

    def __init__(self, database: Database, settings: TradingSettings) -> None:
        self._database = database
        self._file = None if settings.anchor_file is None else Path(settings.anchor_file)
        self._every = timedelta(seconds=settings.anchor_seconds)

    async def anchor(self) -> bool:
        """Write the head, if there is a new one and it is time; whether it was written.

        A file that cannot be written is said in the log each time, and keeps nothing else from going on.
        """
        if self._file is None:
            return False
        async with self._database.raw() as connection:
            block = await connection.fetchrow(LAST_BLOCK)
        if block is None:
            return False
        line = chain_format.export_block(header_of(block), block["signature"]).rstrip(b"\n") + b"\n"
        try:
            return await asyncio.to_thread(self._write, self._file, line, block["height"])
        except (OSError, ValueError) as error:
            log.warning("anchor_failed", file=str(self._file), reason=str(error))
            return False

    def _write(self, file: Path, line: bytes, height: int) -> bool:
        last = _last_of(file)
        if last is not None and not self._is_due(last, height):
            return False
        # One write of a short line at the end of a file: two writers never mix theirs.
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
        return True

    def _is_due(self, last: dict[str, Any], height: int) -> bool:
        header = last["block"]
        return bool(header["height"] < height and now() >= datetime.fromisoformat(header["time"]) + self._every)


def _last_of(file: Path) -> dict[str, Any] | None:
    """The last anchor of a file; none of one that is not there or empty. Raises `ValueError` for what is no anchor."""
    if not file.exists():
        return None
    with file.open("rb") as source:
        source.seek(max(0, file.stat().st_size - LINE_BYTES_MAX))
        lines = source.read().splitlines()
    return dict(chain_format.parse(lines[-1])) if lines else None
