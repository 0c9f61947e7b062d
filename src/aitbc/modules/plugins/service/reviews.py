"""Reviews: one of an account and a plugin, by those who had it."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Forbidden
from aitbc.modules.plugins.api import PluginNotFound
from aitbc.modules.plugins.models.tables import PluginRow, ReviewRow, UserRow


class PluginNotUsed(Forbidden):
    """Only an account that fetched, bought or installed this plugin may review it, and its publisher never."""

    code = "plugin_not_used"


class PluginReview(Struct, frozen=True, kw_only=True):
    """What an account thinks of a plugin."""

    plugin: str
    """The plugin. For example `acme.night-price`."""
    account: str
    """Who reviewed it. For example `acct_01k0000000000000000000000b`."""
    rating: int
    """From 1 to 5. For example `5`."""
    text: str
    """In words; may be empty. For example `Does what it says.`."""
    changed_at: datetime
    """When it was written or changed last."""


class Reviews:
    """Keeps reviews."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @retrying
    async def write(self, who: Principal, plugin: str, rating: int, text: str) -> PluginReview:
        """Review a plugin, in place of an earlier review of the caller's. Raises `PluginNotFound`, `PluginNotUsed`."""
        async with self._db.unit_of_work() as uow:
            found = await uow.find(PluginRow, plugin, lock=True, missing=PluginNotFound)
            if found.account == who.account or await uow.session.get(UserRow, (plugin, who.account)) is None:
                raise PluginNotUsed
            row = await uow.session.get(ReviewRow, (plugin, who.account))
            if row is None:
                row = ReviewRow(plugin=plugin, account=who.account, rating=rating, text=text, changed_at=now())
                uow.add(row)
                found.ratings += 1
                found.rating_sum += rating
            else:
                found.rating_sum += rating - row.rating
                row.rating, row.text, row.changed_at = rating, text, now()
            return _view(row)

    async def page(self, plugin: str, after: str | None, limit: int) -> Sequence[PluginReview]:
        """The reviews of a plugin, by account. Raises `PluginNotFound`."""
        wanted = select(ReviewRow).where(ReviewRow.plugin == plugin).order_by(ReviewRow.account).limit(limit)
        if after is not None:
            assert ids.is_id("acct", after)
            wanted = wanted.where(ReviewRow.account > after)
        async with self._db.reading() as session:
            if await session.get(PluginRow, plugin) is None:
                raise PluginNotFound
            return [_view(row) for row in await session.scalars(wanted)]


def _view(row: ReviewRow) -> PluginReview:
    return PluginReview(
        plugin=row.plugin, account=row.account, rating=row.rating, text=row.text, changed_at=row.changed_at
    )
