"""Figures of plugins: what happened to a version on a day, and nothing of whom."""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta

from msgspec import Struct
from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.hooks.extensions import Extensions
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.parameters import Parameter, Parameters
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.plugins.api import PluginNotFound
from aitbc.modules.plugins.models.tables import FetchRow, FigureRow, PluginRow

FETCHES = "plugins.downloads_kept_days"
FETCHES_PARAMETER = Parameter(
    name=FETCHES,
    text="How long it is kept, as keyed digests, that an account fetched a version; its figures by day stay.",
    unit="days",
    least=2,
    most=90,
    default=2,
)


class PluginDay(Struct, frozen=True, kw_only=True):
    """What happened to a version on a day (UTC)."""

    day: str
    """The day. For example `2026-11-28`."""
    version: str
    """The version. For example `1.0.0`."""
    downloads: int
    """How many accounts fetched it, each counted once. For example `3`."""
    installs: int
    """How often it was installed here. For example `1`."""
    uninstalls: int
    """How often it was removed or replaced here. For example `0`."""
    purchases: int
    """How many licences were bought. For example `2`."""
    refunds: int
    """How many of them were given back. For example `0`."""
    revenue: str
    """What its publisher was paid for licences, in AITBC. For example `7`."""
    calls: int
    """How often it was asked. For example `1200`."""
    failures: int
    """How often it did not answer as it should. For example `1`."""


class PluginFigures(Struct, frozen=True, kw_only=True):
    """What happened to a plugin, by version and day."""

    plugin: str
    """The plugin. For example `acme.night-price`."""
    active_installs: int
    """Installed less removed, over all time. For example `1`."""
    data: tuple[PluginDay, ...]
    """The days on which something happened, the newest first."""


class RegistryTotals(Struct, frozen=True, kw_only=True):
    """What the registry has in all."""

    plugins: int
    active_installs: int
    downloads: int
    categories: tuple[str, ...]
    """From the one with the most plugins on."""


class Figures:
    """Counts."""

    def __init__(self, db: Database, extensions: Extensions, secret: bytes, parameters: Parameters) -> None:
        self._db = db
        self._parameters = parameters
        self._extensions = extensions
        self._secret = secret

    async def fetched(self, uow: UnitOfWork, account: str, plugin: str, version: str) -> None:
        """Count a download, once for an account, a version and a day."""
        day = now().date()
        told = f"{day}\0{plugin}\0{version}\0{account}".encode()
        digest = hmac.digest(self._secret, told, hashlib.sha256)
        marking = insert(FetchRow).values(digest=digest, day=day).on_conflict_do_nothing().returning(FetchRow.day)
        if (await uow.session.execute(marking)).first() is None:
            return
        more = update(PluginRow).where(PluginRow.id == plugin).values(downloads=PluginRow.downloads + 1)
        await uow.session.execute(more)
        await count(uow, plugin, version, "downloads")

    async def of(self, who: Principal, plugin: str, days: int) -> PluginFigures:
        """The figures of a plugin of the caller's. Raises `PluginNotFound`."""
        since = (now() - timedelta(days=days)).date()
        async with self._db.reading() as session:
            row = await session.get(PluginRow, plugin)
            if row is None or not who.owns(row.account):
                raise PluginNotFound
            wanted = select(FigureRow).where(FigureRow.plugin == plugin, FigureRow.day > since)
            rows = (await session.scalars(wanted)).all()
            changes = select(FigureRow.name, total(FigureRow.count)).where(FigureRow.plugin == plugin)
            totals = await _by_name(session, changes.group_by(FigureRow.name))
        found: dict[tuple[date, str], dict[str, int]] = defaultdict(dict)
        for one in rows:
            found[one.day, one.version][one.name] = one.count
        for version, day, calls, failures in await self._extensions.calls(plugin, days):
            found[day, version] |= {"calls": calls, "failures": failures}
        return PluginFigures(
            plugin=plugin,
            active_installs=totals.get("installs", 0) - totals.get("uninstalls", 0),
            data=tuple(_day(*key, found[key]) for key in sorted(found, reverse=True)),
        )

    async def totals(self) -> RegistryTotals:
        """What the registry has in all: of what is listed, and of what happened."""
        listed = (PluginRow.state == "listed", PluginRow.latest.is_not(None))
        by_category = select(PluginRow.category, func.count(), total(PluginRow.downloads)).where(*listed)
        changes = select(FigureRow.name, total(FigureRow.count)).where(FigureRow.name.in_(("installs", "uninstalls")))
        async with self._db.reading() as session:
            rows = (await session.execute(by_category.group_by(PluginRow.category))).all()
            installs = await _by_name(session, changes.group_by(FigureRow.name))
        ranked = sorted(((int(number), category) for category, number, _ in rows), key=lambda one: (-one[0], one[1]))
        return RegistryTotals(
            plugins=sum(number for number, _ in ranked),
            active_installs=installs.get("installs", 0) - installs.get("uninstalls", 0),
            downloads=sum(int(downloads) for _, _, downloads in rows),
            categories=tuple(category for _, category in ranked),
        )

    async def purge(self) -> None:
        """Forget who fetched what, as far as that was known."""
        kept = timedelta(days=self._parameters.of(FETCHES))
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(delete(FetchRow).where(FetchRow.day < (now() - kept).date()))


async def count(uow: UnitOfWork, plugin: str, version: str, name: str, amount: int = 1) -> None:
    """Add to a figure of today."""
    writing = insert(FigureRow).values(plugin=plugin, version=version, day=now().date(), name=name, count=amount)
    keys = [FigureRow.plugin, FigureRow.version, FigureRow.day, FigureRow.name]
    added = {"count": FigureRow.count + writing.excluded.count}
    await uow.session.execute(writing.on_conflict_do_update(index_elements=keys, set_=added))


async def _by_name(session: AsyncSession, wanted: Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in await session.execute(wanted)}


def _day(day: date, version: str, figures: dict[str, int]) -> PluginDay:
    names: Sequence[str] = ("downloads", "installs", "uninstalls", "purchases", "refunds", "calls", "failures")
    return PluginDay(
        day=day.isoformat(),
        version=version,
        revenue=money.render(figures.get("revenue_units", 0)),
        **{name: figures.get(name, 0) for name in names},
    )
