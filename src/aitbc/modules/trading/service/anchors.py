"""Anchors: the newest signed head of the chain, written again and again to places that the operator does not control.

Who has the anchors notices a chain that was rewritten behind them, whoever signed it anew.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.trading.service.anchor_places import AnchorPlace, AnchorPlaceFailed, FilePlace, GitPlace, UrlPlace
from aitbc.modules.trading.service.blocks import LAST_BLOCK, header_of
from aitbc.modules.trading.service.settings import TradingSettings

log = structlog.get_logger("aitbc.trading")


class Anchors:
    """Writes anchors to each place of the settings."""

    def __init__(self, database: Database, settings: TradingSettings, platform: Platform) -> None:
        self._database = database
        self._places = _places(settings, platform)
        self._every = timedelta(seconds=settings.anchor_seconds)

    async def anchor(self) -> Sequence[str]:
        """Write the head to each place for which it is new and it is time; to which it was written.

        What cannot be written is said in the log each time, and keeps nothing else from going on.
        """
        if not self._places:
            return ()
        async with self._database.raw() as connection:
            block = await connection.fetchrow(LAST_BLOCK)
        if block is None:
            return ()
        line = chain_format.export_block(header_of(block), block["signature"]).rstrip(b"\n") + b"\n"
        written = []
        for place in self._places:
            try:
                last = await place.last()
                if last is None or self._is_due(last, block["height"]):
                    await place.put(line, block["height"])
                    written.append(place.name)
            except (AnchorPlaceFailed, AppError, ValueError) as error:
                log.warning("anchor_failed", place=place.name, reason=str(error))
        return written

    def _is_due(self, last: bytes, height: int) -> bool:
        """Whether a new head is to follow this anchor. Raises `ValueError` for what is no anchor."""
        header = chain_format.parse(last)["block"]
        return bool(header["height"] < height and now() >= datetime.fromisoformat(header["time"]) + self._every)


def _places(settings: TradingSettings, platform: Platform) -> list[AnchorPlace]:
    places: list[AnchorPlace] = []
    if settings.anchor_file is not None:
        places.append(FilePlace(Path(settings.anchor_file)))
    if settings.anchor_git is not None:
        places.append(GitPlace(settings.anchor_git, settings.anchor_branch, platform.state_dir / "anchors.git"))
    if settings.anchor_url is not None:
        places.append(UrlPlace(settings.anchor_url, platform.egress))
    return places
