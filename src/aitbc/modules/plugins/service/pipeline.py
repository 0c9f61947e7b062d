"""The pipeline: received, validated by the rules, scanned, and then passed, quarantined or rejected.

What is not looked at to the end is not published: a version whose scan fails, or for which the scanner is missing, is
`errored` and is looked at again. Each step is a compare-and-set, so that a crash repeats a step and skips none.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import structlog
from sqlalchemy import and_, or_, select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.hooks.engine import compile_apart
from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.points import NotHere
from aitbc.kernel.hooks.rules.all_rules import findings_in
from aitbc.kernel.hooks.rules.package import Known, RuleFinding, rejected
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.version import this_build
from aitbc.modules.plugins.models.tables import PluginRow, VersionRow
from aitbc.modules.plugins.service.releases import move

BATCH = 10
STUCK = timedelta(seconds=120)
"""After so long a step is taken to have died with its process."""
AGAIN = timedelta(seconds=30)
"""A version whose scan failed is scanned again after this time."""
NAMES_MAX = 50_000

log = structlog.get_logger("aitbc.plugins")


class Pipeline:
    """Looks at versions, the oldest first."""

    def __init__(self, db: Database, hooks: Hooks) -> None:
        self._db = db
        self._settings = hooks.settings

    async def run(self) -> None:
        """Look at what waits."""
        if not await self._db.is_any(
            "plugins.versions WHERE state IN ('received', 'errored', 'validating', 'scanning')"
        ):
            return
        at = now()
        row = VersionRow
        waits = or_(
            row.state == "received",
            and_(row.state == "errored", row.changed_at < at - AGAIN),
            and_(row.state.in_(("validating", "scanning")), row.changed_at < at - STUCK),
        )
        async with self._db.reading() as session:
            wanted = select(row.id, row.state).where(waits).order_by(row.id).limit(BATCH)
            found = (await session.execute(wanted)).all()
        for version, state in found:
            if await self._move(version, state, "validating"):
                await self._look_at(version)

    async def _look_at(self, version: str) -> None:
        async with self._db.reading() as session:
            row = await session.get_one(VersionRow, version)
            artifact = await session.scalar(select(VersionRow.artifact).where(VersionRow.id == version)) or b""
        known = await self._known(row)
        findings = await asyncio.to_thread(findings_in, row.manifest.encode(), artifact, known)
        if any(finding.severity == "reject" for finding in findings):
            await self._move(version, "validating", "rejected", findings)
            return
        if not await self._move(version, "validating", "scanning", findings):
            return
        try:
            wrong = await asyncio.to_thread(compile_apart, artifact) if artifact else None
        except (NotHere, OSError) as error:
            log.error("plugin_not_scanned", version=version, reason=str(error))
            broken = RuleFinding(rule="scan", severity="quarantine", message=f"Not scanned: {error}.", help="")
            await self._move(version, "scanning", "errored", [*findings, broken])
            return
        if wrong is not None:
            await self._move(
                version, "scanning", "rejected", [*findings, rejected("scan", f"The scan failed: {wrong}.")]
            )
        else:
            await self._move(version, "scanning", "quarantined" if findings else "passed", findings)

    async def _known(self, row: VersionRow) -> Known:
        """What the rules know of the registry: the names of others, and the modules that were revoked."""
        names = select(PluginRow.id).where(PluginRow.account != row.account, PluginRow.latest.is_not(None))
        revoked = select(VersionRow.artifact_digest).where(VersionRow.state == "revoked", VersionRow.size > 0)
        async with self._db.reading() as session:
            found = (await session.scalars(names.limit(NAMES_MAX))).all()
            blocked = (await session.scalars(revoked)).all()
        return Known(
            names=frozenset(found),
            blocked_hosts=frozenset(host.lower() for host in self._settings.blocked_hosts),
            blocked_digests=frozenset(blocked),
            release=this_build().version,
        )

    @retrying
    async def _move(self, version: str, before: str, after: str, findings: Sequence[RuleFinding] | None = None) -> bool:
        """Move a version on, if nobody else did meanwhile."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(VersionRow, version, lock=True)
            if row.state != before:
                return False
            if findings is not None:
                row.findings = msgspec.json.encode(findings).decode()
            await move(uow, row, after)
            return True
