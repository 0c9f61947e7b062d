"""How the kinds of work fare: whether a miner that does one is online, and how long recent jobs took."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from aitbc.modules.ai.models.fleet import ONLINE
from aitbc.modules.ai.service.durations import Durations
from aitbc.modules.ai.service.fleet_view import FleetView


class KindStatus(StrEnum):
    """What can be said of a kind of work."""

    SERVED = "served"
    """A miner that does it is online, and recent jobs succeeded."""
    NO_DATA = "no_data"
    """A miner that does it is online, and no job has succeeded yet."""
    NO_MINER = "no_miner"


class KindSummary(Struct, frozen=True):
    """How a kind of work fares."""

    status: KindStatus
    typical_seconds: float | None
    """How long half of the recent jobs took at most; none while none has succeeded."""


class KindStatuses:
    """Judges kinds of work by the fleet and by what jobs took."""

    def __init__(self, fleet_view: FleetView, durations: Durations) -> None:
        self._fleet_view = fleet_view
        self._durations = durations

    async def of(self, kinds: Iterable[str]) -> dict[str, KindSummary]:
        """How each of these kinds fares."""
        miners = await self._fleet_view.miners()
        served = {kind for miner in miners if miner.status == ONLINE for kind in miner.kinds}
        found = {}
        for kind in kinds:
            took = await self._durations.typical_seconds(kind)
            has_data = KindStatus.NO_DATA if took is None else KindStatus.SERVED
            found[kind] = KindSummary(has_data if kind in served else KindStatus.NO_MINER, took)
        return found
