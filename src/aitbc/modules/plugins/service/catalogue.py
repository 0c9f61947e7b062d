"""The catalogue: what is listed, how it is found, on which terms it is had, and fetched."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import PaymentRequired
from aitbc.modules.plugins.api import Plugin, PluginNotFound
from aitbc.modules.plugins.models.life import ENTITLED
from aitbc.modules.plugins.models.relevance import Relevance, relevance_of
from aitbc.modules.plugins.models.tables import LicenceRow, PluginRow, UserRow, VersionRow
from aitbc.modules.plugins.service.figures import Figures
from aitbc.modules.plugins.service.releases import PluginVersionNotFound

LOOKED_AT_MAX = 1_000
"""Plugins of a search that are ranked: the most fetched ones of those that fit."""
LISTED = (PluginRow.state == "listed", PluginRow.latest.is_not(None))


class PluginLicenceNeeded(PaymentRequired):
    """This plugin is sold: buy a licence of it, or begin a trial."""

    code = "plugin_licence_needed"


class PluginSearch(Struct, frozen=True, kw_only=True):
    """What is looked for."""

    query: str = ""
    category: str | None = None
    kind: str | None = None
    sort: str = "relevance"
    """`relevance`, `newest` or `name`."""


class SetTerms(Struct, frozen=True, kw_only=True):
    """On which terms a plugin is had from now on; licences that were bought stay as they are."""

    price_units: int
    trial_days: int
    deprecated: bool


class Catalogue:
    """Shows plugins."""

    def __init__(self, db: Database, figures: Figures) -> None:
        self._db = db
        self._figures = figures

    async def one(self, plugin: str) -> Plugin:
        """A plugin that is listed, or was revoked. Raises `PluginNotFound`."""
        async with self._db.reading() as session:
            row = await session.get(PluginRow, plugin)
            if row is None or (row.latest is None and row.state == "listed"):
                raise PluginNotFound
            return row.view()

    async def search(self, wanted: PluginSearch, after: str | None, limit: int) -> Sequence[Plugin]:
        """What is listed and fits, in the wanted order, behind the plugin `after`."""
        rows, most = await self._found(wanted)
        ordered = list(rows)
        if wanted.sort == "name":
            ordered.sort(key=lambda row: row.id)
        elif wanted.sort == "newest":
            ordered.sort(key=lambda row: (row.released_at or row.created_at, row.id), reverse=True)
        else:
            at = now()
            ranks = {row.id: relevance_of(row, wanted.query, most, at).relevance for row in rows}
            ordered.sort(key=lambda row: (-ranks[row.id], row.id))
        start = next((index + 1 for index, row in enumerate(ordered) if row.id == after), 0)
        return [row.view() for row in ordered[start : start + limit]]

    async def explain(self, plugin: str, query: str) -> Relevance:
        """Why a plugin stands where it does for a query. Raises `PluginNotFound`."""
        async with self._db.reading() as session:
            row = await session.get(PluginRow, plugin)
            most = await session.scalar(select(func.max(PluginRow.downloads)).where(*LISTED)) or 0
        if row is None or row.latest is None:
            raise PluginNotFound
        return relevance_of(row, query, most, now())

    async def _found(self, wanted: PluginSearch) -> tuple[Sequence[PluginRow], int]:
        fitting = select(PluginRow).where(*LISTED)
        if wanted.category is not None:
            fitting = fitting.where(PluginRow.category == wanted.category)
        if wanted.kind is not None:
            fitting = fitting.where(PluginRow.kind == wanted.kind)
        if query := wanted.query.strip().lower():
            tags = func.array_to_string(PluginRow.tags, " ")
            fitting = fitting.where(
                or_(*(func.strpos(func.lower(column), query) > 0 for column in (PluginRow.id, PluginRow.summary, tags)))
            )
        async with self._db.reading() as session:
            most = await session.scalar(select(func.max(PluginRow.downloads)).where(*LISTED)) or 0
            ranked = fitting.order_by(PluginRow.downloads.desc(), PluginRow.id).limit(LOOKED_AT_MAX)
            return (await session.scalars(ranked)).all(), most

    @retrying
    async def set_terms(self, who: Principal, plugin: str, terms: SetTerms) -> Plugin:
        """Say what a licence of a plugin of the caller's costs from now on. Raises `PluginNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(PluginRow, plugin, lock=True, missing=PluginNotFound)
            if row.account != who.account:
                raise PluginNotFound
            row.price_units, row.trial_days, row.deprecated = terms.price_units, terms.trial_days, terms.deprecated
            await uow.audit(who.account, who.key, "plugins.set_terms", plugin)
            return row.view()

    @retrying
    async def fetch(self, who: Principal, version: str) -> bytes:
        """The module of a version that passed. Raises `PluginVersionNotFound`, `PluginLicenceNeeded`."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(VersionRow, version, missing=PluginVersionNotFound)
            if row.state != "passed" and row.account != who.account:
                raise PluginVersionNotFound
            plugin = await uow.session.get_one(PluginRow, row.plugin)
            await require_licence(uow, plugin, who.account)
            artifact = await uow.session.scalar(select(VersionRow.artifact).where(VersionRow.id == version)) or b""
            if row.account != who.account:
                await self._figures.fetched(uow, who.account, row.plugin, row.version)
                await note_user(uow, row.plugin, who.account)
            return artifact


async def require_licence(uow: UnitOfWork, plugin: PluginRow, account: str) -> None:
    """Raises `PluginLicenceNeeded` unless the plugin is free, the account's own, bought or on trial."""
    if plugin.price_units == 0 or plugin.account == account:
        return
    theirs = select(LicenceRow.id).where(LicenceRow.plugin == plugin.id, LicenceRow.account == account)
    valid = or_(LicenceRow.state.in_(ENTITLED), LicenceRow.until > now())
    if await uow.session.scalar(theirs.where(valid).limit(1)) is None:
        raise PluginLicenceNeeded


async def note_user(uow: UnitOfWork, plugin: str, account: str) -> None:
    """Remember that an account has used a plugin, and so may review it."""
    await uow.session.execute(insert(UserRow).values(plugin=plugin, account=account).on_conflict_do_nothing())
