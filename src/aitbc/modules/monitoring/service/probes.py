"""Looks at things: each with a time limit of its own, and whatever goes wrong is what was found."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import structlog

from aitbc.kernel.platform import Egress, Finding, Installation, InstalledPart, Platform, Unreachable
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.monitoring.models.declarations import address_of
from aitbc.modules.monitoring.models.standing import Look
from aitbc.modules.monitoring.models.tables import MonitorRow

STATUS_OK = range(200, 400)
REASON_LENGTH_MAX = 300

log = structlog.get_logger("aitbc.monitoring")


class Probes:
    """How each kind of monitor is looked at."""

    def __init__(self, platform: Platform, gpu: GpuApi) -> None:
        self._platform = platform
        self._gpu = gpu
        self.declarations_fault = ""
        """What is wrong with the file of declarations; empty where nothing is."""
        self._kinds: Mapping[str, Callable[[MonitorRow], Awaitable[Finding]]] = {
            **dict.fromkeys(("process", "module", "database", "bus"), self._part),
            "miners": self._miners,
            "declarations": self._declarations,
            "http": self._http,
            "tcp": self._tcp,
            "push": self._push,
        }

    async def look(self, row: MonitorRow) -> Look:
        """Look at one monitor; ends in its time limit, and raises nothing but cancellation."""
        at, started = now(), time.perf_counter()
        try:
            async with asyncio.timeout(row.timeout_seconds):
                found = await self._kinds[row.kind](row)
        except TimeoutError:
            found = Finding(works=False, reason=f"no answer in {row.timeout_seconds:g} s")
        except (AppError, Unreachable) as error:
            found = Finding(works=False, reason=str(error))
        except Exception as error:  # noqa: BLE001 - whatever a look dies of is what was found
            log.warning("probe_failed", monitor=row.name, reason=repr(error))
            found = Finding(works=False, reason=type(error).__name__)
        seconds = None if row.kind in ("push", "declarations") else time.perf_counter() - started
        return Look(at=at, seconds=seconds, works=found.works, reason=found.reason[:REASON_LENGTH_MAX])

    @property
    def installation(self) -> Installation:
        """The installation around this process."""
        assert self._platform.installation is not None, "it is set before anything runs"
        return self._platform.installation

    def _egress(self) -> Egress:
        if self._platform.egress is None:
            raise Unreachable("this process sends nothing outside")
        return self._platform.egress

    async def _part(self, row: MonitorRow) -> Finding:
        return await self.installation.look(InstalledPart(row.kind, row.target))

    async def _http(self, row: MonitorRow) -> Finding:
        egress = self._egress()
        egress.check(row.target)  # the settings may have changed since it was declared
        status = await egress.get(row.target, row.timeout_seconds)
        return Finding(works=status in STATUS_OK, reason="" if status in STATUS_OK else f"it answers {status}")

    async def _tcp(self, row: MonitorRow) -> Finding:
        egress, (host, port) = self._egress(), address_of(row.target)
        egress.check_address(host, port)
        await egress.connect(host, port, row.timeout_seconds)
        return Finding(works=True)

    async def _push(self, row: MonitorRow) -> Finding:
        allowed = timedelta(seconds=row.interval_seconds + row.timeout_seconds)
        if row.pushed_at is None:
            is_new = now() - row.created_at <= allowed
            return Finding(works=is_new, reason="nothing was pushed yet")
        if now() - row.pushed_at > allowed:
            return Finding(works=False, reason=f"nothing was pushed since {row.pushed_at:%Y-%m-%d %H:%M:%S} UTC")
        return Finding(works=bool(row.pushed_works), reason=row.pushed_reason or "")

    async def _miners(self, row: MonitorRow) -> Finding:
        group = row.target
        is_region = group.startswith("region:")
        counts = await self._gpu.presence(
            kind=None if is_region or not group else group, region=group.removeprefix("region:") if is_region else None
        )
        if counts.known == 0:
            return Finding(works=not group, reason="there is no such miner" if group else "no miner is enrolled")
        missing = counts.known - counts.online
        reason = f"{missing} of {counts.known} miners are not online" if missing else ""
        return Finding(works=counts.online > 0, reason=reason)

    async def _declarations(self, row: MonitorRow) -> Finding:
        return Finding(works=True, reason=self.declarations_fault)
